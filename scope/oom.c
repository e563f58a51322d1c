/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whom the kernel kills first for want of memory, in a box that has run without a limit so far: its command, not what holds its root and network.
 *
 * Role: usbox-scope, and a fork of it. Privileges: the fork's in the box's user namespace, as that of its owner: only so may it change what processes of
 * ids have that are the box's alone. Threads: one. Order: when all of the box is in its cgroup, and frozen.
 *
 * A box that is limited from its start on has it from there (payload_set_oom_score()), and so has what exec starts later.
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "scope/leaves.h"

#define PROCS_MAX (16 * 1024 * 1024)

/* One that has ended meanwhile has none; one that lets nobody look into it (PR_SET_DUMPABLE) keeps its own, to nobody's harm but its box's. */
static void raise_one(const char *pid) {
        g_autofree char *path = g_strdup_printf("/proc/%s/oom_score_adj", pid), *own = NULL;

        if (!fd_read_file(AT_FDCWD, path, 64, &own, NULL))
                return;
        g_autofree char *text = g_strdup_printf("%d", scope_oom_score(own));
        if (!fd_write_file(AT_FDCWD, path, text))
                log_step("%s: %s", path, err_text(errno));
}

static _Noreturn void raise_main(int user_ns, char *procs) {
        if (setns(user_ns, CLONE_NEWUSER) < 0) {
                log_step("enter the box's user namespace: %s", err_text(errno));
                _exit(EXIT_FAILURE);
        }
        for (char *pid; (pid = strsep(&procs, "\n")) && *pid;)
                raise_one(pid);
        _exit(EXIT_SUCCESS);
}

bool cgroup_raise_oom(const ScopeCgroup *c, int mount_ns, GError **error) {
        _cleanup_close_ int user_ns = ioctl(mount_ns, NS_GET_USERNS);
        g_autofree char *procs = NULL;
        int status;

        if (user_ns < 0)
                return err_set(error, errno, "the box's user namespace");
        if (!fd_read_file(c->fd, SCOPE_LEAF_PAYLOAD "/cgroup.procs", PROCS_MAX, &procs, NULL))
                return err_set(error, errno, "read %s/" SCOPE_LEAF_PAYLOAD "/cgroup.procs", c->path);
        pid_t pid = fork();
        if (pid == 0)
                raise_main(user_ns, procs);
        if (pid < 0 || !proc_wait(pid, &status))
                return err_set(error, errno, "fork");
        return status == 0 || err_set(error, EPERM, "raise the oom_score_adj of the box's command");
}
