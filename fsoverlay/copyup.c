/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copy-up: a file of a lower layer gets a place in the upper, just before it is changed.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any; one copy-up of a file at a time (its copy-up
 * lock), the last step under Fs.tree for writing, so that no lookup sees half of it.
 *
 * Everything is made whole in work/ and renamed into place. So whenever usbox-fs is killed, the upper has the file as it was or
 * as it was to become; what is left in work/ is removed at the next start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"
#include "fsoverlay/fs.h"

/* Labels and rights are the system's to give; overlayfs leaves its own marks where they are, too. */
static bool goes_along(const char *name) {
        return xattr_is_acl(name) || (g_str_has_prefix(name, "user.") && !g_str_has_prefix(name, XATTR_PRIVATE));
}

/* Those of the names, list, that are ACLs, or the others. */
static int copy_listed_xattrs(Fs *fs, int from, int to, const char *list, ssize_t len, bool acls) {
        char value[4096];
        g_autofree char *more_value = NULL;
        const Place target = { .dir = -1, .fd = to };

        for (ssize_t at = 0; at < len; at += (ssize_t) strlen(list + at) + 1) {
                const char *name = list + at;
                if (!goes_along(name) || xattr_is_acl(name) != acls)
                        continue;
                char *v = value;
                ssize_t size = fgetxattr(from, name, value, sizeof value);
                if (size < 0 && errno == ERANGE) {
                        if (!more_value)
                                more_value = g_malloc(XATTR_SIZE_MAX);
                        v = more_value;
                        size = fgetxattr(from, name, v, XATTR_SIZE_MAX);
                }
                if (size < 0 && errno == ENODATA)
                        continue;
                if (size < 0)
                        return -errno;
                int r = xattr_set_place(fs, &target, name, v, (size_t) size, 0);
                if (r < 0 && r != -EOPNOTSUPP)
                        return r;
        }
        return 0;
}

/* An ACL, which may take the right to write from the owner, comes last: attributes of the kind user.* ask for it. */
static int copy_up_xattrs(Fs *fs, int from, int to) {
        char names[4096];
        g_autofree char *more_names = NULL;
        char *list = names;

        ssize_t n = flistxattr(from, names, sizeof names);
        if (n < 0 && errno == ERANGE) {
                more_names = g_malloc(XATTR_LIST_MAX);
                list = more_names;
                n = flistxattr(from, list, XATTR_LIST_MAX);
        }
        if (n < 0)
                return errno == EOPNOTSUPP || errno == EBADF ? 0 : -errno;
        int r = copy_listed_xattrs(fs, from, to, list, n, false);
        return r < 0 ? r : copy_listed_xattrs(fs, from, to, list, n, true);
}

/* An ACL, which can be asked for where nothing can be opened. */
static int copy_acl(Fs *fs, const Place *from, const Place *to, const char *name) {
        char small[4096], *acl = small;
        g_autofree char *large = NULL;

        int n = xattr_get_place(fs, from, name, small, sizeof small);
        if (n == -ERANGE) {
                acl = large = g_malloc(XATTR_SIZE_MAX);
                n = xattr_get_place(fs, from, name, large, XATTR_SIZE_MAX);
        }
        int r = n > 0 ? xattr_set_place(fs, to, name, acl, (size_t) n, 0) : 0;
        return r == -EOPNOTSUPP ? 0 : r;
}

static int finish_meta(Fs *fs, int fd, const struct stat *st) {
        const struct timespec times[2] = { st->st_atim, st->st_mtim };

        int r = own_like(fs, -1, NULL, fd, st);
        if (r < 0)
                return r;
        r = up_chmod(fs, -1, NULL, fd, mode_like(fs, st));
        if (r < 0)
                return r;
        if (futimens(fd, times) < 0 && (!fs->agent || (r = agent_utimens(fs->agent, -1, NULL, fd, times)) < 0))
                return fs->agent ? r : -errno;
        return 0;
}

/* Into place, under the name that it has; the directory keeps its times. Fs.tree for writing. -ERESTART: that is another name by now. */
static int put_in_place(Fs *fs, Node *node, const char *temp) {
        struct stat before;
        int r = 0;

        if (!node_is(node->parent, NODE_UPPER))
                return -ERESTART;
        Fd *dir = fd_dir(fs, node->parent, LAYER_UPPER, &r);

        if (!dir)
                return r;
        bool timed = fstat(dir->fd, &before) == 0;
        Growth growth = growth_begin(fs, dir->fd);
        r = up_rename(fs, fs->work, temp, dir->fd, node_name(node), RENAME_NOREPLACE);
        if (r == -EEXIST)
                r = -ESTALE; /* it is another file's, which took its place in the lower, and was copied up */
        growth_end(fs, &growth);
        if (r == 0 && timed)
                keep_times(fs, dir->fd, &before);
        if (r == 0)
                dir_changed(node->parent); /* a listing at work knows the name as one of a lower */
        fd_put(fs, dir);
        return r;
}

/* One that was removed has its copy without a name as well: whoever has it open may go on to change its attributes. Fs.tree for writing. */
static int put_nameless(Fs *fs, Node *node, const char *temp, int fd) {
        int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        int r = kept < 0 ? -errno : up_unlink(fs, fs->work, temp, AT_REMOVEDIR);

        if (r < 0) {
                fd_closep(&kept);
                return r;
        }
        Fd *f = fd_add(fs, node, kept, LAYER_UPPER, true, false, true);
        if (!f)
                return -ENOMEM;
        fd_put(fs, f);
        fd_drop_layer(fs, node, node->layer);
        return 0;
}

/* Which file of the lower that is a copy of. */
static int note_origin(int fd, uint64_t ino) {
        char text[32];

        (void) g_snprintf(text, sizeof text, "%" PRIu64, ino);
        return fsetxattr(fd, XATTR_INO, text, strlen(text), 0) < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

static int copy_up_dir(Fs *fs, Node *node) {
        char temp[32];
        struct stat st = { 0 };
        Place p;

        pthread_rwlock_rdlock(&fs->tree);
        int r = place_get_stat(fs, node, &p, &st);
        pthread_rwlock_unlock(&fs->tree);
        if (r < 0)
                return r;
        temp_name(fs, temp);
        /* One of the caller's that shuts out its owner: the agent may read it, where it may read lowers at all. Of what else is closed the ACLs can be
         * copied, and no more. */
        int at = p.dir >= 0 ? p.dir : p.fd;
        _cleanup_close_ int from = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (from < 0 && errno == EACCES && fs->agent)
                from = agent_open(fs->agent, at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        _cleanup_close_ int fd = -1;
        if (mkdirat(fs->work, temp, 0700) < 0 || (fd = openat(fs->work, temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
                r = -errno;
        const Place made = { .dir = -1, .fd = fd };
        if (r == 0)
                r = note_origin(fd, st.st_ino); /* nobody here asks for it: usbox commit does */
        if (r == 0 && from >= 0)
                r = copy_up_xattrs(fs, from, fd);
        else if (r == 0 && (r = copy_acl(fs, &p, &made, XATTR_ACL_DEFAULT)) == 0)
                r = copy_acl(fs, &p, &made, XATTR_ACL_ACCESS);
        place_put(fs, &p);
        if (r == 0)
                r = finish_meta(fs, fd, &st);
        if (r == 0) {
                pthread_rwlock_wrlock(&fs->tree);
                r = node->parent ? put_in_place(fs, node, temp) : put_nameless(fs, node, temp, fd);
                if (r == 0 && fstat(fd, &st) == 0) {
                        usage_add(fs, &st);
                        node_rekey(fs, node, &st);
                        node_set(node, NODE_UPPER | NODE_FRESH);
                }
                pthread_rwlock_unlock(&fs->tree);
        }
        if (r < 0)
                (void) up_unlink(fs, fs->work, temp, AT_REMOVEDIR);
        return r;
}

/* The mode, set-id bits aside, and an ACL. */
static int copy_special_rights(Fs *fs, const Place *p, const struct stat *st, const char *temp) {
        Place made = { .dir = fs->work };

        g_strlcpy(made.name, temp, sizeof made.name);
        int r = up_chmod(fs, fs->work, temp, -1, st->st_mode & 01777);
        return r < 0 ? r : copy_acl(fs, p, &made, XATTR_ACL_ACCESS);
}

/* What is no regular file and no directory. */
static int copy_special(Fs *fs, const Place *p, const struct stat *st, const char *temp) {
        char target[PATH_MAX];
        const struct timespec times[2] = { st->st_atim, st->st_mtim };
        int r;

        if (S_ISLNK(st->st_mode)) {
                ssize_t n = p->dir >= 0 ? readlinkat(p->dir, p->name, target, sizeof target - 1) : readlinkat(p->fd, "", target, sizeof target - 1);
                if (n < 0)
                        return -errno;
                target[n] = '\0';
                r = symlinkat(target, fs->work, temp) < 0 ? -errno : 0;
        } else {
                r = up_mknod(fs, fs->work, temp, st->st_mode & (S_IFMT | 0777), st->st_rdev);
        }
        if (r == 0)
                r = own_like(fs, fs->work, temp, -1, st);
        if (r == 0 && !S_ISLNK(st->st_mode))
                r = copy_special_rights(fs, p, st, temp);
        if (r == 0 && utimensat(fs->work, temp, times, AT_SYMLINK_NOFOLLOW) < 0)
                r = fs->agent ? agent_utimens(fs->agent, fs->work, temp, -1, times) : -errno;
        return r;
}

/*
 * A lower file that is closed to us, of which nothing is to be copied: it is empty (dpkg's and apt's locks are), or is about to be.
 * One with an ACL is not taken for its mode alone.
 */
static bool nothing_to_read(Fs *fs, Node *node, off_t size) {
        Place p;

        if (size > 0)
                return false;
        pthread_rwlock_rdlock(&fs->tree);
        int r = place_get(fs, node, &p);
        if (r == 0) {
                r = xattr_get_place(fs, &p, XATTR_ACL_ACCESS, NULL, 0);
                place_put(fs, &p);
        }
        pthread_rwlock_unlock(&fs->tree);
        return r == -ENODATA || r == -EOPNOTSUPP;
}

static off_t wanted(const struct stat *st, int64_t keep) {
        return keep >= 0 && keep < st->st_size ? keep : st->st_size;
}

/*
 * The file itself, and what it is: its name may lead to another one by now. *st: what that says. As large as the kernel thinks, who is about to
 * write as if it were. *ret_fd is NULL where there is nothing to read; else *ret_stamp is what it is now.
 */
static int open_regular(Fs *fs, Node *node, struct stat *st, int64_t keep, Fd **ret_fd, uint64_t *ret_stamp) {
        int r = -ESTALE;
        Fd *f = *ret_fd = node_is(node, NODE_NAMELESS) ? fd_pinned(fs, node) : fd_file(fs, node, false, &r);

        if (!f)
                return r == -EACCES && nothing_to_read(fs, node, wanted(st, keep)) ? 0 : r;
        r = f->path ? -EACCES : fstat(f->fd, st) < 0 ? -errno : 0;
        *ret_stamp = told_stamp_of(st);
        if (r == 0 && fs->writeback && keep != 0) {
                off_t told = told_size(node);
                r = st->st_size < told ? -ESTALE : 0;
                st->st_size = told;
        }
        if (r < 0)
                fd_put(fs, g_steal_pointer(ret_fd));
        return r;
}

/* What a copy of the first size bytes may take: holes stay holes. NULL: there is nothing to read. */
static guint64 data_size(const Fd *from, off_t size) {
        guint64 sum = 0;

        for (off_t at = 0; from && at < size;) {
                off_t data = lseek(from->fd, at, SEEK_DATA);
                if (data < 0 && errno != ENXIO)
                        return (guint64) size; /* a file system that knows of no holes */
                off_t hole = data < 0 || data >= size ? -1 : lseek(from->fd, data, SEEK_HOLE);
                if (hole < 0)
                        break;
                at = MIN(hole, size);
                sum += usage_ceil((guint64) at) - usage_floor((guint64) data);
        }
        return sum;
}

/* *st becomes what it was when it was copied. */
static int copy_regular(Fs *fs, Node *node, Fd *from, struct stat *st, const char *temp, int64_t keep, int *ret_fd) {
        const off_t size = wanted(st, keep);
        const guint64 reserved = fs->quota ? data_size(from, size) : 0;
        int r = 0;

        *ret_fd = -1;
        if (!usage_reserve(fs, reserved))
                return -ENOSPC;
        int fd = openat(fs->work, temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                r = -errno;
        if (r == 0 && from)
                r = copy_settled(from->fd, fd, size, size == st->st_size, st);
        if (r == 0)
                r = note_origin(fd, node->ino);
        if (r == 0 && from)
                r = copy_up_xattrs(fs, from->fd, fd);
        if (r == 0)
                r = finish_meta(fs, fd, st);
        /* Names reach the disk before data does: without this a power cut could leave an empty copy in the place of what nobody had meant to change. */
        if (r == 0 && size > 0 && !fs->fsync_ignored && fsync(fd) < 0)
                r = -errno;
        struct stat now;
        if (fs->quota) {
                if (r == 0 && fstat(fd, &now) == 0)
                        quota_adjust(fs->quota, (gint64) now.st_blocks * 512 - (gint64) reserved);
                else
                        quota_release(fs->quota, reserved);
        }
        if (r < 0 && fd >= 0)
                close(fd);
        else
                *ret_fd = fd;
        return r;
}

/* The other names that are known get their place in the upper as well: so the upper says by itself what the box changed. */
static void put_aliases(Fs *fs, Node *node) {
        unsigned placed = 0;
        char key[LINKS_NAME_MAX];

        links_name(key, "", node->ino);
        for (Alias *a = node->aliases; a; a = a->next) {
                int r = 0;
                Fd *dir = node_is(a->parent, NODE_UPPER) ? fd_dir(fs, a->parent, LAYER_UPPER, &r) : NULL;
                struct stat before;
                Growth growth = growth_begin(fs, dir ? dir->fd : -1);
                if (dir && fstat(dir->fd, &before) == 0 && up_link(fs, fs->links, key, dir->fd, a->name) == 0) {
                        growth_end(fs, &growth);
                        placed++;
                        keep_times(fs, dir->fd, &before);
                        dir_changed(a->parent);
                }
                fd_put(fs, dir);
        }
        uint64_t left;
        if (links_left(fs, node->ino, &left))
                (void) links_set_number(fs, LINKS_LEFT, node->ino, left > placed ? left - placed : 0);
}

/*
 * A file of several names: its copy stands for all, by an entry of the index. Where the one that led to it was removed, by that alone. Fs.tree for writing.
 * How many names are the lower's comes first: with too small a number, as of one that was killed, the entry would go while some are still there.
 */
static int put_in_index(Fs *fs, Node *node, const char *temp, nlink_t names, const char *which) {
        const nlink_t removed = links_removed(fs, node->ino);
        const uint64_t left = names > removed ? names - removed : 0;
        bool placed = node->parent != NULL;
        int r = links_set_number(fs, LINKS_LEFT, node->ino, left);

        if (r == 0)
                r = links_add(fs, node->ino, which, temp);
        if (r == 0 && (r = placed ? put_in_place(fs, node, temp) : up_unlink(fs, fs->work, temp, 0)) < 0)
                links_drop(fs, node->ino);
        if (r < 0) {
                (void) links_set_number(fs, LINKS_LEFT, node->ino, 0);
                return r;
        }
        if (placed && left > 0) /* this one is in the upper now; those that were removed are nowhere */
                (void) links_set_number(fs, LINKS_LEFT, node->ino, left - 1);
        node_set(node, NODE_INDEXED | NODE_LINKS);
        put_aliases(fs, node);
        return 0;
}

/* A copy that is finished: a name in work/, and a regular file's descriptor. */
typedef struct {
        char temp[32];
        int fd;
        struct stat st;     /* of what it is a copy of */
        Fd *from;           /* borrowed: its data, where there is some to copy */
        uint64_t stamp;     /* that had when the copy was begun (told.c) */
        const char *which;  /* links_which() of that, where it has several names */
} Copy;

/* The copy becomes the node's file. Takes the descriptor. */
static int become(Fs *fs, Node *node, Copy *copy) {
        struct stat now;

        if (fstatat(fs->work, copy->temp, &now, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        atomic_store(&fs->origins, true);
        pthread_rwlock_wrlock(&fs->tree);
        bool nameless = !node->parent;
        const nlink_t names = copy->st.st_nlink;
        int r;
        if (names > 1 && (!nameless || names > links_removed(fs, node->ino)))
                r = put_in_index(fs, node, copy->temp, names, copy->which);
        else if (nameless)
                r = copy->fd < 0 ? -ESTALE : up_unlink(fs, fs->work, copy->temp, 0);
        else
                r = put_in_place(fs, node, copy->temp);
        if (r == 0 && !S_ISREG(node_type(node))) {
                usage_add(fs, &now);
                (void) links_set_number(fs, LINKS_ORIGIN, now.st_ino, node->ino);
        }
        if (r == 0) {
                unsigned old = node->layer;
                node_rekey(fs, node, &now);
                Fd *f = copy->fd >= 0 ? fd_add(fs, node, fd_steal(&copy->fd), LAYER_UPPER, false, true, nameless) : NULL;
                fd_put(fs, f);
                if (copy->from)
                        told_copied(fs, node, copy->from->fd, copy->stamp);
                else
                        node_set(node, NODE_UPPER | NODE_FRESH);
                if (old != LAYER_UPPER)
                        fd_drop_layer(fs, node, old);
        }
        pthread_rwlock_unlock(&fs->tree);
        return r;
}

static int copy_up_file(Fs *fs, Node *node, int64_t keep) {
        Copy copy = { .fd = -1 };
        Fd *from = NULL;
        Place p;

        pthread_rwlock_rdlock(&fs->tree);
        int r = place_get(fs, node, &p);
        if (r == 0 && (r = lower_stat(fs, node, &p, &copy.st)) < 0)
                place_put(fs, &p);
        pthread_rwlock_unlock(&fs->tree);
        if (r < 0)
                return r;
        bool replaced = r == 1;
        temp_name(fs, copy.temp);
        /* Its inode number goes with the copy. */
        r = fs_dev_keep(fs, node->key_dev);
        if (r == 0 && S_ISREG(node_type(node)))
                r = open_regular(fs, node, &copy.st, keep, &from, &copy.stamp);
        bool linked = r == 0 && copy.st.st_nlink > 1;
        g_autofree char *which = linked && from ? links_which(from->fd, "") : linked && p.dir >= 0 ? links_which(p.dir, p.name) : NULL;
        copy.which = which;
        if (r == 0)
                r = S_ISREG(node_type(node)) ? copy_regular(fs, node, from, &copy.st, copy.temp, keep, &copy.fd) : copy_special(fs, &p, &copy.st, copy.temp);
        place_put(fs, &p);
        copy.from = keep != 0 ? from : NULL; /* of none at all the kernel has no pages either */
        if (r == 0)
                r = become(fs, node, &copy);
        fd_put(fs, from);
        /* Who looked the name up when it led to another file, or to what this one became, is to find the copy. */
        if (r == 0 && (replaced || node_is(node, NODE_CHANGED)))
                notify_replaced(fs, node);
        if (r < 0)
                (void) up_unlink(fs, fs->work, copy.temp, 0);
        fd_closep(&copy.fd);
        return r;
}

/* The topmost of node and those above it that is not in the upper: its parent is, so that it has a place there. A reference more. */
static Node *first_below_upper(Fs *fs, Node *node) {
        pthread_rwlock_rdlock(&fs->tree);
        while (node->parent && !node_is(node->parent, NODE_UPPER))
                node = node->parent;
        node_ref(node);
        pthread_rwlock_unlock(&fs->tree);
        return node;
}

int copy_up(Fs *fs, Node *node, int64_t keep_size) {
        if (fs->read_only)
                return -EROFS;
        /* No recursion: the lower may be deep. */
        while (!node_is(node, NODE_UPPER)) {
                Node *at = first_below_upper(fs, node);
                int r = 0;
                take_umask(0); /* whatever the one was that made a file before: what is unfinished is ours to write */
                pthread_mutex_lock(node_copy_lock(fs, at));
                if (!node_is(at, NODE_UPPER))
                        r = S_ISDIR(node_type(at)) ? copy_up_dir(fs, at) : copy_up_file(fs, at, at == node ? keep_size : -1);
                pthread_mutex_unlock(node_copy_lock(fs, at));
                node_unref(fs, at, 1);
                /* Gone on the host: so the kernel looks the name up again, and who would have it made gets a new one (do_filp_open()). */
                if (r == -ENOENT || r == -ENOTDIR)
                        r = -ESTALE;
                if (r < 0 && r != -ERESTART)
                        return r;
        }
        return 0;
}
