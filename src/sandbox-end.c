/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of a box: its processes, its cgroup, what it made on the host, its directory.
 *
 * Role: launcher. Privileges: the caller's, in the host's namespaces. Threads: one. Order: step 11 of sandbox_run(), which calls
 * these one after the other.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "commit-journal.h"
#include "pod-kill.h"
#include "presence.h"
#include "registry.h"
#include "root-hooks.h"
#include "sandbox-end.h"

/*
 * Let go of the box's mounts, or of its TAP, without waiting for it. Taking an overlay down has the kernel wait for all its
 * processors (synchronize_rcu_expedited() in kern_unmount_array(), fs/namespace.c), once for each; a TAP likewise, for
 * much longer. Whoever drops the last reference waits, be it by exiting: so none of the processes that had one is left then.
 */
void sandbox_release_kernel_object(int *fd) {
        FdLater later = { .n = 0 };

        fd_later_take(&later, fd);
        fd_later_release(&later);
}

/* go: a pipe's end, which ends when nobody else has the mount namespace any more. */
static _Noreturn void unmounter_main(int go, int mount_ns) {
        int keep[] = { go, mount_ns };
        char byte;

        (void) prctl(PR_SET_NAME, "usbox-unmount", 0, 0, 0);
        if (confine_wake_without_parent(NULL) && fd_keep_only(keep, G_N_ELEMENTS(keep)))
                while (read(keep[0], &byte, 1) < 0 && errno == EINTR)
                        ;
        close(keep[1]); /* not by exiting */
        _exit(0);
}

/*
 * Let go of the mounts of a box whose usbox-fs is to be waited for: it ends with them. The kernel's own worker would come to them two ticks of its clock
 * later, on a busy machine after 50 ms; so does it where the last who has them is exiting (mntput_no_expire(), fs/namespace.c). And whoever takes them down
 * may wait for an answer of usbox-fs where no signal reaches him: not the launcher, who has to end one that hangs. So it is a process of its own.
 */
static void take_down_mounts(Sandbox *s) {
        int go[2];

        if (s->mount_ns < 0 || pipe2(go, O_CLOEXEC) < 0)
                return;
        s->unmounter = fork();
        if (s->unmounter == 0) {
                close(go[1]);
                unmounter_main(go[0], s->mount_ns);
        }
        if (s->unmounter > 0)
                fd_closep(&s->mount_ns);
        close(go[0]);
        close(go[1]);
}

/* When usbox-fs has ended, for which alone it may have to wait. */
void sandbox_end_unmounter(Sandbox *s) {
        if (s->unmounter > 0) {
                (void) kill(s->unmounter, SIGKILL);
                (void) proc_wait(s->unmounter, NULL);
        }
        s->unmounter = 0;
}

/* A process of the box may wait for an answer of usbox-fs, where no signal reaches it: for one that hangs, the box is ended by its end. */
static void await_child(Sandbox *s) {
        struct pollfd fd = { .fd = s->child_pidfd, .events = POLLIN };

        bool late = s->control ? !control_await(s->control, s->child_pidfd, FS_HELPER_FLUSH_MS)
                               : s->fs.helper.pid > 0 && fd_await(s->child_pidfd, FS_HELPER_FLUSH_MS) == 0;
        if (late)
                helper_kill(&s->fs.helper);
        /* A pod's init ends when all in its pid namespace are reaped, and one whose launcher was killed is that of who has adopted it: some
         * never look after whom they adopt. */
        if (late && s->spec->pod.share_pid) {
                log_note("the pod's init (%d) waits for a process that its parent does not reap", (int) s->child);
                s->child = 0;
                return;
        }
        (void) TEMP_FAILURE_RETRY(poll(&fd, 1, -1));
        if (!s->pod.share_pid) /* then the pod's init reaps it */
                (void) wait4(s->child, NULL, 0, &s->usage);
        s->child = 0;
}

/* "Until the next run ends": this is it. A run whose command never began is none. */
static void forget_earlier(const Sandbox *s, bool ran) {
        if (!ran || presence_is_held(s->spec))
                return;
        if (s->dir)
                box_dir_forget(s->dir, s->spec);
        else
                box_dir_forget_without(s->spec);
}

/* Kill what is left, wait until the kernel has taken it all down. Where nothing of the box is kept, usbox-fs has nothing to write. */
void sandbox_end_processes(Sandbox *s, bool ran, bool keep) {
        net_helper_stop(&s->net);
        helper_adopt(&s->fs.helper); /* it ends with the box's mounts, which we still hold */
        (void) map_helpers_finish(&s->maps, NULL);
        if (!keep)
                helper_clear(&s->fs.helper);
        /* Whose processes are the pod's, too: what kills them takes init along. */
        if (s->pod.userns >= 0 && !pod_kill_box(s->pod.userns, s->pod.namespaces[POD_PID], s->child_pidfd, FS_HELPER_FLUSH_MS)) {
                helper_kill(&s->fs.helper);
                (void) pod_kill_box(s->pod.userns, s->pod.namespaces[POD_PID], s->child_pidfd, FS_HELPER_FLUSH_MS);
        }
        if (s->child > 0) {
                /* Without a pid namespace init itself has to kill the rest: it does so when the wire closes. */
                if (!s->spec->namespaces.pid_host)
                        (void) pidfd_send_signal(s->child_pidfd, SIGKILL, NULL, 0);
                fd_closep(&s->child_wire);
                /* The kernel takes its time for it: enough for what is no part of this box. */
                forget_earlier(s, ran);
                await_child(s);
        }
        if (s->spec->namespaces.pid_host)
                proc_kill_children((pid_t[]){ s->janitor.pid, s->fs.helper.pid }, 2);
        if (s->fs.helper.pid > 0)
                take_down_mounts(s);
        sandbox_release_kernel_object(&s->mount_ns);
}

/* What the box has used, now that all of it has ended, and which limit it met; then its cgroup goes. */
void sandbox_end_scope(Sandbox *s) {
        if (s->scope.cgroup) {
                cgroup_read(s->scope.cgroup, &s->numbers);
                s->counted = true;
                g_autoptr(GPtrArray) lines = cgroup_outcome(&s->numbers);
                for (guint i = 0; s->started && i < lines->len; i++)
                        log_note("%s", (const char *) lines->pdata[i]);
        }
        if (s->updater)
                (void) control_later_take(g_steal_pointer(&s->updater));
        scope_helper_finish(&s->scope);
        scope_helper_clear(&s->scope);
}

static char *size_text(guint64 bytes) {
        return g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
}

/* That hooks on the host are not what they were. */
static void tell_hooks(GPtrArray *(*that)(const RootPlan *), const RootPlan *plan, const char *before, const char *after) {
        g_autoptr(GPtrArray) paths = that(plan);

        for (guint i = 0; paths && i < paths->len; i++) {
                g_autofree char *shown = err_quote(g_ptr_array_index(paths, i));
                log_note("%s%s%s: other programs may run what is in it, so look at it first", before, shown, after);
        }
}

/* Hooks that the box made in a tree that is written through, where none were: taken back, or at least told of. */
void sandbox_end_hooks(const Sandbox *s) {
        if (!s->plan)
                return;
        if (s->dir)
                root_hooks_take_back(s->plan, s->dir->fd, s->spec);
        tell_hooks(root_hooks_back, s->plan, "", " was replaced on the host while the box ran: its guard is back, but for a moment the box could write it");
        tell_hooks(root_hooks_replaced, s->plan, "", " was replaced on the host while the box ran, and from then on the box could write it");
        tell_hooks(root_hooks_appeared, s->plan, "the box made ", " on the host");
        if (s->started) /* otherwise nobody but the host has written there */
                hook_nested_tell(s->nested);
}

/* They would fill the disk until the next run ends, with nobody's having asked for them. */
static bool is_too_much(const Sandbox *s, const UpperCount *count) {
        guint64 max = s->spec->box.keep_max;
        return max > 0 && count->bytes > max && !presence_is_held(s->spec);
}

/* Of a box that is held everything stays, changed or not; but not what never started. */
static bool is_kept(const Sandbox *s, bool ran, const UpperCount *count) {
        if (presence_is_held(s->spec))
                return !s->spec->box.rm && (ran || s->continued);
        return count->changed + count->removed > 0 && !is_too_much(s, count);
}

/* Where the changes are, and what one does with them. */
static void tell_changes(const Sandbox *s, const UpperCount *count) {
        g_autofree char *size = size_text(count->bytes);
        bool held = faccessat(s->dir->fd, "held", F_OK, 0) == 0;
        g_autofree char *name = held ? state_box_name(s->dir->boxes_fd, s->dir->id) : NULL; /* of one that was explored, too */
        /* Another may have begun meanwhile, and be gone; or nothing can be written where that is noted, and "last" may be any other box. */
        bool last = !held && s->runtime && registry_set_last(s->runtime, s->id);
        const char *box = last ? "last" : name ? name : s->id;
        g_autofree char *until = held ? g_strdup_printf("usbox rm %s", box) : g_strdup("the next run ends");

        /* Of a box that goes on after a commit the layer has what was carried, too. */
        bool carried = faccessat(s->dir->fd, COMMIT_JOURNAL, F_OK, 0) == 0;
        g_autofree char *where = carried ? g_strdup_printf("since its first run; usbox diff %s shows what of it is not on the host", box) :
                                           g_strdup_printf("in the box; nothing of it is on the host. usbox diff %s shows it", box);

        log_note("changed %" G_GUINT64_FORMAT ", removed %" G_GUINT64_FORMAT " (%s) %s, usbox commit %s takes it, and it is kept until %s", count->changed,
                 count->removed, size, where, box, until);
}

/* The command has ended as it has: that no room is left to say so is told, and changes nothing of it. */
static void keep(Sandbox *s, bool held, const UpperCount *count) {
        g_autoptr(GError) failure = NULL;

        if (!box_dir_keep(s->dir, s->spec, held, &failure))
                log_note("what the box changed may be gone after the next run: copy it from %s/upper (%s)", s->dir->path, failure->message);
        else if (!presence_keep(s, count, &failure))
                log_note("usbox ps and inspect will not know how the box ended: %s", failure->message);
}

/* The upper layer after the run: nothing in it, or not wanted: removed; else kept and named. */
bool sandbox_end_box_dir(Sandbox *s, bool ran, GError **error) {
        bool held = presence_is_held(s->spec);
        UpperCount count = { 0 };

        if (!s->dir)
                return true;
        if (s->plan)
                root_plan_trim_dirs(s->plan, s->dir->fd, &s->dir->later);
        if (held || (ran && !s->spec->box.rm))
                box_dir_count(s->dir, s->spec, &count);
        if (is_too_much(s, &count)) {
                g_autofree char *size = size_text(count.bytes), *max = size_text(s->spec->box.keep_max);
                log_note("the box changed %s, which is more than --keep-max=%s: dropped, nothing of it is on the host", size, max);
        }
        if (!is_kept(s, ran, &count))
                return box_dir_remove(s->dir, s->spec, error) ? true : err_step(error, "state");
        keep(s, held, &count);
        if (count.changed + count.removed > 0)
                tell_changes(s, &count);
        return true;
}
