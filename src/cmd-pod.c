/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox pod: pods, from their creation to their end.
 *
 * Role: verb; for create the launcher. Privileges: the caller's. Threads: one. The options of create are run's, those that a pod can have.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/fd.h"
#include "cmd-verbs.h"
#include "jsontext.h"
#include "profile.h"
#include "scope-helper.h"

#define OF_CREATE "create: "

/* Those of create, all but the first two of which are run's, say so in their help; then those of the others. */
const VerbOption pod_verb_options[] = {
        { .name = "name", .arg = "POD", .help = "create: the pod's name, for the habit: POD says it as well" },
        { .name = "share", .arg = "pid", .choices = "pid", .help = "create: the boxes see each other's processes, too" },
        { .name = "rm", .help = "create: end the pod with its last box" },
        { .name = "profile", .arg = "NAME|FILE", .complete = COMPLETE_PROFILE, .help = "create: what a profile says of network and limits" },
        { .name = "hostname", .arg = "NAME", .help = "create: the boxes' host name (default: the pod's name)" },
        { .name = "sysctl", .arg = "KEY=VALUE", .help = "create: a setting of the pod's network or IPC" },
        { .name = "network", .arg = "user|none", .choices = "user|none", .help = "create: a network to the internet (default), or none but between the boxes" },
        { .name = "publish", .short_name = 'p', .arg = "[IP:]HOST:BOX[/udp]", .help = "create: the host's port HOST leads to the pod's port BOX" },
        { .name = "dns", .arg = "IP", .help = "create: what the boxes ask goes to this name server" },
        { .name = "add-host", .arg = "NAME:IP", .help = "create: NAME is IP in the boxes" },
        { .name = "mtu", .arg = "N", .help = "create: largest packet in bytes" },
        { .name = "no-ipv6", .help = "create: IPv4 alone" },
        { .name = "no-fast-path", .help = "create: TCP by frames, too" },
        { .name = "allow", .arg = "RULE", .help = "create: let the boxes talk to it; what no rule is of is then denied" },
        { .name = "deny", .arg = "RULE", .help = "create: do not let the boxes talk to it" },
        { .name = "expose-host", .arg = "PORT", .help = "create: that port of the host's loopback is there as host.usbox" },
        { .name = "tls-names", .help = "create: judge TLS by the name that it asks for" },
        { .name = "net-log", .arg = "FILE", .complete = COMPLETE_FILE, .help = "create: write each flow to FILE" },
        { .name = "net-rate", .arg = "RATE[/up|/down]", .help = "create: as slow as that" },
        { .name = "net-delay", .arg = "TIME[+-TIME]", .help = "create: packets come so much later" },
        { .name = "net-loss", .arg = "PERCENT", .help = "create: so many packets are lost" },
        { .name = "pcap", .arg = "FILE", .complete = COMPLETE_FILE, .help = "create: write all frames to FILE" },
        LIMIT_VERB_OPTIONS(OF_CREATE),
        { .name = "best-effort", .arg = "THING", .choices = BEST_EFFORT_CHOICES, .help = "create: go on without THING" },
        { .name = "verbose", .help = "create: print every step" },
        { .name = "dry-run", .help = "create: print what would be in force, and make nothing" },
        { .name = "json", .help = "ps: an array of objects, for programs" },
        { .name = "quiet", .short_name = 'q', .help = "ps: names alone, one a line" },
        { .name = "force", .short_name = 'f', .help = "rm: kill boxes that run" },
        { .name = "time", .short_name = 't', .arg = "SECONDS", .help = "stop: from the boxes' stop signals to KILL (default 10)" },
        { 0 },
};

static bool is_of_create(const char *name) {
        for (const VerbOption *o = pod_verb_options; o->name; o++)
                if (g_str_equal(o->name, name))
                        return g_str_has_prefix(o->help, OF_CREATE);
        return false;
}

/* Options count before profiles, wherever they stand. */
static bool take_profiles(const VerbArgs *args, Spec *draft, GError **error) {
        for (guint i = 0; i < args->names->len; i++)
                if (g_str_equal(args->names->pdata[i], "profile") && !profile_apply(draft, args->values->pdata[i], error))
                        return false;
        return true;
}

static bool take_options(const VerbArgs *args, Spec *draft, GError **error) {
        draft->pod.make = true;
        if (!take_profiles(args, draft, error))
                return false;
        for (guint i = 0; i < args->names->len; i++) {
                const char *name = args->names->pdata[i], *value = args->values->pdata[i];
                const Option *option = option_find(name);
                if (g_str_equal(name, "share") && !g_str_equal(value, "pid")) {
                        g_autofree char *quoted = err_quote(value);
                        err_usage(error, "pod create: --share '%s'", quoted);
                        return err_hint(error, "network, IPC and host name are shared in any case; --share pid shares processes, too");
                }
                if (g_str_equal(name, "profile") || g_str_equal(name, "name"))
                        continue;
                if (g_str_equal(name, "share"))
                        draft->pod.share_pid = true;
                else if (g_str_equal(name, "rm"))
                        draft->pod.rm = true;
                else if (!option_apply(option, draft, (const char *const[]){ option->arg ? value : "true", NULL }, error))
                        return false;
        }
        if (draft->net.mode != NET_USER && draft->net.mode != NET_NONE) {
                err_usage(error, "pod create: --network=%s is not for a pod", net_mode_name(draft->net.mode));
                return err_hint(error, "boxes that have the host's network share it without a pod: usbox run --network host");
        }
        return true;
}

/* Names are for both: a box or a pod has it. Judged again, under a lock, when the pod's directory is made. */
static bool is_free(const Spec *spec, const char *name, GError **error) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(BoxInfo) found = registry_find_any(&spec->caller, name, &failure);

        if (!found || g_strcmp0(found->name, name) != 0)
                return true;
        bool pod = box_info_is_pod(found);
        err_set(error, EEXIST, "%s %s%s", pod ? "pod" : "box", name, pod && found->state == BOX_DEAD ? ", which is dead" : "");
        if (found->state == BOX_RUNNING)
                err_hint(error, "usbox%s rm -f %s ends it and forgets it; or take another name", pod ? " pod" : "", name);
        else
                err_hint(error, "usbox%s rm %s forgets it", pod ? " pod" : "", name);
        return err_step(error, "pod");
}

static bool name_ok(const char *name, GError **error) {
        if (registry_name_ok(name))
                return true;
        g_autofree char *quoted = err_quote(name);
        err_usage(error, "pod create: '%s' cannot be the name of a pod", quoted);
        err_hint(error, "letters, digits, '.', '_' and '-', at most %d; first a letter or digit; not twelve hexadecimal digits, not last", BOX_NAME_MAX);
        return err_step(error, "options");
}

static int create(const VerbArgs *args, GError **error) {
        const char *option = verb_args_get(args, "name"), *name = option ? option : verb_args_word(args, 1);
        guint words = option ? 1 : 2;

        if (!verb_args_count(args, "pod create", words, words, error) || !name_ok(name, error) || !fd_fill_standard(error))
                return -1;
        g_autoptr(Spec) draft = spec_new(error);
        if (!draft)
                return -1;
        if (!take_options(args, draft, error)) {
                err_step(error, "options");
                return -1;
        }
        const Spec *spec = !pod_fill(draft, name, error) ? NULL : spec_build(draft, (char *[]){ (char *) "(pod)", NULL }, error);
        if (!spec)
                return -1;
        if (spec->box.dry_run) {
                if (!scope_helper_foresee(spec, error))
                        return -1;
                g_autofree char *text = spec_describe(spec);
                fputs(text, stdout);
                return 0;
        }
        return is_free(spec, name, error) ? cmd_run_detached(spec, error) : -1;
}

static guint count_boxes(const GPtrArray *boxes, const BoxInfo *pod) {
        g_autoptr(GPtrArray) found = registry_boxes_of(boxes, pod);
        return found->len;
}

static int ps(const VerbArgs *args, const Spec *spec, GError **error) {
        g_autoptr(GPtrArray) pods = registry_list_pods(&spec->caller, error);
        g_autoptr(GPtrArray) boxes = pods ? registry_list(&spec->caller, error) : NULL;
        bool json = verb_args_has(args, "json"), quiet = verb_args_has(args, "quiet");

        if (!boxes || !verb_args_count(args, "pod ps", 1, 1, error))
                return -1;
        json_t *list = json_array();
        if (!json && !quiet)
                printf("%-12s  %-16s  %-7s  %5s  %s\n", "ID", "NAME", "STATE", "BOXES", "NETWORK");
        for (guint i = 0; i < pods->len; i++) {
                const BoxInfo *pod = g_ptr_array_index(pods, i);
                const char *network = json_string_value(json_object_get(pod->facts, "network"));
                guint n = count_boxes(boxes, pod);
                if (quiet)
                        puts(box_info_called(pod));
                else if (!json)
                        printf("%-12s  %-16s  %-7s  %5u  %s\n", pod->id, pod->name ? pod->name : "-", box_state_name(pod->state), n, network ? network : "?");
                json_t *object = box_info_to_json(pod);
                json_object_set_new(object, "boxes", json_integer(n));
                json_array_append_new(list, object);
        }
        g_autofree char *line = jsontext_line(list);
        if (json)
                fputs(line, stdout);
        return 0;
}

static int stop(const VerbArgs *args, const Spec *spec, GError **error) {
        return stop_all(&spec->caller, args, 1, registry_find_running_pod, error) ? 0 : -1;
}

typedef struct {
        const Spec *spec;
        bool force;
} Rm;

static bool rm_one(void *data, const char *name, GError **error) {
        const Rm *r = data;
        g_autoptr(BoxInfo) pod = registry_find_pod(&r->spec->caller, name, error);
        g_autoptr(GPtrArray) boxes = pod ? registry_list(&r->spec->caller, error) : NULL;

        if (!boxes)
                return false;
        guint n = r->force ? 0 : count_boxes(boxes, pod);
        if (n == 0)
                return box_forget_found(r->spec, pod, true, error);
        err_set(error, EBUSY, "pod %s has %u box%s that run%s", name, n, n > 1 ? "es" : "", n > 1 ? "" : "s");
        err_hint(error, "usbox pod stop %s, or usbox pod rm -f %s", name, name);
        return err_step(error, "pod");
}

static int rm(const VerbArgs *args, const Spec *spec, GError **error) {
        return verb_args_each(args, 1, rm_one, &(Rm){ spec, verb_args_has(args, "force") }, error) ? 0 : -1;
}

static int inspect(const VerbArgs *args, const Spec *spec, GError **error) {
        return inspect_print(&spec->caller, args, 1, registry_find_pod, error) ? 0 : -1;
}

/* Which options each takes, and what it does. */
static const struct {
        const char *name;
        const char *options[3];
        guint min; /* words, with its own */
        int (*run)(const VerbArgs *args, const Spec *spec, GError **error);
} subverbs[] = {
        { "ps", { "json", "quiet" }, 1, ps },
        { "stop", { "time" }, 2, stop },
        { "rm", { "force" }, 2, rm },
        { "inspect", { NULL }, 2, inspect },
};

static bool options_are_of(const VerbArgs *args, const char *word, const char *const *allowed, GError **error) {
        for (guint i = 0; i < args->names->len; i++) {
                const char *name = args->names->pdata[i];
                if (allowed ? g_strv_contains(allowed, name) : is_of_create(name))
                        continue;
                err_usage(error, "pod %s: --%s is not for it", word, name);
                err_hint(error, "usbox help pod");
                return err_step(error, "options");
        }
        return true;
}

int cmd_pod(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "pod", pod_verb_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "pod", 1, G_MAXUINT, error))
                return -1;
        const char *word = verb_args_word(&args, 0);
        if (g_str_equal(word, "create"))
                return options_are_of(&args, word, NULL, error) ? create(&args, error) : -1;
        for (size_t i = 0; i < G_N_ELEMENTS(subverbs); i++) {
                if (!g_str_equal(word, subverbs[i].name))
                        continue;
                if (!options_are_of(&args, word, subverbs[i].options, error) || !verb_args_count(&args, "pod", subverbs[i].min, G_MAXUINT, error))
                        return -1;
                g_autoptr(Spec) spec = spec_new_anywhere(error);
                return spec ? subverbs[i].run(&args, spec, error) : -1;
        }
        g_autofree char *quoted = err_quote(word);
        err_usage(error, "pod: '%s' is neither create, ps, stop, rm nor inspect", quoted);
        err_hint(error, "usbox help pod");
        err_step(error, "options");
        return -1;
}
