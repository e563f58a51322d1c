/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mounts over the box's root: its own /proc, /sys, /dev, /tmp, ...
 *
 * Role: child (init). Privileges: all capabilities of the outer user namespace. Threads: one. Order: root_mounts_own() before the root is
 * there, and before its plan is where that is possible; the rest in root_build_tree() and, as for /sys, root_build_finish().
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "root-build.h"

/* The group tty, by its number: distributions and systemd agree on it. */
#define TTY_GID 5

/* The whole of /dev, but for pts, shm, mqueue and the links. */
static const char *const devices[] = { "null", "zero", "full", "random", "urandom", "tty" };

/* What OCI runtimes mask, and the rest that tells a box about its host (runtime-spec's config-linux.md, podman's and
 * Docker's lists). Those that this kernel has not are passed over. */
static const char *const proc_masked[] = {
        "acpi",
        "asound",
        "kcore",
        "keys",
        "key-users",
        "latency_stats",
        "timer_list",
        "timer_stats",
        "sched_debug",
        "scsi",
        "kmsg",
        "kpagecount",
        "kpageflags",
        "kpagecgroup",
        "interrupts",
        "kallsyms",
        "slabinfo",
        "vmallocinfo",
        "pagetypeinfo",
        "iomem",
        "ioports",
        "config.gz",
};
static const char *const sys_masked[] = {
        "firmware",
        "devices/virtual/powercap",
        /* Where other file systems are mounted: with the host's /sys alone is there anything in them. */
        "fs/selinux",
        "kernel/debug",
        "kernel/tracing",
        "kernel/security",
        "fs/bpf",
        "fs/pstore",
};
#define MASKED_OF_HOST_SYS 6
static const char *const proc_read_only[] = { "bus", "fs", "irq", "sys", "sysrq-trigger", "driver", "mtrr" };

/* Made before the stage stands in the host's tree, as root_user_open() says. */
bool root_mounts_open(RootBuild *b, GError **error) {
        if (!b->sysfs_of_host)
                return true;
        _cleanup_close_ int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (sys < 0)
                return err_set(error, errno, "/sys of the host");
        b->host_sys = root_clone(sys, true, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
        return b->host_sys >= 0;
}

/* A new directory of the own tmpfs as a mount, attached nowhere; or -1. */
static int own_dir(const RootBuild *b, const char *name, mode_t mode, GError **error) {
        if (mkdirat(b->stage, name, mode) < 0 || (mode & S_ISVTX && fchmodat(b->stage, name, mode, 0) < 0)) {
                err_set(error, errno, "make %s", name);
                return -1;
        }
        int mnt = open_tree(b->stage, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (mnt < 0)
                err_set(error, errno, "open %s", name);
        return mnt;
}

/* It becomes path of the box. */
static bool add_own_dir(RootBuild *b, const char *name, const char *path, mode_t mode, GError **error) {
        _cleanup_close_ int mnt = own_dir(b, name, mode, error);
        return mnt >= 0 && root_attach_at(b, mnt, path, error);
}

static bool attach_below(int mnt, int dir, const char *name, const char *path, GError **error) {
        if (move_mount(mnt, "", dir, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return err_set(error, errno, "attach at %s", path);
        return true;
}

static bool add_device(int dev, const char *name, GError **error) {
        g_autofree char *path = g_strconcat("/dev/", name, NULL);
        _cleanup_close_ int device = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (device < 0)
                return err_set(error, errno, "%s of the host", path);
        if (mknodat(dev, name, S_IFREG | 0444, 0) < 0)
                return err_set(error, errno, "%s", path);
        _cleanup_close_ int mnt = root_clone(device, false, DEVICE_ATTRS, error);
        return mnt >= 0 && attach_below(mnt, dev, name, path, error);
}

/* Everything in it is made by us just now, so a name is as good as a descriptor. In the stage it is mounted on the directory that it is of. */
static bool make_dev(RootBuild *b, GError **error) {
        int dev = b->dev = own_dir(b, "dev", 0755, error);
        if (dev < 0 || !attach_below(dev, b->stage, "dev", "dev", error))
                return false;

        static const struct {
                const char *name, *target;
        } links[] = {
                { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
                { "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(links); i++)
                if (symlinkat(links[i].target, dev, links[i].name) < 0)
                        return err_set(error, errno, "/dev/%s", links[i].name);
        for (const char *const *dir = (const char *const[]){ "pts", "shm", "mqueue", NULL }; *dir; dir++)
                if (mkdirat(dev, *dir, 0755) < 0)
                        return err_set(error, errno, "/dev/%s", *dir);

        for (size_t i = 0; i < G_N_ELEMENTS(devices); i++)
                if (!add_device(dev, devices[i], error))
                        return false;

        _cleanup_close_ int shm = own_dir(b, "shm", 01777, error);
        if (shm < 0 || !attach_below(shm, dev, "shm", "dev/shm", error) || !attach_below(b->pts, dev, "pts", "dev/pts", error))
                return false;
        if (!b->spec->namespaces.ipc_host) {
                _cleanup_close_ int mqueue = b->pod.in_pod ? fd_steal(&b->pod.mqueue) : root_mount_new("mqueue", NULL, KERNEL_ATTRS, error);
                if (mqueue < 0 || !attach_below(mqueue, dev, "mqueue", "dev/mqueue", error))
                        return false;
        }
        return true;
}

static bool make_proc(RootBuild *b, GError **error) {
        if (b->proc_of_host) {
                _cleanup_close_ int host = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (host < 0)
                        return err_set(error, errno, "/proc of the host");
                b->proc = root_clone(host, true, KERNEL_ATTRS, error);
                return b->proc >= 0;
        }
        b->proc = b->pod.proc >= 0 ? fd_steal(&b->pod.proc) : root_mount_new("proc", NULL, KERNEL_ATTRS, error);
        if (b->proc < 0 && err_get_errno(*error) == EPERM)
                err_hint(error, "this machine's own /proc has mounts over it (a container?): start that container with "
                                "an unmasked "
                                "/proc (podman: --security-opt unmask=ALL)");
        return b->proc >= 0;
}

int root_mount_devpts(const RootBuild *b, GError **error) {
        guint32 host;
        bool has_tty = user_map_to_host(b->spec->user.gidmap, TTY_GID, &host);
        /* Without that group what wants its terminals to have it (sshd) changes their owner, which the box's root alone may. */
        const char *options[] = { "ptmxmode=0666", "mode=0620", has_tty ? "gid=" G_STRINGIFY(TTY_GID) : NULL, NULL };

        return root_mount_new("devpts", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, error);
}

bool root_mounts_begin(RootBuild *b, int *ret_pty_master, GError **error) {
        b->pts = root_mount_devpts(b, error);
        if (b->pts < 0)
                return false;
        if (ret_pty_master) {
                /* The mount's own: the host's /dev/ptmx would give a pty of the host's instance. */
                *ret_pty_master = openat(b->pts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
                if (*ret_pty_master < 0)
                        return err_set(error, errno, "open the box's ptmx");
                /* A new pty's slave side is locked: nobody can open it, by TIOCGPTPEER neither (pty_open(), EIO). */
                if (unlockpt(*ret_pty_master) < 0)
                        return err_set(error, errno, "unlock the box's pty");
        }
        return make_proc(b, error);
}

/* Without masks and only to be read, as mount_hidden_proc() says of /proc. It shows the box's network namespace, in which this process is only now. */
static bool mount_hidden_sys(RootBuild *b, int sys, GError **error) {
        if (b->hidden_sys < 0)
                return true;
        _cleanup_close_ int mnt = root_clone(sys, false, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
        return mnt >= 0 && root_attach(mnt, b->hidden_sys, "nested sysfs", error);
}

static bool mount_sys(RootBuild *b, GError **error) {
        _cleanup_close_ int sys = -1;

        if (b->sysfs_of_host)
                return root_attach_at(b, b->host_sys, "sys", error);
        if (b->pod.in_pod && b->pod.sysfs < 0)
                err_set(error, EPERM, "mount sysfs");
        sys = b->pod.in_pod ? fd_steal(&b->pod.sysfs) : root_mount_new("sysfs", NULL, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
        if (sys < 0) {
                if (b->spec->box.best_effort & BEST_EFFORT_SYSFS) {
                        g_clear_error(error);
                        return true; /* an empty /sys */
                }
                return err_hint(
                        error,
                        "this machine's own /sys has mounts over it (a container?): unmask it there, or go on with an "
                        "empty /sys by --best-effort=sysfs");
        }
        if (!root_attach_at(b, sys, "sys", error) || !mount_hidden_sys(b, sys, error))
                return false;
        if (b->plan->cgroup2) {
                /* The box's own where it has one: there its limits can be read, by programs that size themselves by them. */
                _cleanup_close_ int cgroup = b->cgroup >= 0 ? root_clone(b->cgroup, false, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error)
                                                            : root_mount_new("cgroup2", NULL, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
                if (cgroup < 0 || !root_attach_at(b, cgroup, "sys/fs/cgroup", error))
                        return false;
        }
        return true;
}

/* A proc without the masks. Where the host's root is in the box, it owns /proc/sys and sysrq-trigger: only to be read. */
int root_mount_bare_proc(const RootBuild *b, GError **error) {
        return root_mount_new("proc", NULL, KERNEL_ATTRS | (b->spec->caller.uid == 0 ? MOUNT_ATTR_RDONLY : 0), error);
}

/*
 * A /proc without masks, for nested user namespaces alone: the kernel lets one mount a proc of its own only where its mount
 * namespace has one that nothing covers (mount_too_revealing(), fs/namespace.c). It stands where no path leads: the tmpfs
 * attached on its parent hides it, and is locked there for every user namespace inside. Beside it is the place for a sysfs of the same kind.
 */
static bool mount_hidden_proc(RootBuild *b, GError **error) {
        if (mkdirat(b->stage, "nested", 0700) < 0 || mkdirat(b->stage, "nested/proc", 0700) < 0 || mkdirat(b->stage, "nested/sys", 0700) < 0)
                return err_set(error, errno, "place of the nested proc");
        _cleanup_close_ int dir = openat(b->stage, "nested", O_PATH | O_CLOEXEC);
        _cleanup_close_ int base = dir < 0 ? -1 : root_clone(dir, false, KERNEL_ATTRS, error);
        _cleanup_close_ int run = root_open_in(b->root, "run", O_PATH);
        if (dir < 0 || run < 0)
                return err_set(error, errno, "place of the nested proc");
        if (base < 0)
                return false;
        /* /run is covered by the box's own /run in a moment: first this below it, then that on top. */
        if (!root_attach(base, run, "/run", error))
                return false;
        _cleanup_close_ int place = openat(base, "proc", O_PATH | O_CLOEXEC);
        _cleanup_close_ int proc = root_mount_bare_proc(b, error);
        b->hidden_sys = openat(base, "sys", O_PATH | O_CLOEXEC);
        if (place < 0 || b->hidden_sys < 0)
                return err_set(error, errno, "place of the nested proc");
        return proc >= 0 && root_attach(proc, place, "nested proc", error);
}

/*
 * A file of the kernel's that is root's alone and that nobody in the box can ever open, because no id of the box is that root and no
 * capability of a user namespace counts for a file of an unmapped owner (capable_wrt_inode_uidgid()): a mask on it
 * would say the same once more, and there are many of them. 65534 is what stat(2) shows for an unmapped id.
 */
static bool out_of_reach(const RootBuild *b, const struct stat *st, mode_t others) {
        return b->spec->caller.uid != 0 && st->st_uid == 65534 && st->st_gid == 65534 &&
               (st->st_mode & (others | others << 3)) == 0;
}

/* Every name in these file systems is the kernel's own, so a name is as good as a descriptor of it. where: "proc" or "sys", for errors. */
static bool mask(const RootBuild *b, int dir, const char *where, const char *name, GError **error) {
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno == ENOENT || errno == EACCES || errno == ENOTDIR)
                        return true;
                return err_set(error, errno, "mask /%s/%s", where, name);
        }
        if (out_of_reach(b, &st, S_IROTH | S_IWOTH | S_IXOTH))
                return true;
        _cleanup_close_ int mnt =
                open_tree(b->stage, S_ISDIR(st.st_mode) ? "mask/dir" : "mask/file", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (mnt < 0)
                return err_set(error, errno, "mask /%s/%s", where, name);
        return attach_below(mnt, dir, name, name, error);
}

static bool make_proc_read_only(const RootBuild *b, const char *name, GError **error) {
        struct stat st;

        if (fstatat(b->proc, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno == ENOENT || errno == EACCES)
                        return true;
                return err_set(error, errno, "read-only /proc/%s", name);
        }
        if (S_ISREG(st.st_mode) && out_of_reach(b, &st, S_IWOTH))
                return true;
        _cleanup_close_ int target = openat(b->proc, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (target < 0)
                return err_set(error, errno, "read-only /proc/%s", name);
        _cleanup_close_ int mnt = root_clone(target, b->proc_of_host, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
        return mnt >= 0 && attach_below(mnt, b->proc, name, name, error);
}

/* Masks are clones of one mount, which hands its attributes on. */
static bool make_mask(const RootBuild *b, GError **error) {
        if (mkdirat(b->stage, "mask", 0755) < 0 || mkdirat(b->stage, "mask/dir", 0555) < 0 ||
            mknodat(b->stage, "mask/file", S_IFREG | 0444, 0) < 0)
                return err_set(error, errno, "masks");
        _cleanup_close_ int dir = openat(b->stage, "mask", O_PATH | O_CLOEXEC);
        if (dir < 0)
                return err_set(error, errno, "masks");
        _cleanup_close_ int mnt = root_clone(dir, false, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, error);
        return mnt >= 0 && root_attach(mnt, dir, "mask", error);
}

static bool cover_proc(const RootBuild *b, GError **error) {
        if (mkdirat(b->stage, "proc", 0755) < 0)
                return err_set(error, errno, "place of /proc");
        if (!attach_below(b->proc, b->stage, "proc", "proc", error))
                return false;
        for (size_t i = 0; i < G_N_ELEMENTS(proc_masked); i++)
                if (!mask(b, b->proc, "proc", proc_masked[i], error))
                        return false;
        for (size_t i = 0; i < G_N_ELEMENTS(proc_read_only); i++)
                if (!make_proc_read_only(b, proc_read_only[i], error))
                        return false;
        return true;
}

static bool cover_sys(const RootBuild *b, GError **error) {
        _cleanup_close_ int sys = root_open_in(b->root, "sys", O_PATH | O_DIRECTORY);
        size_t n = G_N_ELEMENTS(sys_masked) - (b->sysfs_of_host ? 0 : MASKED_OF_HOST_SYS);

        if (sys < 0)
                return err_set(error, errno, "/sys in the box");
        for (size_t i = 0; i < n; i++)
                if (!mask(b, sys, "sys", sys_masked[i], error))
                        return false;
        return true;
}

/* /var/tmp is for what is large or outlives a boot: on disk, in the box's directory, where there is one. */
static bool mount_var_tmp(RootBuild *b, GError **error) {
        if (b->box < 0)
                return add_own_dir(b, "vartmp", "var/tmp", 01777, error);
        _cleanup_close_ int dir = openat(b->box, "tmp", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return err_set(error, errno, "/var/tmp of the box");
        _cleanup_close_ int mnt = root_clone(dir, false, PLAIN_ATTRS, error);
        return mnt >= 0 && root_attach_at(b, mnt, "var/tmp", error) && root_add_var_tmp(b, mnt, error);
}

bool root_mounts_own(RootBuild *b, GError **error) {
        return make_mask(b, error) && cover_proc(b, error) && make_dev(b, error);
}

bool root_mounts_attach_own(RootBuild *b, GError **error) {
        if (!root_attach_at(b, b->proc, "proc", error) || !root_attach_at(b, b->dev, "dev", error))
                return false;
        if (b->spec->caps.nested && !b->proc_of_host && !mount_hidden_proc(b, error))
                return false;
        return add_own_dir(b, "tmp", "tmp", 01777, error) && add_own_dir(b, "run", "run", 0755, error) &&
               mount_var_tmp(b, error);
}

bool root_mounts_attach_sys(RootBuild *b, GError **error) {
        return mount_sys(b, error) && cover_sys(b, error);
}
