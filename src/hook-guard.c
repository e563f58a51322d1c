/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeping up the guards over project hooks while the host works in the same tree.
 *
 * Role: launcher (watch), and the mender, a short-lived fork of it that enters the box. Privileges: the caller's; the mender has all capabilities
 * of the outer user namespace, whose owner the caller is. Threads: one. Order: the watch begins before PLAN, menders come between ROOTED
 * and the end of the command.
 *
 * The tree is the box's to write. So whatever the mender looks up in it is beneath a descriptor of the mount that the child has made, without
 * symlinks and without opening it; and what the box can cause, it can cause MENDERS_MAX times, one after the other.
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "child.h"
#include "hook-guard.h"
#include "root-hooks.h"

/* The host replaces a handful in a day's work. A box can cause one for each name that it makes in the place of one that the host removed. */
#define MENDERS_MAX 1000
#define EVENTS_SIZE 16384

typedef struct {
        const char *path; /* on the host; the plan's */
        int host;         /* that directory */
        int box;          /* the same, by the box's mount of it; -1: not told yet */
        int watch;
        int git_watch; /* of .git in it; -1: none */
        bool has_git;  /* hooks in .git are guarded */
} Tree;

typedef struct {
        Hook *hook;
        guint tree;
} Guarded;

/* What the mender says of one of them, in memory that it shares with us. */
typedef struct {
        HookOutcome outcome;
        struct stat st; /* HOOK_PUT_BACK: of what it guards now */
} Report;

struct HookGuard {
        GArray *trees;   /* of Tree, by their number in the plan */
        GArray *guarded; /* of Guarded */
        Report *reports; /* of each of those */
        int inotify;
        bool nested;
        bool due; /* something has changed since the last mender was forked */
        unsigned menders;
        pid_t mender; /* 0: none is at work */
        int mender_pidfd;
};

static Tree *tree_of(const HookGuard *g, guint i) {
        return &g_array_index(g->trees, Tree, i);
}

/* The hooks that have a guard, and where they are. False: there are none. */
static bool collect(HookGuard *g, const RootPlan *plan) {
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                Tree tree = { .path = source->host.path, .host = -1, .box = -1, .watch = -1, .git_watch = -1 };
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        Hook *hook = g_ptr_array_index(source->hooks, j);
                        Guarded guarded = { .hook = hook, .tree = i };
                        if (!hook->host.path)
                                continue;
                        tree.has_git = tree.has_git || strchr(hook->name, '/');
                        g_array_append_val(g->guarded, guarded);
                }
                g_array_append_val(g->trees, tree);
        }
        return g->guarded->len > 0;
}

static bool watch(const HookGuard *g, int dir, int *ret_watch, GError **error) {
        char path[32];

        g_snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
        *ret_watch = inotify_add_watch(g->inotify, path, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
        if (*ret_watch >= 0)
                return true;
        err_set(error, errno, "inotify");
        return errno == ENOSPC ? err_hint(error, "sudo sysctl fs.inotify.max_user_watches=524288") : false;
}

/* .git, which the host may have replaced as a whole. It may also be gone. */
static bool watch_git(const HookGuard *g, Tree *tree, GError **error) {
        _cleanup_close_ int dir = root_open_beneath(tree->host, ".git", O_PATH | O_DIRECTORY);
        int before = tree->git_watch;

        tree->git_watch = -1;
        bool ok = dir < 0 || watch(g, dir, &tree->git_watch, error);
        if (before >= 0 && before != tree->git_watch)
                (void) inotify_rm_watch(g->inotify, before); /* it has gone by itself where the directory has */
        return ok;
}

static bool watch_all(HookGuard *g, GError **error) {
        g->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (g->inotify < 0) {
                err_set(error, errno, "inotify");
                return errno == EMFILE ? err_hint(error, "sudo sysctl fs.inotify.max_user_instances=1024") : false;
        }
        for (guint i = 0; i < g->guarded->len; i++) {
                Tree *tree = tree_of(g, g_array_index(g->guarded, Guarded, i).tree);
                if (tree->host >= 0)
                        continue;
                tree->host = open(tree->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (tree->host < 0)
                        return err_set(error, errno, "%s", tree->path);
                if (!watch(g, tree->host, &tree->watch, error) || (tree->has_git && !watch_git(g, tree, error)))
                        return false;
        }
        return true;
}

/* Without it the box is as safe as long as the host lets the hooks alone, and what it does not is told in the end. */
static void tell_unwatched(const GError *failure) {
        const char *hint = err_get_hint(failure);

        log_note("the guard over a project hook that the host replaces while the box runs will not be put back: %s%s%s%s", failure->message,
                 hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
}

HookGuard *hook_guard_new(RootPlan *plan, bool nested) {
        g_autoptr(GError) failure = NULL;
        HookGuard *g = g_new(HookGuard, 1);

        *g = (HookGuard){ .trees = g_array_new(FALSE, FALSE, sizeof(Tree)),
                          .guarded = g_array_new(FALSE, FALSE, sizeof(Guarded)),
                          .inotify = -1,
                          .nested = nested,
                          .mender_pidfd = -1 };
        if (collect(g, plan)) {
                g->reports = proc_share(g->guarded->len * sizeof(Report), &failure);
                if (g->reports && watch_all(g, &failure))
                        return g;
                tell_unwatched(failure);
        }
        hook_guard_free(g);
        return NULL;
}

bool hook_guard_take_tree(HookGuard *g, guint32 source, int fd_take) {
        if (!g || source >= g->trees->len) {
                close(fd_take);
                return !g;
        }
        fd_closep(&tree_of(g, source)->box);
        tree_of(g, source)->box = fd_take;
        return true;
}

int hook_guard_changes(const HookGuard *g) {
        return g ? g->inotify : -1;
}

int hook_guard_mender(const HookGuard *g) {
        return g ? g->mender_pidfd : -1;
}

/* Is it about a name that counts? Where some were lost, it is about all of them. */
static void on_event(HookGuard *g, const struct inotify_event *event) {
        const char *name = event->len > 0 ? event->name : "";
        bool all = event->mask & IN_Q_OVERFLOW;

        g->due = g->due || all;
        for (guint i = 0; i < g->trees->len; i++) {
                Tree *tree = tree_of(g, i);
                if (!tree->has_git || !(all || (event->wd == tree->watch && g_str_equal(name, ".git"))))
                        continue;
                g_autoptr(GError) failure = NULL;
                if (!watch_git(g, tree, &failure))
                        tell_unwatched(failure);
                g->due = true;
        }
        for (guint i = 0; i < g->guarded->len; i++) {
                const Guarded *guarded = &g_array_index(g->guarded, Guarded, i);
                const Tree *tree = tree_of(g, guarded->tree);
                const char *slash = strchr(guarded->hook->name, '/');
                if (event->wd == (slash ? tree->git_watch : tree->watch) && g_str_equal(name, slash ? slash + 1 : guarded->hook->name))
                        g->due = true;
        }
}

/* A part of what there is: whoever makes many events must not keep us from everything else. */
static void read_events(HookGuard *g) {
        char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
        ssize_t n = read(g->inotify, buffer, sizeof buffer);

        for (ssize_t at = 0; at < n;) {
                const struct inotify_event *event = (const struct inotify_event *) (buffer + at);
                on_event(g, event);
                at += (ssize_t) (sizeof *event + event->len);
        }
}

static bool enter_box(int mount_ns, pid_t launcher) {
        _cleanup_close_ int user = ioctl(mount_ns, NS_GET_USERNS);

        child_forget_argv("usbox-guard");
        /* Last of them what other ids take away. */
        return user >= 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && setns(user, CLONE_NEWUSER) == 0 && setns(mount_ns, CLONE_NEWNS) == 0 &&
               confine_die_with_parent(launcher, NULL);
}

static _Noreturn void mender_main(const HookGuard *g, int mount_ns, pid_t launcher) {
        bool in = enter_box(mount_ns, launcher);

        for (guint i = 0; i < g->guarded->len && in; i++) {
                const Guarded *guarded = &g_array_index(g->guarded, Guarded, i);
                int box = tree_of(g, guarded->tree)->box;
                if (box >= 0)
                        g->reports[i].outcome = root_hooks_put_back(box, guarded->hook, &g->reports[i].st);
        }
        _exit(0);
}

static void start_mender(HookGuard *g, int mount_ns) {
        struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uintptr_t) &g->mender_pidfd, .exit_signal = SIGCHLD };
        pid_t launcher = getpid();

        g->due = false;
        if (g->menders++ == MENDERS_MAX) {
                log_step("guards over project hooks: put back often enough");
                fd_closep(&g->inotify);
                for (guint i = 0; i < g->guarded->len; i++)
                        g_array_index(g->guarded, Guarded, i).hook->put_back = false;
                return;
        }
        for (guint i = 0; i < g->guarded->len; i++)
                g->reports[i].outcome = HOOK_UNKNOWN;
        g->mender = sys_clone3(&args);
        if (g->mender == 0)
                mender_main(g, mount_ns, launcher);
        if (g->mender < 0) {
                log_step("guards over project hooks: fork: %s", err_text(errno));
                g->mender = 0;
                g->mender_pidfd = -1;
        }
}

static void take_report(const HookGuard *g, Hook *hook, const Report *report) {
        static const char *const says[] = { [HOOK_PUT_BACK] = "put back", [HOOK_GONE] = "has nothing to guard", [HOOK_FAILED] = "cannot be put back" };

        if (report->outcome == HOOK_UNKNOWN || report->outcome == HOOK_GUARDED)
                return;
        log_step("guard over %s: %s", hook->name, says[report->outcome]);
        hook->replaced = true;
        hook->put_back = report->outcome == HOOK_PUT_BACK && !g->nested;
        if (report->outcome != HOOK_PUT_BACK)
                return;
        hook->host.dev = report->st.st_dev;
        hook->host.ino = report->st.st_ino;
}

static void finish_mender(HookGuard *g) {
        (void) proc_wait(g->mender, NULL);
        g->mender = 0;
        fd_closep(&g->mender_pidfd);
        for (guint i = 0; i < g->guarded->len; i++)
                take_report(g, g_array_index(g->guarded, Guarded, i).hook, &g->reports[i]);
}

void hook_guard_dispatch(HookGuard *g, int mount_ns) {
        struct pollfd ended = { .fd = g->mender_pidfd, .events = POLLIN };

        if (g->inotify >= 0)
                read_events(g);
        if (g->mender > 0 && poll(&ended, 1, 0) > 0)
                finish_mender(g);
        if (g->due && g->mender == 0)
                start_mender(g, mount_ns);
}

void hook_guard_free(HookGuard *g) {
        FdLater later = { .n = 0 };

        if (!g)
                return;
        if (g->mender > 0) {
                (void) kill(g->mender, SIGKILL);
                (void) proc_wait(g->mender, NULL);
        }
        fd_closep(&g->mender_pidfd);
        /* Who closes one with watches waits for the kernel's RCU: 20 ms (fsnotify_wait_marks_destroyed(), fs/notify/mark.c). */
        fd_later_take(&later, &g->inotify);
        fd_later_release(&later);
        for (guint i = 0; i < g->trees->len; i++) {
                fd_closep(&tree_of(g, i)->host);
                fd_closep(&tree_of(g, i)->box);
        }
        if (g->reports)
                (void) munmap(g->reports, g->guarded->len * sizeof(Report));
        g_array_unref(g->trees);
        g_array_unref(g->guarded);
        g_free(g);
}
