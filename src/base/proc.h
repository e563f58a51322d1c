/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/time.h>
#include <sys/types.h>

/* One descriptor that a program is to find under a number of its own. */
typedef struct {
        int fd;     /* ours, borrowed */
        int number; /* theirs: 0, 1, 2 or from 3 without a gap, in the order of the map */
} ProcFd;

/*
 * Start path (no search) with argv and envp, and only the fds of the map besides 0, 1 and 2 (which are ours unless
 * mapped). Its signal mask is empty and its dispositions are the default. Returns the pid and, with ret_pidfd, a pidfd;
 * -1 with error. The caller reaps.
 */
pid_t proc_spawn(const char *path, char *const argv[], char *const envp[], const ProcFd *map, size_t n_map, int *ret_pidfd,
                 GError **error);

/*
 * The same of a helper program, with the wire as its descriptor 3 and fds (all borrowed) as 4, 5, ...; nothing else of the caller's reaches it but stderr, and
 * no environment. It ends with its starter, who alone is to hear what a terminal, a shell or a batch system tells the whole job (^C, kill %1, a hangup; the
 * notice before a job's time is up): these signals stay blocked in it.
 */
#define PROC_HELPER_FDS_MAX 4
pid_t proc_spawn_helper(const char *path, char *const argv[], int wire, const int *fds, size_t n_fds, int *ret_pidfd, GError **error);

/* Give the error of a start, a fork or a new thread a hint where it is that there are too many. Returns false. */
bool proc_hint_full(GError **error);

/* Block signals, which end with 0, and have them by a descriptor instead: a signalfd(2), non-blocking; the caller's. -1 with error. */
int proc_take_signals(const int *signals, GError **error);

/* Wait for a child's end; *ret_status as waitpid(2) gives it. False with errno set. */
bool proc_wait(pid_t pid, int *ret_status);

/* The pid of the process that a pidfd is of, in our own pid namespace; -1: it has been reaped, or is not in it. */
pid_t proc_pidfd_pid(int pidfd);

/* Its /proc/PID (O_PATH), and not that of another process which has got its number since; -1 with errno, ESRCH where it has been reaped. */
int proc_pidfd_open(int pidfd);

/* Memory that we share with what we fork from now on, zeroed; for munmap(2). NULL with error. */
void *proc_share(size_t size, GError **error);

/* Whether processes can be told something by their handles here: what names the call that a filter refuses is the error. */
bool proc_check_pidfds(GError **error);

/* Nothing that this process executes gains rights: setuid bits and file capabilities count for nothing (PR_SET_NO_NEW_PRIVS(2const)). */
bool proc_gains_nothing(void);

/* Whether this process has a limit on it, of setrlimit(2). */
bool proc_is_limited(int resource);

/* A time as getrusage(2) and wait4(2) give it. */
gint64 proc_microseconds(struct timeval t);

/* How it ended, for an error message: "exit status 3" or "killed by signal 9 (SIGKILL)"; the caller's. */
char *proc_status_text(int status);

/* Kill all children of this process but those of except, and theirs as they become ours: for a PR_SET_CHILD_SUBREAPER, where no pid
 * namespace does it. Returns when none is left. */
void proc_kill_children(const pid_t *except, size_t n_except);

/* Children of a child of ours. */
#define PROC_ORPHANS_MAX 4
typedef struct {
        pid_t pids[PROC_ORPHANS_MAX];
        size_t n;
        bool looked;
} ProcOrphans;

/*
 * Before a child is made to end: from now on this process is a PR_SET_CHILD_SUBREAPER, so what the child has forked will be ours, and not that of whoever
 * adopts orphans, in many a container a pid 1 that reaps nobody. They are noted; the first time counts. Where /proc does not tell, they are lost to that one.
 */
void proc_adopt(pid_t child, ProcOrphans *orphans);

/* Where none are noted: the same of a child that others have ended before anybody looked, and which has been reaped; this process was a
 * PR_SET_CHILD_SUBREAPER by then. They are known by their name, which is the child's program's with "-agent" behind it. */
void proc_adopt_late(const char *program, ProcOrphans *orphans);

/* The child has been reaped, and they end with it: reap them. Not for ever: one may hang in the kernel. */
void proc_reap(ProcOrphans *orphans);

/* The path of an installed helper program: $USBOX_LIBEXECDIR (in-tree tests; ignored when this process runs with more
 * rights than its caller), else LIBEXECDIR found relative to this binary. The caller's; NULL with error (with its hint)
 * where it is not executable. */
char *proc_helper_path(const char *program, GError **error);

/* The same of one that lies beside this binary, which is a helper program, too. */
char *proc_sibling_path(const char *program, GError **error);
