/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox run: options, Spec, box.
 *
 * Role: launcher. Privileges: the caller's. Threads: one.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "cmd-verbs.h"
#include "detach.h"
#include "jsontext.h"
#include "mountinfo.h"
#include "root.h"
#include "sandbox.h"
#include "scope-helper.h"
#include "spec.h"
#include "status.h"

/* --die-with-parent: the box goes with us, and we go with whoever started us. */
static bool die_with(pid_t parent, GError **error) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
                return err_set(error, errno, "--die-with-parent");
        if (getppid() != parent)
                return err_set(error, ESRCH, "--die-with-parent: the parent");
        return true;
}

static int compare_fds(gconstpointer a, gconstpointer b) {
        return *(const int *) a - *(const int *) b;
}

/* Whoever waits for the end of a pipe, or for a lock, that the caller has open beside its stdio does not wait for the box. What options name stays. */
static bool let_go(const Spec *spec, int wire, GError **error) {
        g_autoptr(GArray) keep = g_array_new(FALSE, FALSE, sizeof(int));
        int from = STDERR_FILENO + 1;

        g_array_append_val(keep, wire);
        g_array_append_val(keep, spec->box.status_fd);
        for (guint i = 0; i < spec->mount.ops->len; i++)
                g_array_append_val(keep, ((MountOp *) g_ptr_array_index(spec->mount.ops, i))->fd);
        g_array_sort(keep, compare_fds);
        for (guint i = 0; i < keep->len; i++) {
                int fd = g_array_index(keep, int, i);
                if (fd > from && close_range((unsigned) from, (unsigned) fd - 1, 0) < 0)
                        return err_set(error, errno, "--detach: close descriptors");
                from = MAX(from, fd + 1);
        }
        return close_range((unsigned) from, ~0U, 0) == 0 || err_set(error, errno, "--detach: close descriptors");
}

/* In the caller: that the command runs, or why not. In the supervisor: its end, which is told to nobody but state.json. */
int cmd_run_detached(const Spec *spec, GError **error) {
        int wire = -1;

        int r = detach_fork(&wire, error);
        if (r <= 0)
                return r;
        r = let_go(spec, wire, error) ? sandbox_run(spec, &wire, error) : -1;
        if (r < 0 && wire >= 0)
                detach_fail(wire, *error);
        return r;
}

static char **strv_of(char **argv, int n) {
        g_autoptr(GStrvBuilder) words = g_strv_builder_new();

        for (int i = 0; i < n; i++)
                g_strv_builder_add(words, argv[i]);
        return g_strv_builder_end(words);
}

/* Whoever stands in his home and looks around sees next to nothing of it. */
static void tell_of_home(const Spec *spec) {
        const RootSpec *root = &spec->root;
        bool in_home = !root->workdir_given && path_is_at_or_below(spec->caller.home, spec->caller.cwd);

        if (in_home && !root->rootfs && root->home == HOME_TOOLS && isatty(STDERR_FILENO))
                log_note("of your home directory the box has toolchains alone; to work on files of yours start it in their directory, or with --home=all");
}

/* --status-fd says also why there is no box at all, where the command line was read as far as that option. */
static int not_begun(const Spec *draft, const GError *failure) {
        g_autoptr(Status) status = NULL;

        (void) signal(SIGPIPE, SIG_IGN);
        if (status_open(draft->box.status_fd, NULL, &status, NULL))
                status_failed(status, failure);
        return -1;
}

int cmd_run(int argc, char **argv, GError **error) {
        pid_t parent = getppid();
        int rest;

        if (!fd_fill_standard(error))
                return -1;
        g_autoptr(Spec) draft = spec_new(error);
        if (!draft)
                return -1;
        if (!option_parse(draft, argc, argv, &rest, error))
                return not_begun(draft, *error);
        draft->box.typed = strv_of(argv, rest);
        if (draft->box.help)
                return cmd_help(1, (char *[]){ (char *) "run", NULL }, error);
        log_init("usbox", draft->box.verbose);

        const Spec *spec = spec_build(draft, argv + rest, error);
        if (!spec)
                return not_begun(draft, *error);
        if (spec->box.dry_run) {
                if (!root_plan_check_sources(spec, error)) {
                        err_step(error, "mount");
                        return -1;
                }
                if (!scope_helper_foresee(spec, error))
                        return -1;
                g_autofree char *text =
                        spec->box.dry_run_json ? jsontext_line(spec_to_json(spec)) : spec_describe(spec);
                return fd_write_all(STDOUT_FILENO, text, strlen(text)) ? 0 : (err_set(error, errno, "write"), -1);
        }
        if (spec->box.die_with_parent && !die_with(parent, error))
                return not_begun(spec, *error);
        tell_of_home(spec);
        return spec->box.detach ? cmd_run_detached(spec, error) : sandbox_run(spec, NULL, error);
}
