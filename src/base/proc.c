/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starting and awaiting programs; signals.
 *
 * Role: launcher and build tools. Privileges: none needed. Threads: proc_spawn() only while there is one.
 */
#include <signal.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"

#ifndef USBOX_LIBEXEC_FROM_BIN
#error "USBOX_LIBEXEC_FROM_BIN is the way from bindir to libexecdir/usbox; the build defines it"
#endif

/* signals: they end with 0. */
static sigset_t signal_set(const int *signals) {
        sigset_t set;

        sigemptyset(&set);
        for (; *signals; signals++)
                sigaddset(&set, *signals);
        return set;
}

bool proc_hint_full(GError **error) {
        if (error && *error && err_get_errno(*error) == EAGAIN)
                err_hint(error, "this user or session has as many processes as it may (ulimit -u, pids.max), and a box has about ten of its own");
        return false;
}

static pid_t spawn(const char *path, char *const argv[], char *const envp[], const ProcFd *map, size_t n_map, const int *blocked, int *ret_pidfd,
                   GError **error) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attr);

        /* Two steps, so that no fd is overwritten before it is copied: the copies stand above every number wanted. */
        int high = 3 + (int) n_map;
        for (size_t i = 0; i < n_map; i++)
                high = MAX(high, map[i].number + 1);
        g_autofree int *copies = g_new(int, n_map + 1);
        size_t n_copies = 0;
        bool ok = true;
        int last = 2;
        for (; n_copies < n_map; n_copies++) {
                copies[n_copies] = fcntl(map[n_copies].fd, F_DUPFD_CLOEXEC, high);
                if (copies[n_copies] < 0) {
                        ok = err_set(error, errno, "start %s: copy descriptor", path);
                        break;
                }
                posix_spawn_file_actions_adddup2(&actions, copies[n_copies], map[n_copies].number);
                last = MAX(last, map[n_copies].number);
        }
        posix_spawn_file_actions_addclosefrom_np(&actions, last + 1);

        const sigset_t mask = signal_set(blocked);
        sigset_t all;
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attr, &mask);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

        pid_t pid = -1;
        if (ok) {
                int r = posix_spawn(&pid, path, &actions, &attr, argv, envp);
                if (r != 0) {
                        pid = -1;
                        err_set(error, r, "start %s", path);
                        (void) proc_hint_full(error);
                }
        }
        if (pid > 0 && ret_pidfd) {
                *ret_pidfd = pidfd_open(pid, 0);
                if (*ret_pidfd < 0) {
                        err_set(error, errno, "pidfd of %s", path);
                        kill(pid, SIGKILL);
                        (void) proc_wait(pid, NULL);
                        pid = -1;
                }
        }

        for (size_t i = 0; i < n_copies; i++)
                close(copies[i]);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attr);
        return pid;
}

pid_t proc_spawn(const char *path, char *const argv[], char *const envp[], const ProcFd *map, size_t n_map, int *ret_pidfd,
                 GError **error) {
        return spawn(path, argv, envp, map, n_map, (const int[]){ 0 }, ret_pidfd, error);
}

pid_t proc_spawn_helper(const char *path, char *const argv[], int wire, const int *fds, size_t n_fds, int *ret_pidfd, GError **error) {
        static const int told[] = { SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU, 0 };
        char *const envp[] = { NULL };
        ProcFd map[3 + PROC_HELPER_FDS_MAX];

        g_assert(n_fds <= PROC_HELPER_FDS_MAX);
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0) {
                err_set(error, errno, "/dev/null");
                return -1;
        }
        map[0] = (ProcFd){ null, 0 };
        map[1] = (ProcFd){ null, 1 };
        map[2] = (ProcFd){ wire, 3 };
        for (size_t i = 0; i < n_fds; i++)
                map[3 + i] = (ProcFd){ fds[i], 4 + (int) i };
        return spawn(path, argv, envp, map, 3 + n_fds, told, ret_pidfd, error);
}

int proc_take_signals(const int *signals, GError **error) {
        const sigset_t set = signal_set(signals);

        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
                err_set(error, errno, "sigprocmask");
                return -1;
        }
        int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                err_set(error, errno, "signalfd");
        return fd;
}

bool proc_wait(pid_t pid, int *ret_status) {
        pid_t r;
        do
                r = waitpid(pid, ret_status, 0);
        while (r < 0 && errno == EINTR);
        return r == pid;
}

bool proc_check_pidfds(GError **error) {
        _cleanup_close_ int self = pidfd_open(getpid(), 0);

        if (self >= 0 && pidfd_send_signal(self, 0, NULL, 0) == 0)
                return true;
        bool refused = errno == EPERM || errno == EACCES || errno == ENOSYS;
        err_set(error, errno, self < 0 ? "pidfd_open" : "pidfd_send_signal");
        return refused && err_hint(error, "a filter that this was started under (a container's, mostly) refuses that call: usbox doctor says what to do");
}

bool proc_gains_nothing(void) {
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

/* Its fdinfo names it in the reader's pid namespace (pidfd_open(2)). */
pid_t proc_pidfd_pid(int pidfd) {
        g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", pidfd);
        g_autofree char *text = NULL;

        if (!fd_read_file(AT_FDCWD, path, 4096, &text, NULL))
                return -1;
        const char *line = strstr(text, "\nPid:");
        return line ? (pid_t) g_ascii_strtoll(line + 5, NULL, 10) : -1;
}

int proc_pidfd_open(int pidfd) {
        pid_t pid = proc_pidfd_pid(pidfd);
        g_autofree char *path = g_strdup_printf("/proc/%d", (int) pid);
        _cleanup_close_ int fd = pid > 0 ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

        /* As long as it is not reaped nobody else has its number. */
        if (proc_pidfd_pid(pidfd) > 0)
                return fd_steal(&fd);
        errno = ESRCH;
        return -1;
}

void *proc_share(size_t size, GError **error) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (memory != MAP_FAILED)
                return memory;
        err_set(error, errno, "memory to share");
        return NULL;
}

bool proc_is_limited(int resource) {
        struct rlimit limit;
        return getrlimit((__rlimit_resource_t) resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

gint64 proc_microseconds(struct timeval t) {
        return (gint64) t.tv_sec * G_USEC_PER_SEC + t.tv_usec;
}

char *proc_status_text(int status) {
        if (WIFSIGNALED(status)) {
                const char *name = sigabbrev_np(WTERMSIG(status)); /* NULL for the real-time ones */
                return g_strdup_printf(name ? "killed by signal %d (SIG%s)" : "killed by signal %d", WTERMSIG(status), name);
        }
        return g_strdup_printf("exit status %d", WEXITSTATUS(status));
}

/* What a process's first thread has forked: a list of numbers, the caller's; NULL: it is gone, or /proc does not tell. */
static char *list_children(pid_t pid) {
        char path[64], *list = NULL;

        g_snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int) pid, (int) pid);
        return fd_read_file(AT_FDCWD, path, 16 * 1024 * 1024, &list, NULL) ? list : NULL;
}

/* One round of kills; false where there was nobody. */
static bool kill_round(const pid_t *except, size_t n_except) {
        g_autofree char *list = list_children(getpid());
        bool any = false;

        if (!list)
                return false;
        char *rest = list;
        for (char *word; (word = strsep(&rest, " "));) {
                pid_t pid = (pid_t) g_ascii_strtoll(word, NULL, 10);
                bool spared = pid <= 0;
                for (size_t i = 0; i < n_except; i++)
                        spared = spared || pid == except[i];
                if (spared)
                        continue;
                any = true;
                kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, WNOHANG);
        }
        return any;
}

void proc_kill_children(const pid_t *except, size_t n_except) {
        while (kill_round(except, n_except))
                (void) poll(NULL, 0, 1);
}

/* ms: what is killed or sees the end of its socket is gone long before. */
#define REAP_MS 5000

/* name: of those of pid's children that are meant, as /proc has it; NULL: all. */
static void note_orphans(pid_t pid, const char *name, ProcOrphans *orphans) {
        g_autofree char *list = list_children(pid);
        char *rest = list;

        orphans->looked = true;
        for (char *word; orphans->n < PROC_ORPHANS_MAX && (word = strsep(&rest, " "));) {
                pid_t child = (pid_t) g_ascii_strtoll(word, NULL, 10);
                g_autofree char *path = g_strdup_printf("/proc/%d/comm", (int) child), *comm = NULL;
                if (child > 0 && (!name || (fd_read_file(AT_FDCWD, path, 64, &comm, NULL) && g_str_equal(g_strchomp(comm), name))))
                        orphans->pids[orphans->n++] = child;
        }
}

void proc_adopt(pid_t child, ProcOrphans *orphans) {
        if (orphans->looked || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
                return;
        note_orphans(child, NULL, orphans);
}

void proc_adopt_late(const char *program, ProcOrphans *orphans) {
        g_autofree char *name = g_strconcat(program, "-agent", NULL);

        if (orphans->n == 0)
                note_orphans(getpid(), name, orphans);
}

void proc_reap(ProcOrphans *orphans) {
        while (orphans->n > 0) {
                pid_t pid = orphans->pids[--orphans->n];
                siginfo_t info = { 0 };
                /* Reaped by the child already, and the number another's by now? Then it is none of ours. */
                if (waitid(P_PID, (id_t) pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                        continue;
                _cleanup_close_ int pidfd = pidfd_open(pid, 0);
                if (pidfd >= 0 && fd_await(pidfd, REAP_MS) > 0)
                        (void) proc_wait(pid, NULL);
        }
}

/* from: the way from the directory of the running program to the helpers'. */
static char *helper_path(const char *from, const char *program, GError **error) {
        g_autofree char *path = NULL;
        const char *dir = getauxval(AT_SECURE) ? NULL : g_getenv("USBOX_LIBEXECDIR");

        if (dir) {
                path = g_build_filename(dir, program, NULL);
        } else {
                g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
                if (!self) {
                        err_set(error, errno, "readlink /proc/self/exe");
                        err_hint(error, "usbox needs /proc to be mounted");
                        return NULL;
                }
                g_autofree char *bin = g_path_get_dirname(self);
                path = g_build_filename(bin, from, program, NULL);
        }

        if (access(path, X_OK) < 0) {
                err_set(error, errno, "helper program %s", path);
                err_hint(error, "install usbox again; %s belongs to it", program);
                return NULL;
        }
        return g_steal_pointer(&path);
}

char *proc_helper_path(const char *program, GError **error) {
        return helper_path(USBOX_LIBEXEC_FROM_BIN, program, error);
}

char *proc_sibling_path(const char *program, GError **error) {
        return helper_path(".", program, error);
}
