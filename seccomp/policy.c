/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * JSON → Policy.
 *
 * Role: usbox-seccomp, at build time and for --seccomp FILE, where the file is hostile: every type and range is
 * checked, what is not known is an error and no looser filter. Privileges: none. Threads: one. Order: first.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/error.h"
#include "json.h"
#include "names.h"
#include "policy.h"

#define ERRNO_MAX 4095 /* the kernel makes anything more this (seccomp(2)) */

static const char *const policy_keys[] = {
        "comment",      "defaultAction",    "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags",
        "listenerPath", "listenerMetadata", "syscalls",        "order",        "numbers",       NULL
};
static const char *const arch_map_keys[] = { "architecture", "subArchitectures", NULL };
static const char *const rule_keys[] = { "comment", "name", "names",    "action",   "errnoRet",
                                         "errno",   "args", "includes", "excludes", NULL };
static const char *const arg_keys[] = { "comment", "index", "value", "valueTwo", "op", "bits", NULL };
static const char *const condition_keys[] = { "caps", "arches", "minKernel", "features", NULL };
static const char *const number_keys[] = { "name", "number", "arch", NULL };

static void rule_free(gpointer p) {
        PolicyRule *rule = p;
        g_ptr_array_unref(rule->names);
        g_array_unref(rule->args);
        g_free(rule->place);
        g_free(rule);
}

static void number_free(gpointer p) {
        PolicyNumber *number = p;
        g_free(number->name);
        g_free(number->arch);
        g_free(number);
}

void policy_free(Policy *policy) {
        g_ptr_array_unref(policy->rules);
        g_ptr_array_unref(policy->numbers);
        g_free(policy);
}

static bool unknown_word(const char *place, const char *what, const char *word, GError **error) {
        g_autofree char *quoted = err_quote(word);
        return err_set(error, 0, "%s: unknown %s \"%.64s\"", *place ? place : "top level", what, quoted);
}

/* KEY (a name such as "ENOSYS", as podman's profiles have beside the number) and KEYRet. Absent: EPERM. */
static bool parse_errno(json_t *object, const char *place, const char *key, const char *key_ret, uint32_t *ret,
                        bool *ret_given, GError **error) {
        uint64_t number = EPERM;
        const char *name = NULL;
        if (!json_get_u64(object, place, key_ret, ERRNO_MAX, &number, ret_given, error) ||
            !json_get_string(object, place, key, &name, error))
                return false;
        if (name && *name) {
                *ret_given = true;
                for (number = 1; number <= ERRNO_MAX; number++)
                        if (g_strcmp0(strerrorname_np((int) number), name) == 0)
                                break;
                if (number > ERRNO_MAX)
                        return unknown_word(place, "errno", name, error);
        }
        *ret = (uint32_t) number;
        return true;
}

static bool parse_action(json_t *object, const char *place, const char *key, const char *errno_key,
                         const char *errno_key_ret, uint32_t *ret, GError **error) {
        static const struct {
                const char *name;
                uint32_t action;
        } actions[] = {
                { "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW },
                { "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
                { "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD },
                { "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
                { "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS },
                { "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
                { "SCMP_ACT_LOG", SECCOMP_RET_LOG },
        };
        const char *name = NULL;
        uint32_t number = 0;
        bool given = false;

        if (!json_get_string(object, place, key, &name, error) ||
            !parse_errno(object, place, errno_key, errno_key_ret, &number, &given, error))
                return false;
        if (!name)
                return err_set(error, 0, "%s: no \"%s\"", *place ? place : "top level", key);
        if (g_str_equal(name, "SCMP_ACT_NOTIFY") || g_str_equal(name, "SCMP_ACT_TRACE"))
                return err_set(error, 0, "%s%s%s: %s is not supported: usbox has no process that would answer", place,
                               *place ? "." : "", key, name);

        for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
                if (!g_str_equal(actions[i].name, name))
                        continue;
                bool takes_errno = actions[i].action == SECCOMP_RET_ERRNO;
                if (given && !takes_errno && number != 0)
                        return err_set(error, 0, "%s: an errno with %s", *place ? place : "top level", name);
                *ret = actions[i].action | (takes_errno ? number : 0);
                return true;
        }
        return unknown_word(place, "action", name, error);
}

static bool kernel_at_least(const char *place, const char *wanted, bool *ret, GError **error) {
        unsigned want_major, want_minor, major, minor;
        struct utsname uts;
        char rest;
        if (sscanf(wanted, "%4u.%4u%c", &want_major, &want_minor, &rest) != 2)
                return unknown_word(place, "kernel version", wanted, error);
        if (uname(&uts) < 0 || sscanf(uts.release, "%u.%u", &major, &minor) != 2)
                return err_set(error, 0, "kernel version %s", uts.release);
        *ret = major > want_major || (major == want_major && minor >= want_minor);
        return true;
}

static bool contains(const GPtrArray *words, const char *word) {
        return g_ptr_array_find_with_equal_func((GPtrArray *) words, word, g_str_equal, NULL);
}

static bool features_known(const GPtrArray *features, const char *place, GError **error) {
        static const char *const known[] = { "nested", "rootpayload", "compat32", "coredumps", NULL };
        for (guint i = 0; i < features->len; i++)
                if (!g_strv_contains(known, features->pdata[i]))
                        return unknown_word(place, "feature", features->pdata[i], error);
        return true;
}

static void count_test(bool holds, bool *all, bool *any) {
        *all &= holds;
        *any |= holds;
}

/* One of "includes" and "excludes". Each key that is there is a test: *ret_all says whether all hold, *ret_any whether
 * one does. As the engines have it, a list of caps or features in "includes" means each, of arches means one of them. */
static bool parse_condition(json_t *rule, const char *rule_place, const char *key, const PolicyConditions *now,
                            bool *ret_all, bool *ret_any, GError **error) {
        g_autoptr(GPtrArray) caps = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) arches = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) features = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *place = g_strdup_printf("%s.%s", rule_place, key);
        const char *kernel = NULL;
        json_t *condition = json_object_get(rule, key);

        *ret_all = true;
        *ret_any = false;
        if (!condition || json_is_null(condition))
                return true;
        if (!json_expect_object(condition, place, condition_keys, error) ||
            !json_get_strings(condition, place, "caps", caps, error) ||
            !json_get_strings(condition, place, "arches", arches, error) ||
            !json_get_strings(condition, place, "features", features, error) ||
            !json_get_string(condition, place, "minKernel", &kernel, error) || !features_known(features, place, error))
                return false;

        for (guint i = 0; i < caps->len; i++)
                count_test(contains(now->caps, caps->pdata[i]), ret_all, ret_any);
        for (guint i = 0; i < features->len; i++)
                count_test(contains(now->features, features->pdata[i]), ret_all, ret_any);
        if (arches->len > 0)
                count_test(contains(arches, arch_native()->go), ret_all, ret_any);
        if (kernel && *kernel) {
                bool new_enough;
                if (now->strict)
                        return err_set(error, 0, "%s.minKernel: this is not the kernel that it will run on", place);
                if (!kernel_at_least(place, kernel, &new_enough, error))
                        return false;
                count_test(new_enough, ret_all, ret_any);
        }
        return true;
}

static bool parse_arg(json_t *object, const char *place, PolicyArg *ret, GError **error) {
        static const struct {
                const char *name;
                Compare op;
        } ops[] = {
                { "SCMP_CMP_NE", COMPARE_NE },        { "SCMP_CMP_LT", COMPARE_LT }, { "SCMP_CMP_LE", COMPARE_LE },
                { "SCMP_CMP_EQ", COMPARE_EQ },        { "SCMP_CMP_GE", COMPARE_GE }, { "SCMP_CMP_GT", COMPARE_GT },
                { "SCMP_CMP_MASKED_EQ", COMPARE_EQ },
        };
        uint64_t index = 0, value = 0, value_two = 0, bits = 64;
        bool index_given, value_given;
        const char *op = NULL;

        if (!json_expect_object(object, place, arg_keys, error) ||
            !json_get_u64(object, place, "index", 5, &index, &index_given, error) ||
            !json_get_u64(object, place, "bits", 64, &bits, NULL, error) ||
            !json_get_u64(object, place, "value", bits == 32 ? UINT32_MAX : UINT64_MAX, &value, &value_given, error) ||
            !json_get_u64(object, place, "valueTwo", bits == 32 ? UINT32_MAX : UINT64_MAX, &value_two, NULL, error) ||
            !json_get_string(object, place, "op", &op, error))
                return false;
        if (!index_given || !value_given || !op)
                return err_set(error, 0, "%s: index, value and op are needed", place);
        if (bits != 32 && bits != 64)
                return err_set(error, 0, "%s.bits: neither 32 nor 64", place);

        ret->index = (unsigned) index;
        ret->mask = bits == 32 ? UINT32_MAX : UINT64_MAX;
        ret->value = value;
        for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
                if (!g_str_equal(ops[i].name, op))
                        continue;
                ret->op = ops[i].op;
                if (g_str_equal(op, "SCMP_CMP_MASKED_EQ")) {
                        /* As runc reads it, where bits of the datum outside the mask are passed over. */
                        ret->mask = value;
                        ret->value = value_two & value;
                }
                return true;
        }
        return unknown_word(place, "comparison", op, error);
}

static PolicyRule *rule_new(GPtrArray *names, uint32_t action, const char *place) {
        PolicyRule *rule = g_new0(PolicyRule, 1);
        rule->names = g_ptr_array_ref(names);
        rule->action = action;
        rule->args = g_array_new(FALSE, FALSE, sizeof(PolicyArg));
        rule->place = g_strdup(place);
        return rule;
}

/* Adds one rule, or, where two conditions are about the same argument, one for each condition: libseccomp cannot AND
 * those, so runc and crun read them as OR, and profiles (personality) are written for that. */
static bool add_rules(Policy *policy, json_t *object, const char *place, GPtrArray *names, uint32_t action,
                      GError **error) {
        g_autoptr(GArray) args = g_array_new(FALSE, FALSE, sizeof(PolicyArg));
        json_t *list = NULL, *item;
        size_t i;
        unsigned seen = 0;
        bool twice = false;

        if (!json_get_list(object, place, "args", &list, error))
                return false;
        json_array_foreach(list, i, item) {
                g_autofree char *arg_place = g_strdup_printf("%s.args[%zu]", place, i);
                PolicyArg arg;
                if (!parse_arg(item, arg_place, &arg, error))
                        return false;
                twice |= (seen & 1u << arg.index) != 0;
                seen |= 1u << arg.index;
                g_array_append_val(args, arg);
        }

        if (!twice) {
                PolicyRule *rule = rule_new(names, action, place);
                g_array_append_vals(rule->args, args->data, args->len);
                g_ptr_array_add(policy->rules, rule);
                return true;
        }
        for (guint k = 0; k < args->len; k++) {
                PolicyRule *rule = rule_new(names, action, place);
                g_array_append_val(rule->args, g_array_index(args, PolicyArg, k));
                g_ptr_array_add(policy->rules, rule);
        }
        return true;
}

static bool parse_rule(Policy *policy, json_t *object, const char *place, const PolicyConditions *conditions,
                       GError **error) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        const char *single = NULL;
        uint32_t action;
        bool all, any, unused;

        if (!json_expect_object(object, place, rule_keys, error) ||
            !json_get_strings(object, place, "names", names, error) ||
            !json_get_string(object, place, "name", &single, error) ||
            !parse_action(object, place, "action", "errno", "errnoRet", &action, error))
                return false;
        if (single && *single)
                g_ptr_array_add(names, g_strdup(single));
        if (names->len == 0)
                return err_set(error, 0, "%s: no names", place);

        /* Read whole before the conditions decide, so that an error is found whoever runs it. */
        guint before = policy->rules->len;
        if (!add_rules(policy, object, place, names, action, error) ||
            !parse_condition(object, place, "includes", conditions, &all, &unused, error))
                return false;
        bool skip = !all;
        if (!parse_condition(object, place, "excludes", conditions, &all, &any, error))
                return false;
        if (skip || any)
                g_ptr_array_set_size(policy->rules, (int) before);
        return true;
}

static bool parse_numbers(Policy *policy, json_t *root, GError **error) {
        json_t *list = NULL, *item;
        size_t i;
        if (!json_get_list(root, "", "numbers", &list, error))
                return false;
        json_array_foreach(list, i, item) {
                g_autofree char *place = g_strdup_printf("numbers[%zu]", i);
                const char *name = NULL, *arch = NULL;
                uint64_t number = 0;
                bool given;
                if (!json_expect_object(item, place, number_keys, error) ||
                    !json_get_string(item, place, "name", &name, error) ||
                    !json_get_string(item, place, "arch", &arch, error) ||
                    !json_get_u64(item, place, "number", 1023, &number, &given, error))
                        return false;
                if (!name || !given)
                        return err_set(error, 0, "%s: name and number are needed", place);
                PolicyNumber *own = g_new(PolicyNumber, 1);
                *own = (PolicyNumber){ .name = g_strdup(name), .number = (int) number, .arch = g_strdup(arch) };
                g_ptr_array_add(policy->numbers, own);
        }
        return names_check(policy, error);
}

static void take_arch(Policy *policy, const char *oci, GPtrArray *notes) {
        if (g_str_equal(oci, arch_native()->oci))
                return;
        if (arch_compat() && g_str_equal(oci, arch_compat()->oci))
                policy->compat = true;
        else
                g_ptr_array_add(notes, g_strdup_printf("%s is refused on this machine", oci));
}

/* The native ABI is always filtered. Of the others only this machine's 32-bit one can be opened; x32 stays closed. */
static bool parse_archs(Policy *policy, json_t *root, GPtrArray *notes, GError **error) {
        g_autoptr(GPtrArray) archs = g_ptr_array_new_with_free_func(g_free);
        json_t *map = NULL, *item;
        size_t i;

        if (!json_get_strings(root, "", "architectures", archs, error) ||
            !json_get_list(root, "", "archMap", &map, error))
                return false;
        json_array_foreach(map, i, item) {
                g_autofree char *place = g_strdup_printf("archMap[%zu]", i);
                g_autoptr(GPtrArray) subs = g_ptr_array_new_with_free_func(g_free);
                const char *arch = NULL;
                if (!json_expect_object(item, place, arch_map_keys, error) ||
                    !json_get_string(item, place, "architecture", &arch, error) ||
                    !json_get_strings(item, place, "subArchitectures", subs, error))
                        return false;
                if (!arch)
                        return err_set(error, 0, "%s: no \"architecture\"", place);
                if (!arch_oci_known(arch))
                        return unknown_word(place, "architecture", arch, error);
                if (g_str_equal(arch, arch_native()->oci))
                        g_ptr_array_extend_and_steal(archs, g_steal_pointer(&subs));
        }
        for (guint k = 0; k < archs->len; k++) {
                if (!arch_oci_known(archs->pdata[k]))
                        return unknown_word("", "architecture", archs->pdata[k], error);
                take_arch(policy, archs->pdata[k], notes);
        }
        return true;
}

static bool parse_top(Policy *policy, json_t *root, const PolicyConditions *conditions, GPtrArray *notes,
                      GError **error) {
        const char *order = NULL;

        if (!json_expect_object(root, "", policy_keys, error) ||
            !parse_action(root, "", "defaultAction", "defaultErrno", "defaultErrnoRet", &policy->default_action,
                          error) ||
            !parse_numbers(policy, root, error) || !parse_archs(policy, root, notes, error) ||
            !json_get_string(root, "", "order", &order, error))
                return false;

        policy->compat |= contains(conditions->features, "compat32") && arch_compat();
        if (order && !g_str_equal(order, "first-match"))
                return unknown_word("", "order", order, error);
        policy->first_match = order != NULL;

        if (json_object_get(root, "flags") || json_object_get(root, "listenerPath") ||
            json_object_get(root, "listenerMetadata"))
                g_ptr_array_add(notes, g_strdup("flags and listener keys are not used"));
        return true;
}

Policy *policy_parse(json_t *root, const PolicyConditions *conditions, GPtrArray *notes, GError **error) {
        g_autoptr(Policy) policy = g_new0(Policy, 1);
        policy->rules = g_ptr_array_new_with_free_func(rule_free);
        policy->numbers = g_ptr_array_new_with_free_func(number_free);

        json_t *list = NULL, *item;
        size_t i;
        if (!parse_top(policy, root, conditions, notes, error) || !json_get_list(root, "", "syscalls", &list, error))
                return NULL;
        json_array_foreach(list, i, item) {
                g_autofree char *place = g_strdup_printf("syscalls[%zu]", i);
                if (!parse_rule(policy, item, place, conditions, error))
                        return NULL;
        }
        return g_steal_pointer(&policy);
}
