/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Confinement that a process puts on itself.
 *
 * Role: helpers and the box's processes. Privileges: gives them up. Threads: one.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"

#define KEEP_FILE_MAX (1024 * 1024)

bool confine_self(GError **error) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(error, errno, "no_new_privs");
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return err_set(error, errno, "PR_SET_DUMPABLE");
        return true;
}

bool confine_die_with_parent(pid_t parent, GError **error) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
                return err_set(error, errno, "PR_SET_PDEATHSIG");
        /* The parent may have ended before the call: then nothing would come. */
        if (parent > 0 && getppid() != parent)
                return err_set(error, ESRCH, "parent process %d", (int) parent);
        return true;
}

bool confine_keep_caps(uint32_t keep, GError **error) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2] = { { .effective = keep, .permitted = keep } };

        if (syscall(SYS_capset, &header, data) < 0)
                return err_set(error, errno, "drop capabilities");
        return true;
}

bool confine_wake_without_parent(GError **error) {
        return prctl(PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0) == 0 || err_set(error, errno, "PR_SET_PDEATHSIG");
}

static bool may_drop_bounding(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2];

        return syscall(SYS_capget, &header, data) < 0 || (data[0].effective & 1u << CAP_SETPCAP);
}

bool confine_drop_bounding(GError **error) {
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return err_set(error, errno, "clear ambient capabilities");
        for (int cap = 0;; cap++)
                if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
                        if (errno == EINVAL) /* beyond the kernel's last one */
                                break;
                        if (errno == EPERM && !may_drop_bounding()) /* no_new_privs makes the bounding set moot */
                                break;
                        return err_set(error, errno, "drop capability %d from the bounding set", cap);
                }
        return true;
}

bool confine_drop_caps(GError **error) {
        return confine_drop_bounding(error) && confine_keep_caps(0, error);
}

bool confine_seccomp(const struct sock_filter *filter, size_t n, GError **error) {
        struct sock_fprog prog = { .len = (unsigned short) n, .filter = (struct sock_filter *) filter };
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0) {
                bool lacks = errno == EINVAL; /* else somebody's filter refuses it */
                err_set(error, errno, "install the seccomp filter");
                return lacks ? err_hint(error, "the kernel needs CONFIG_SECCOMP_FILTER") : false;
        }
        return true;
}

bool confine_unshare(GError **error) {
        /* Afterwards nobody knows them any more. */
        g_autofree char *uid_map = g_strdup_printf("65534 %u 1", (unsigned) geteuid());
        g_autofree char *gid_map = g_strdup_printf("65534 %u 1", (unsigned) getegid());

        if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
                return err_set(error, errno, "unshare");
        /* A file can only be made by ids that its file system's user namespace knows: without maps, EOVERFLOW. */
        if (!fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny") || !fd_write_file(AT_FDCWD, "/proc/self/uid_map", uid_map) ||
            !fd_write_file(AT_FDCWD, "/proc/self/gid_map", gid_map))
                return err_set(error, errno, "id maps");
        return true;
}

static bool copy_into(int root, const char *path, GError **error) {
        g_autofree char *data = NULL;
        size_t len;
        if (!fd_read_file(AT_FDCWD, path, KEEP_FILE_MAX, &data, &len)) {
                if (errno == ENOENT)
                        return true;
                return err_set(error, errno, "read %s", path);
        }

        g_auto(GStrv) parts = g_strsplit(path + 1, "/", -1);
        _cleanup_close_ int dir = fcntl(root, F_DUPFD_CLOEXEC, 3);
        for (char **p = parts; *p; p++) {
                int next;
                if (p[1]) {
                        if (mkdirat(dir, *p, 0755) < 0 && errno != EEXIST)
                                return err_set(error, errno, "mkdir %s", path);
                        next = openat(dir, *p, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                } else {
                        next = openat(dir, *p, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
                }
                if (next < 0)
                        return err_set(error, errno, "create %s", path);
                close(dir);
                dir = next;
        }
        if (!fd_write_all(dir, data, len))
                return err_set(error, errno, "write %s", path);
        return true;
}

bool confine_empty_root(const char *const *keep_files, GError **error) {
        if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
                return err_set(error, errno, "make mounts private");

        _cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "1M", 0) < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "755", 0) < 0 ||
            fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return err_set(error, errno, "tmpfs");
        _cleanup_close_ int root = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (root < 0)
                return err_set(error, errno, "mount tmpfs");

        for (const char *const *file = keep_files; file && *file; file++)
                if (!copy_into(root, *file, error))
                        return false;

        struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
        /* "/tmp" only as the place on which it is mounted for a moment, in a mount namespace of our own. */
        if (mount_setattr(root, "", AT_EMPTY_PATH, &readonly, sizeof readonly) < 0 ||
            move_mount(root, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return err_set(error, errno, "attach the empty root");
        if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0)
                return err_set(error, errno, "pivot_root");
        if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
                return err_set(error, errno, "detach the old root");
        return true;
}
