/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-seccomp: seccomp policy (JSON) → filter (BPF).
 *
 * Role: a program of its own, so that no process of a box parses a user's file or has libseccomp in it. The build runs
 * it to make the built-in filters as C arrays; the launcher runs it for --seccomp FILE, with the file as stdin and
 * memory files as stdout and stderr. Privileges: none; gives up the right to gain any. Threads: one. Order: policy.c,
 * codegen.c, then one write.
 *
 *      usbox-seccomp [--feature F]... [--cap CAP_X]... [--name FILE] [--c-array NAME] [--verbose] < POLICY > FILTER
 *
 * Exit 0 with the filter on stdout (and with --verbose a line for each remark on stderr), else 1, nothing on stdout and
 * one line on stderr.
 */
#include <errno.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "codegen.h"
#include "policy.h"

/* The engines' own profiles have 15 to 25 KiB. */
#define POLICY_MAX (256 * 1024)
#define NOTES_MAX 100

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW
#endif
#endif

typedef struct {
        PolicyConditions conditions;
        const char *name;    /* of the file, for messages */
        const char *c_array; /* NULL: raw output */
        bool verbose;
} Arguments;

static bool parse_arguments(int argc, char **argv, Arguments *ret, GError **error) {
        for (int i = 1; i < argc; i++) {
                const char *value = i + 1 < argc ? argv[i + 1] : NULL;
                if (g_str_equal(argv[i], "--verbose")) {
                        ret->verbose = true;
                        continue;
                }
                if (g_str_equal(argv[i], "--feature") && value)
                        g_ptr_array_add(ret->conditions.features, (gpointer) value);
                else if (g_str_equal(argv[i], "--cap") && value)
                        g_ptr_array_add(ret->conditions.caps, (gpointer) value);
                else if (g_str_equal(argv[i], "--name") && value)
                        ret->name = value;
                else if (g_str_equal(argv[i], "--c-array") && value)
                        ret->c_array = value;
                else
                        return err_usage(
                                error,
                                "usage: usbox-seccomp [--feature nested|rootpayload|compat32|coredumps]... [--cap CAP_X]... "
                                "[--name FILE] [--c-array NAME] [--verbose] < POLICY > FILTER");
                i++;
        }
        /* What becomes a part of usbox is ours: nothing in it is passed over. */
        ret->conditions.strict = ret->c_array != NULL;
        return true;
}

/* Whatever the file makes the parser do, it ends, and takes little with it. */
static bool limit_self(GError **error) {
        static const struct {
                __rlimit_resource_t resource;
                rlim_t limit;
        } limits[] = {
                { RLIMIT_CPU, 10 }, /* seconds */
                { RLIMIT_CORE, 0 },
                { RLIMIT_FSIZE, 1024 * 1024 },
#ifndef HAS_SHADOW /* of a sanitizer: terabytes of address space */
                { RLIMIT_AS, 512 * 1024 * 1024 },
#endif
        };
        for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
                struct rlimit now;
                if (getrlimit(limits[i].resource, &now) < 0)
                        return err_set(error, errno, "getrlimit");
                now.rlim_max = MIN(now.rlim_max, limits[i].limit);
                now.rlim_cur = MIN(now.rlim_cur, now.rlim_max);
                if (setrlimit(limits[i].resource, &now) < 0)
                        return err_set(error, errno, "setrlimit");
        }
        return confine_self(error);
}

static json_t *read_json(const char *name, GError **error) {
        g_autofree char *text = NULL;
        size_t length;
        json_error_t place;

        if (!fd_read_all(STDIN_FILENO, POLICY_MAX, &text, &length)) {
                if (errno == EFBIG)
                        err_set(error, 0, "%s: larger than %d KiB", name, POLICY_MAX / 1024);
                else
                        err_set(error, errno, "read %s", name);
                return NULL;
        }
        json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &place);
        if (!root) {
                g_autofree char *quoted = err_quote(place.text); /* has words of the file in it */
                err_set(error, 0, "%s: line %d column %d: %s", name, place.line, place.column, quoted);
        }
        return root;
}

static GString *as_c_array(const GArray *filter, const char *array) {
        GString *out = g_string_new("/* Made by usbox-seccomp from a policy: change that. */\n");
        g_string_append_printf(out, "static const struct sock_filter %s[] = {\n", array);
        for (guint i = 0; i < filter->len; i++) {
                const struct sock_filter *insn = &g_array_index(filter, struct sock_filter, i);
                g_string_append_printf(out, "        { 0x%02x, %u, %u, 0x%08x },\n", insn->code, insn->jt, insn->jf,
                                       insn->k);
        }
        g_string_append(out, "};\n");
        return out;
}

static bool write_filter(const GArray *filter, const Arguments *arguments, GError **error) {
        g_autoptr(GString) text = arguments->c_array ? as_c_array(filter, arguments->c_array) : NULL;
        bool ok = text ? fd_write_all(STDOUT_FILENO, text->str, text->len)
                       : fd_write_all(STDOUT_FILENO, filter->data, filter->len * sizeof(struct sock_filter));
        return ok || err_set(error, errno, "write the filter");
}

static bool run(const Arguments *arguments, GPtrArray *notes, GError **error) {
        g_autofree char *name = err_quote(arguments->name);

        if (!limit_self(error))
                return false;
        json_t *root = read_json(name, error);
        if (!root)
                return false;
        g_autoptr(Policy) policy = policy_parse(root, &arguments->conditions, notes, error);
        json_decref(root);
        if (!policy) {
                g_prefix_error(error, "%s: ", name);
                return false;
        }
        g_autoptr(GArray) filter = codegen(policy, arguments->conditions.strict, notes, error);
        if (!filter) {
                g_prefix_error(error, "%s: ", name);
                return false;
        }
        g_ptr_array_add(notes, g_strdup_printf("%u instructions", filter->len));
        return write_filter(filter, arguments, error);
}

int main(int argc, char **argv) {
        g_autoptr(GPtrArray) features = g_ptr_array_new(), caps = g_ptr_array_new();
        g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GError) error = NULL;
        Arguments arguments = { .conditions = { .features = features, .caps = caps }, .name = "standard input" };

        /* Stopped, and the launcher killed, it would stay. */
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (!parse_arguments(argc, argv, &arguments, &error) || !run(&arguments, notes, &error)) {
                fprintf(stderr, "usbox-seccomp: %s\n", error->message);
                return EXIT_FAILURE;
        }
        for (guint i = 0; arguments.verbose && i < MIN(notes->len, NOTES_MAX); i++)
                fprintf(stderr, "usbox-seccomp: %s\n", (char *) notes->pdata[i]);
        if (arguments.verbose && notes->len > NOTES_MAX)
                fprintf(stderr, "usbox-seccomp: and %u remarks more\n", notes->len - NOTES_MAX);
        return EXIT_SUCCESS;
}
