/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox explore: a shell in a box that has ended, on all that it changed.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: as usbox run, which this is, with the options of the box's first run.
 *
 * What a run tells others (names of descriptors and files, ports, an end) belonged to that run and not to its view of the host, and is left out.
 */
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "cmd-verbs.h"
#include "review.h"
#include "sandbox.h"

static const VerbOption no_options[] = { { 0 } };

static void only_the_view(Spec *draft, const Review *review) {
        g_clear_pointer(&draft->box.name, g_free);
        g_clear_pointer(&draft->box.pidfile, g_free);
        g_clear_pointer(&draft->net.pcap_file, g_free); /* a capture begins with an empty file */
        g_clear_pointer(&draft->net.log_file, g_free);
        g_clear_pointer(&draft->root.trace_file, g_free);
        draft->box.detach = draft->box.rm = draft->box.dry_run = draft->box.die_with_parent = false;
        draft->box.status_fd = -1;
        draft->box.timeout_ns = 0;
        g_ptr_array_set_size(draft->net.publish, 0);
        /* Who looks around changes nothing by it: with the shell's history the box had a change of a name that is hidden from it, by which each commit of
         * all of the box was a conflict. What -e says of them comes later. */
        g_ptr_array_insert(draft->process.env_ops, 0, g_strdup("HISTFILE="));
        g_ptr_array_insert(draft->process.env_ops, 0, g_strdup("fish_history="));
        draft->box.explored = g_strdup(review->id);
}

/* A draft as the box's run had it. NULL with error. */
static Spec *draft_of(const Review *review, GError **error) {
        char **options = review->seen->options;
        int n = (int) g_strv_length(options), rest;

        if (chdir(review->seen->cwd) < 0) {
                g_autofree char *quoted = err_quote(review->seen->cwd);
                err_set(error, errno, "the box's working directory %s", quoted);
                err_hint(error, "put it back where it was; usbox diff %s and usbox commit %s do without", review->name, review->name);
                return NULL;
        }
        g_autoptr(Spec) draft = spec_new(error);
        if (draft && !g_str_equal(draft->caller.cwd, review->seen->cwd)) {
                g_autofree char *was = err_quote(review->seen->cwd), *now = err_quote(draft->caller.cwd);
                err_set(error, 0, "the box's working directory %s is %s now, by a symlink", was, now);
                err_hint(error, "a box may have made it, and what it leads to would be shown: put the directory back where it was. usbox diff %s does without",
                         review->name);
                return NULL;
        }
        if (!draft || !option_parse(draft, n, options, &rest, error)) {
                err_hint(error, "the box was run with this option; usbox diff %s and usbox commit %s do without", review->name, review->name);
                return NULL;
        }
        only_the_view(draft, review);
        return g_steal_pointer(&draft);
}

int cmd_explore(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "explore", no_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "explore", 1, 1, error) ||
            !fd_fill_standard(error))
                return -1;
        g_autoptr(Spec) caller = spec_new(error);
        g_autoptr(Review) review = caller ? review_open(&caller->caller, verb_args_word(&args, 0), error) : NULL;
        if (review && review->running) {
                err_set(error, 0, "box %s is running", review->name);
                err_hint(error, "usbox exec %s -- sh", review->name);
                err_step(error, "explore");
                return -1;
        }
        g_autoptr(Spec) draft = review ? draft_of(review, error) : NULL;
        const Spec *spec = draft ? spec_build(draft, (char *[]){ caller->caller.shell, NULL }, error) : NULL;
        if (!spec) {
                err_step(error, "explore");
                return -1;
        }
        log_init("usbox", spec->box.verbose);
        g_clear_pointer(&review, review_free); /* its descriptors */
        return sandbox_run(spec, NULL, error);
}
