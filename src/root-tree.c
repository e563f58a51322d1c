/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a directory of the host appears in the box: as an overlay, taken apart where mounts lie below it, or not at all.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: called by root-plan.c and root-home.c.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/error.h"
#include "base/fd.h"
#include "mountinfo.h"
#include "root-plan.h"

#define EXPLODE_DEPTH 16
#define SCAN_BUDGET 2000
/* Below the levels that are always looked through: entries of a directory, and all below it, that the caller may write, and of all these. */
#define LOOK_OWN 10000
#define LOOK_OWN_ALL 20000
/* The same of other directories: a start takes some 5 us for each. */
#define LOOK_OTHERS 32
#define LOOK_OTHERS_ALL 200
#define LOOK_DEPTH 64
/* A hidden name is a whiteout, and a rule for who reviews the changes (FS_RULES_MAX). */
#define LOOK_HIDDEN 2000

char *plan_join(const char *dir, const char *name) {
        return g_str_equal(dir, "/") ? g_strconcat("/", name, NULL) : g_strconcat(dir, "/", name, NULL);
}

HostPath plan_host_path(const char *path, const struct stat *st) {
        return (HostPath){ .path = g_strdup(path), .dev = st->st_dev, .ino = st->st_ino };
}

bool plan_is_hidden(const Planner *p, const char *path) {
        return g_hash_table_contains(p->hidden, path);
}

bool plan_has_mount_below(const Planner *p, const char *path) {
        for (guint i = 0; i < p->mounts->len; i++)
                if (path_is_below(g_ptr_array_index(p->mounts, i), path))
                        return true;
        return false;
}

static bool in_group(const Planner *p, gid_t gid) {
        for (int i = 0; i < p->n_groups; i++)
                if (gid == p->groups[i])
                        return true;
        return false;
}

/* "The eyes of any other user": what is the caller's own and closed to others stays out of the box. */
bool plan_closed_to_others(const Planner *p, const struct stat *st) {
        if (st->st_uid != p->spec->caller.uid && !in_group(p, st->st_gid))
                return false;
        mode_t need = S_ISDIR(st->st_mode) ? S_IROTH | S_IXOTH : S_IROTH;
        return (st->st_mode & need) != need;
}

/* The caller, and so the payload, may write this file, or make names in this directory. */
bool plan_caller_may_write(const Planner *p, const struct stat *st) {
        if (st->st_uid == p->spec->caller.uid)
                return st->st_mode & S_IWUSR;
        if (st->st_mode & S_IWOTH)
                return true;
        return (st->st_mode & S_IWGRP) && in_group(p, st->st_gid);
}

/* A directory that is being listed. A run lists some dozens: readdir(3) would take four system calls and 32 KiB more for each. */
typedef struct {
        int fd, errnum; /* why it ended before its end, or 0 */
        size_t pos, len;
        alignas(struct dirent64) char buf[4096];
} Listing;

static bool listing_open(Listing *l, int dirfd, const char *name) {
        l->pos = l->len = 0;
        l->errnum = 0;
        l->fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return l->fd >= 0;
}

/* The next entry but "." and ".."; NULL at the end, and where the rest cannot be read: errnum says so. Valid until the next call. */
static const struct dirent64 *listing_next(Listing *l) {
        for (;;) {
                if (l->pos >= l->len) {
                        ssize_t n = getdents64(l->fd, l->buf, sizeof l->buf);
                        if (n <= 0) {
                                l->errnum = n < 0 ? errno : 0;
                                return NULL;
                        }
                        l->pos = 0;
                        l->len = (size_t) n;
                }
                const struct dirent64 *d = (const struct dirent64 *) (l->buf + l->pos);
                l->pos += d->d_reclen;
                if (!g_str_equal(d->d_name, ".") && !g_str_equal(d->d_name, ".."))
                        return d;
        }
}

static void listing_close(Listing *l) {
        fd_closep(&l->fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Listing, listing_close)

static bool is_empty_dir(int fd, const char *host, const struct stat *st, bool *ret, GError **error) {
        g_auto(Listing) l = { .fd = -1 };

        *ret = false;
        if (st->st_nlink > 2) /* it has directories (btrfs says 1 of all: then the listing tells) */
                return true;
        if (!listing_open(&l, fd, "."))
                return err_set(error, errno, "list %s", host);
        *ret = !listing_next(&l);
        return l.errnum == 0 || err_set(error, l.errnum, "list %s", host);
}

/*
 * File systems that are windows on the kernel and no files: the box has its own, or none. Also overlayfs refuses most as layers.
 */
static bool is_kernel_fs(int fd) {
        static const long magics[] = {
                PROC_SUPER_MAGIC,
                SYSFS_MAGIC,
                CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC,
                DEVPTS_SUPER_MAGIC,
                DEBUGFS_MAGIC,
                TRACEFS_MAGIC,
                BPF_FS_MAGIC,
                SECURITYFS_MAGIC,
                BINFMTFS_MAGIC,
                0x62656570 /* configfs */,
                EFIVARFS_MAGIC,
                PSTOREFS_MAGIC,
                NSFS_MAGIC,
                SELINUX_MAGIC,
                0x19800202 /* mqueue */,
        };
        struct statfs fs;
        if (fstatfs(fd, &fs) < 0) /* then it is taken for one: less is to be seen of it */
                return true;
        for (size_t i = 0; i < G_N_ELEMENTS(magics); i++)
                if ((long) fs.f_type == magics[i])
                        return true;
        return false;
}

/*
 * How deep a top directory is looked through. What the distribution's packages own is not: nobody's private files are there, and
 * /usr alone has more entries than a run has time for. Elsewhere people put things at the top, in /opt and /srv below a name.
 */
static int scan_depth(const Planner *p, const char *box) {
        static const char *const unscanned[] = { "/usr", "/etc", "/boot", NULL }, *const by_name[] = { "/opt", "/srv",
                                                                                                       NULL };
        if (p->spec->caller.uid == 0 && g_str_equal(box, "/etc")) /* /etc/shadow and its kin are this caller's own */
                return EXPLODE_DEPTH;
        return g_strv_contains(unscanned, box) ? 0 : g_strv_contains(by_name, box) ? 2 : 1;
}

/* Programs and libraries. */
static bool is_packaged(const char *box) {
        static const char *const dirs[] = { "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", NULL };
        return g_strv_contains(dirs, box);
}

/* Package managers' own, large and without anything of a user's. */
static bool is_package_data(const char *host) {
        static const char *const dirs[] = { "/nix", "/gnu", "/snap", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/flatpak", "/var/lib/rpm", "/var/lib/snapd",
                                            "/var/cache/apt", NULL };
        return is_packaged(host) || g_strv_contains(dirs, host);
}

/* Services' own: a user's place there is a directory at the top. */
static bool is_services_state(const char *host) {
        return path_is_at_or_below(host, "/var/lib") || path_is_at_or_below(host, "/var/cache");
}

/* Home and working directory are planned by themselves, with the caller's own eyes. */
static bool is_own_place(const Planner *p, const char *host) {
        return g_str_equal(host, p->spec->caller.home) || (g_str_equal(host, p->spec->caller.cwd) && plan_cwd_is_shown(p));
}

static bool leads_to_own_place(const Planner *p, const char *host) {
        return path_is_at_or_below(p->spec->caller.home, host) || (path_is_at_or_below(p->spec->caller.cwd, host) && plan_cwd_is_shown(p));
}

/* One of the user's mounts is there in its stead. */
static bool is_given(const Planner *p, const char *host) {
        for (guint i = 0; i < p->spec->mount.ops->len; i++) {
                const MountOp *op = g_ptr_array_index(p->spec->mount.ops, i);
                if (op->dst && path_is_at_or_below(host, op->dst))
                        return true;
        }
        return false;
}

/* It does not exist in the box; what leads to the home or the working directory does, and in it nothing else. */
static void leave_out(Planner *p, const char *host, mode_t mode) {
        if (S_ISDIR(mode) && leads_to_own_place(p, host))
                plan_add_node(p, ROOT_OVERLAY, host, mode & 0777)->has_layer = true;
        else
                g_hash_table_add(p->hidden, g_strdup(host));
}

/* What the caller may not list, or what has gone meanwhile, has nothing to hide; else nothing may be missed. */
static bool scan_failed(const char *host, int errnum, GError **error) {
        return errnum == EACCES || errnum == ENOENT || err_set(error, errnum, "look through %s", host);
}

/* 1: *st is that of an entry that is neither a symlink nor gone. 0: of none. -1: with *error. */
static int scan_stat(int dirfd, const struct dirent64 *d, const char *child, struct stat *st, GError **error) {
        if (d->d_type == DT_LNK)
                return 0;
        if (fstatat(dirfd, d->d_name, st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
                return scan_failed(child, errno, error) ? 0 : -1;
        return S_ISLNK(st->st_mode) ? 0 : 1;
}

void plan_look_begin(Planner *p) {
        p->look_own = LOOK_OWN_ALL;
        p->look_others = LOOK_OTHERS_ALL;
        p->look_hidden = LOOK_HIDDEN;
}

/* Root's files are all the caller's own where root calls: that says nothing. */
static bool may_hold_own(const Planner *p, const struct stat *st) {
        return p->spec->caller.uid != 0 && plan_caller_may_write(p, st);
}

static bool is_looked_at(const Planner *p, const char *host) {
        return !is_own_place(p, host) && !is_given(p, host) && !is_package_data(host);
}

typedef struct {
        bool over; /* not all could be looked at */
        int left;  /* entries */
} Look;

static bool look_through(Planner *p, int dirfd, const char *name, const char *host, int depth, Look *look, GError **error) {
        g_auto(Listing) dir = { .fd = -1 };

        if (depth >= LOOK_DEPTH) {
                look->over = true;
                return true;
        }
        if (!listing_open(&dir, dirfd, name))
                return scan_failed(host, errno, error);
        for (const struct dirent64 *d; !look->over && (d = listing_next(&dir));) {
                struct stat st;
                g_autofree char *child = plan_join(host, d->d_name);
                look->over = look->left-- <= 0;
                if (look->over || !is_looked_at(p, child))
                        continue;
                int there = scan_stat(dir.fd, d, child, &st, error);
                if (there < 0)
                        return false;
                if (there && plan_closed_to_others(p, &st)) {
                        look->over = p->look_hidden-- <= 0;
                        leave_out(p, child, st.st_mode);
                } else if (there && S_ISDIR(st.st_mode) && !look_through(p, dir.fd, d->d_name, child, depth + 1, look, error))
                        return false;
        }
        return dir.errnum == 0 || err_set(error, dir.errnum, "list %s", host);
}

/* A directory that the caller may write. Where it cannot be looked through for its size it is left out: there are likely to be private files in it. */
static bool look_at_own(Planner *p, int dirfd, const char *name, const char *host, const struct stat *st, GError **error) {
        int most = MIN(LOOK_OWN, p->look_own);
        Look look = { .left = most };

        if (!look_through(p, dirfd, name, host, 0, &look, error))
                return false;
        p->look_own -= most - MAX(look.left, 0);
        if (look.over) {
                leave_out(p, host, st->st_mode);
                g_ptr_array_add(p->left_out, g_strdup(host));
        }
        return true;
}

/* One that the caller may not write: there is hardly anything of the caller's in it, but for directories that are the caller's, so a few names are looked
 * at, level by level. What is not found keeps the host's permissions. */
static bool look_at_others(Planner *p, int dirfd, const char *name, const char *host, GError **error) {
        g_autoptr(GPtrArray) dirs = g_ptr_array_new_with_free_func(g_free); /* below host */
        int most = MIN(LOOK_OTHERS, p->look_others), left = most;
        bool ok = true;
        _cleanup_close_ int top = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (top < 0)
                return scan_failed(host, errno, error);
        g_ptr_array_add(dirs, g_strdup("."));
        for (guint i = 0; ok && i < dirs->len && left > 0; i++) {
                const char *below = g_ptr_array_index(dirs, i);
                g_auto(Listing) dir = { .fd = -1 };
                g_autofree char *here = i == 0 ? g_strdup(host) : plan_join(host, below);
                if (!listing_open(&dir, top, below)) {
                        ok = scan_failed(here, errno, error);
                        continue;
                }
                for (const struct dirent64 *d; ok && left > 0 && (d = listing_next(&dir));) {
                        struct stat st;
                        g_autofree char *child = plan_join(here, d->d_name);
                        int there = is_looked_at(p, child) ? scan_stat(dir.fd, d, child, &st, error) : 0;
                        left--;
                        ok = there >= 0;
                        if (there == 1 && plan_closed_to_others(p, &st))
                                leave_out(p, child, st.st_mode);
                        else if (there == 1 && S_ISDIR(st.st_mode) && may_hold_own(p, &st))
                                ok = look_at_own(p, dir.fd, d->d_name, child, &st, error);
                        else if (there == 1 && S_ISDIR(st.st_mode) && !is_services_state(host))
                                g_ptr_array_add(dirs, i == 0 ? g_strdup(d->d_name) : plan_join(below, d->d_name));
                }
                ok = ok && (dir.errnum == 0 || err_set(error, dir.errnum, "list %s", here));
        }
        p->look_others -= most - left;
        return ok;
}

static bool look_below(Planner *p, int dirfd, const char *name, const char *host, const struct stat *st, GError **error) {
        if (!is_looked_at(p, host))
                return true;
        return may_hold_own(p, st) ? look_at_own(p, dirfd, name, host, st, error) : look_at_others(p, dirfd, name, host, error);
}

/*
 * What lies in a tree outside of home and working directory: hide what is the caller's own and private, and find out, so many levels deep, whether
 * there is anything that the payload may write. The kernel's overlay has no way to ask about each file when it is opened; in a tree without
 * anything writable in these levels it is read-only (ARCHITECTURE.md, Root). A tree of more entries than budget counts as writable.
 */
typedef struct {
        bool writable;
        int budget;
} TreeScan;

static bool scan_tree(Planner *p, int dirfd, const char *name, const char *host, int depth, TreeScan *scan, GError **error) {
        g_auto(Listing) dir = { .fd = -1 };

        if (depth == 0)
                return true;
        if (!listing_open(&dir, dirfd, name))
                return scan_failed(host, errno, error);
        for (const struct dirent64 *d; (d = listing_next(&dir));) {
                struct stat st;
                if (d->d_type == DT_LNK)
                        continue;
                if (scan->budget-- <= 0)
                        scan->writable =
                                true; /* and on: what is private is hidden, wherever it stands in the listing */
                g_autofree char *child = plan_join(host, d->d_name);
                int there = scan_stat(dir.fd, d, child, &st, error);
                if (there < 0)
                        return false;
                if (!there || g_strv_contains(root_own_dirs, child))
                        continue;
                bool closed = plan_closed_to_others(p, &st) && !is_own_place(p, child);
                if (!closed && plan_caller_may_write(p, &st))
                        scan->writable = true;
                if (closed) {
                        leave_out(p, child, st.st_mode);
                } else if (S_ISDIR(st.st_mode)) {
                        bool ok = depth > 1 ? is_own_place(p, child) || scan_tree(p, dir.fd, d->d_name, child, depth - 1, scan, error)
                                            : look_below(p, dir.fd, d->d_name, child, &st, error);
                        if (!ok)
                                return false;
                }
        }
        return dir.errnum == 0 || err_set(error, dir.errnum, "list %s", host);
}

/* A directory with a mount below it: a directory of the skeleton, each entry planned by itself. */
bool plan_apart(Planner *p, int fd, const char *host, const char *box, bool others_eyes, int depth, GError **error) {
        g_auto(Listing) dir = { .fd = -1 };
        bool ok = true;

        if (depth >= EXPLODE_DEPTH)
                return err_set(error, ELOOP, "%s: mounts nested too deeply", host);
        if (!listing_open(&dir, fd, "."))
                return err_set(error, errno, "list %s", host);
        for (const struct dirent64 *d; ok && (d = listing_next(&dir));) {
                g_autofree char *child = plan_join(host, d->d_name);
                g_autofree char *box_child = plan_join(box, d->d_name);
                if (g_strv_contains(root_own_dirs, box_child) || g_str_equal(d->d_name, "lost+found"))
                        continue;
                ok = plan_tree(p, child, box_child, others_eyes, depth + 1, error);
        }
        return ok && (dir.errnum == 0 || err_set(error, dir.errnum, "list %s", host));
}

bool plan_symlink(Planner *p, const char *host, const char *box, GError **error) {
        g_autofree char *target = g_file_read_link(host, NULL);
        if (!target)
                return err_set(error, errno, "readlink %s", host);
        plan_add_node(p, ROOT_SYMLINK, box, 0777)->target = g_steal_pointer(&target);
        return true;
}

/* After access(2): false where it is not for want of a right. */
static bool not_for_the_caller(const char *host, GError **error) {
        return errno == EACCES || errno == EPERM || errno == ENOENT || err_set(error, errno, "%s", host);
}

/*
 * The host's host shall appear as box. Hidden, private (others_eyes) and special files are left out; a directory
 * that the caller cannot enter is there but empty.
 */
bool plan_tree(Planner *p, const char *host, const char *box, bool others_eyes, int depth, GError **error) {
        struct stat st;

        if (plan_is_hidden(p, host))
                return true;
        if (g_str_equal(host, p->spec->caller.cwd) && plan_cwd_is_shown(p))
                others_eyes = false;
        _cleanup_close_ int fd = open(host, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                if (errno == ENOENT || errno == EACCES)
                        return true;
                return err_set(error, errno, "%s", host);
        }
        if (S_ISLNK(st.st_mode))
                return plan_symlink(p, host, box, error);
        if (others_eyes && plan_closed_to_others(p, &st))
                return true;
        if (S_ISREG(st.st_mode)) {
                if (access(host, R_OK) < 0)
                        return not_for_the_caller(host, error);
                plan_add_node(p, ROOT_FILE, box, st.st_mode & 0777)->host = plan_host_path(host, &st);
                return true;
        }
        if (!S_ISDIR(st.st_mode))
                return true;

        if (st.st_dev != p->root_dev && is_kernel_fs(fd)) {
                plan_add_node(p, ROOT_DIR, box, 0555);
                return true;
        }
        if (faccessat(fd, ".", R_OK | X_OK, 0) < 0) {
                if (!not_for_the_caller(host, error))
                        return false;
                plan_add_node(p, ROOT_DIR, box, 0);
                return true;
        }
        bool empty = false;
        if (others_eyes && !is_empty_dir(fd, host, &st, &empty, error))
                return false;
        if (empty) { /* /mnt, /srv, ...: an overlay of nothing */
                plan_add_node(p, ROOT_DIR, box, st.st_mode & 01777);
                return true;
        }
        if (plan_has_mount_below(p, host)) {
                /* Inside another overlay (a home in /var, say) a directory alone would let that one's files shine through. */
                bool covers = root_plan_carrier(p->plan, box + 1)->host.path;
                plan_add_node(p, covers ? ROOT_OVERLAY : ROOT_DIR, box, st.st_mode & 01777)->has_layer = covers;
                return plan_apart(p, fd, host, box, others_eyes, depth, error);
        }
        RootNode *node = plan_add_node(p, ROOT_OVERLAY, box, st.st_mode & 01777);
        node->host = plan_host_path(host, &st);
        node->packaged = others_eyes && is_packaged(box);
        if (others_eyes) {
                TreeScan scan = { .writable = plan_caller_may_write(p, &st) || p->spec->user.uid == 0,
                                  .budget = SCAN_BUDGET };
                if (!scan_tree(p, fd, ".", host, scan_depth(p, box), &scan, error))
                        return false;
                node->read_only = !scan.writable;
        }
        return true;
}

/* Directories of the skeleton down to box_path (exclusive), where no node or overlay has them yet. */
void plan_parents(Planner *p, const char *box_path) {
        for (const char *slash = strchr(box_path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *parent = g_strndup(box_path, (size_t) (slash - box_path));
                const RootNode *node = root_plan_node_for(p->plan, parent + 1);
                if (g_str_equal(node->path, parent + 1) || (p->rules && plan_fuse_has(p, parent)))
                        continue;
                if (node->kind == ROOT_OVERLAY)
                        plan_add_entry(p, LAYER_DIR, parent)->mode = 0755;
                else
                        plan_add_node(p, ROOT_DIR, parent, 0755);
        }
}
