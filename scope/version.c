/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which cgroups the machine has.
 *
 * Role: usbox-scope, before it makes one; launcher, for --dry-run. Privileges: none needed. Threads: one.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "scope/version.h"

bool cgroup_check_version(GError **error) {
        struct statfs fs;

        if (statfs(CGROUP_MOUNT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
                return true;
        bool hybrid = statfs(CGROUP_MOUNT "/unified", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
        bool any = hybrid || access(CGROUP_MOUNT "/memory", F_OK) == 0 || access(CGROUP_MOUNT "/cpu", F_OK) == 0;
        if (hybrid)
                err_set(error, EOPNOTSUPP, "this machine's cgroups are hybrid: the controllers are in version 1, which cannot be given to a user");
        else if (any)
                err_set(error, EOPNOTSUPP, "this machine has cgroups version 1, which cannot be given to a user");
        else
                err_set(error, EOPNOTSUPP, "no cgroups are mounted at " CGROUP_MOUNT);
        return err_hint(error, "boot with systemd.unified_cgroup_hierarchy=1 (usbox doctor says how)");
}
