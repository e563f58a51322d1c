/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of a box that has no pid namespace of its own to end with: --share pid.
 *
 * Role: launcher, of the box and of its pod. Privileges: the caller's, who owns the user namespaces. Threads: one. Order: step 11.
 *
 * What belongs to the box is told by its user namespace, which no process can leave but for one below. Its init cannot be relied on: other
 * processes of the pod may stop or kill it. A process that executes a program which it may not read, and whose owner the box has no id for, does not
 * show its namespace to the caller; it lives until the pod ends.
 */
#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "pod-kill.h"

#define ROUND_MS 2

static bool is_same(int a, int b) {
        struct stat sa, sb;
        return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* It is in that namespace, or in one below. Above the caller's own there is nothing to be asked for. */
static bool is_within(pid_t pid, const char *kind, int ns) {
        char path[64];

        g_snprintf(path, sizeof path, "/proc/%d/ns/%s", (int) pid, kind);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd >= 0) {
                if (is_same(fd, ns))
                        return true;
                int parent = ioctl(fd, NS_GET_PARENT);
                close(fd);
                fd = parent;
        }
        return false;
}

/* False where there is no such process, or it is not of the box, or it has ended and waits to be reaped. */
static bool kill_if_within(pid_t pid, int userns, int pidns) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);
        struct pollfd ended = { .fd = pidfd, .events = POLLIN };

        if (pidfd < 0 || poll(&ended, 1, 0) != 0 || !is_within(pid, "pid", pidns) || !is_within(pid, "user", userns))
                return false;
        (void) pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        return true;
}

static bool kill_round(int userns, int pidns) {
        DIR *proc = opendir("/proc");
        bool any = false;

        if (!proc)
                return false;
        for (struct dirent *e; (e = readdir(proc));) {
                gint64 pid = g_ascii_isdigit(e->d_name[0]) ? g_ascii_strtoll(e->d_name, NULL, 10) : 0;
                if (pid > 0 && kill_if_within((pid_t) pid, userns, pidns))
                        any = true;
        }
        closedir(proc);
        return any;
}

bool pod_kill_box(int userns, int pidns, int init, int timeout_ms) {
        FdPatience patience = { .left_ms = timeout_ms };

        (void) pidfd_send_signal(init, SIGKILL, NULL, 0);
        while (kill_round(userns, pidns)) {
                if (patience.left_ms <= 0)
                        return false;
                (void) poll(NULL, 0, MIN(ROUND_MS, fd_patience_slice(&patience)));
                fd_patience_used(&patience);
        }
        return true;
}
