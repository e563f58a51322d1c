/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Into a network namespace, with all rights over it.
 *
 * Role: usbox-net's agent; where usbox-net runs by itself, the process that makes the TAP. Privileges: the caller's, who made the namespace;
 * all of its user namespace's afterwards. Threads: one. Order: once in the life of that process, since there is no way back.
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/enter.h"

static bool is_own_userns(int userns) {
        struct stat own, other;
        return stat("/proc/self/ns/user", &own) == 0 && fstat(userns, &other) == 0 && own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

bool enter_netns(int netns, int userns, GError **error) {
        /* A root in there could else trace us, and by us reach what we have open and the host's files: to him we are one of his own. */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return err_set(error, errno, "PR_SET_DUMPABLE");
        _cleanup_close_ int owner = userns < 0 ? ioctl(netns, NS_GET_USERNS) : fcntl(userns, F_DUPFD_CLOEXEC, 3);
        if (owner < 0)
                return err_set(error, errno, "user namespace of the network namespace");
        if (setns(owner, CLONE_NEWUSER) < 0 && (errno != EINVAL || !is_own_userns(owner))) /* the own one cannot be entered, and need not be */
                return err_set(error, errno, "enter the user namespace");
        if (setns(netns, CLONE_NEWNET) < 0)
                return err_set(error, errno, "enter the network namespace");
        return true;
}
