/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-fs.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 4, 6 and 11.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "fs-helper.h"
#include "scope/config.h"

/* Between the end of usbox-fs and what others see of it. */
#define REASON_MS 1000
/* From the end of a mount to that of the child that had it, on a busy machine. Lost where the mount was ended otherwise (fusectl). */
#define CHILD_END_MS 5000

static const HelperKind kind = { .program = "usbox-fs", .step = "file system", .lost = "root" };

bool fs_helper_start(const Spec *spec, int box_fd, FsHelper *ret, GError **error) {
        char *argv[8] = { (char *) "usbox-fs", (char *) "--wire", (char *) "3" };
        int n = 3, fds[2];
        size_t n_fds = 0;
        _cleanup_close_ int trace = -1;

        *ret = (FsHelper){ .helper = HELPER_NONE };
        if (spec->root.trace_file && (trace = fd_open_record("--trace-files", spec->root.trace_file, error)) < 0)
                return err_step(error, kind.step);
        if (box_fd >= 0) {
                argv[n++] = (char *) "--box";
                argv[n++] = (char *) "4";
                fds[n_fds++] = box_fd;
        }
        if (trace >= 0) {
                argv[n++] = (char *) "--trace";
                argv[n++] = (char *) (n_fds > 0 ? "5" : "4");
                fds[n_fds++] = trace;
        }
        if (spec->box.verbose)
                argv[n++] = (char *) "--verbose";
        return helper_start(&ret->helper, &kind, argv, fds, n_fds, error);
}

static void copy_map(const GArray *from, GArray *to) {
        for (guint i = 0; i < from->len; i++) {
                const IdRange *r = &g_array_index(from, IdRange, i);
                fs_config_add_range(to, r->box, r->host, r->count);
        }
}

bool fs_helper_configure(FsHelper *h, const Spec *spec, FsConfig *config, GError **error) {
        config->verbose = spec->box.verbose;
        config->best_effort_confine = spec->box.best_effort & BEST_EFFORT_CONFINE;
        /* What usbox-fs uses of a processor is the box's: where that is limited, it is for the command. */
        config->no_polling = scope_setting_get(spec->limits.settings, "cpu.max") != NULL;
        copy_map(spec->user.uidmap, config->uidmap);
        copy_map(spec->user.gidmap, config->gidmap);
        if (config->rules->len > FS_RULES_MAX) {
                err_set(error, E2BIG, "%u rules about names", config->rules->len);
                err_step(error, kind.step);
        } else if (helper_send(&h->helper, WIRE_FS_CONFIG, fs_config_pack(config), NULL, 0, error))
                return true;
        int errnum = error && *error ? err_get_errno(*error) : 0;
        guint hidden = spec->root.hide->len + spec->root.hide_globs->len;
        if ((errnum == E2BIG || errnum == EMSGSIZE) && hidden > 0)
                err_hint(error, "%u times --hide are too much: a directory above, or a pattern, stands for many names", hidden);
        return false;
}

bool fs_helper_mount(FsHelper *h, const WireMessage *fds, GError **error) {
        if (h->helper.pid == 0 || h->mounted) {
                err_set(error, EPROTO, "init said %s", wire_type_name(fds->type));
                return err_step(error, kind.step);
        }
        h->mounted = true;
        return helper_send(&h->helper, WIRE_FS_MOUNT, NULL, fds->fds, fds->n_fds, error);
}

bool fs_helper_dispatch(FsHelper *h, GError **error) {
        g_auto(WireMessage) m = { 0 };

        if (!helper_receive(&h->helper, WIRE_FS_READY, &m, error))
                return false;
        if (!h->mounted || h->ready) {
                err_set(error, EPROTO, "usbox-fs said %s out of turn", wire_type_name(m.type));
                return err_step(error, kind.step);
        }
        h->ready = true;
        return true;
}

/* It has nothing more to say, and ended as it does when its mount does: with the child, which so is not the one that it took along. */
static bool ended_with_its_mount(const Helper *h) {
        char byte;
        siginfo_t info = { 0 };

        return recv(h->wire, &byte, 1, MSG_PEEK) == 0 && TEMP_FAILURE_RETRY(waitid(P_PIDFD, (id_t) h->pidfd, &info, WEXITED | WNOWAIT)) == 0 &&
               info.si_code == CLD_EXITED && info.si_status == 0;
}

bool fs_helper_ended_with(const FsHelper *h, int child_pidfd) {
        return h->helper.pid > 0 && ended_with_its_mount(&h->helper) && fd_await(child_pidfd, CHILD_END_MS) > 0;
}

bool fs_helper_is_the_reason(FsHelper *h, int errnum, GError **error) {
        /* What a FUSE mount says whose server is gone (fs/fuse/dev.c). */
        bool gone = errnum == ENOTCONN || errnum == ECONNABORTED;
        struct pollfd fd = { .fd = h->helper.wire, .events = POLLIN };

        while (h->helper.pid > 0 && poll(&fd, 1, gone ? REASON_MS : 0) > 0 && (gone || !ended_with_its_mount(&h->helper)))
                if (!fs_helper_dispatch(h, error))
                        return true;
        return false;
}

bool fs_helper_finish(FsHelper *h, GError **error) {
        Helper *helper = &h->helper;
        int status;

        if (helper->pid == 0)
                return true;
        if (fd_await(helper->pidfd, FS_HELPER_FLUSH_MS) <= 0) {
                err_set(error, ETIMEDOUT, "wait for usbox-fs to write what is left");
                err_hint(error, "what the box wrote last may be missing in its directory");
                return err_step(error, kind.step);
        }
        if (!proc_wait(helper->pid, &status))
                return err_set(error, errno, "wait for usbox-fs");
        helper->pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return true;
        g_autofree char *how = helper_end_text(status);
        err_set(error, 0, "the helper usbox-fs ended: %s", how);
        err_hint(error, "what the box wrote last may be missing in its directory");
        return err_step(error, kind.step);
}
