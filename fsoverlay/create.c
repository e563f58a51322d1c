/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations that make names: create, mkdir, mknod, symlink, tmpfile, link.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any. The kernel has one operation at a time change
 * a directory (its i_rwsem); Fs.tree is for what crosses directories.
 *
 * A new file is made in the upper's directory itself, by one call, with the caller's ids and this request's umask, so that the
 * file system below does all that POSIX asks (set-group-id directories, default ACLs). Only where that cannot be (a whiteout has the
 * name, or the owner is another id of the box) it is made in work/ and renamed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/ops.h"

/* What a new file is to be. */
typedef struct {
        mode_t mode; /* with type */
        mode_t umask;
        dev_t rdev;
        const char *target; /* of a symlink */
        int flags;          /* O_CREAT's */
} New;

static _Thread_local mode_t thread_mask = (mode_t) -1; /* not known yet */

void take_umask(mode_t mask) {
        if (thread_mask != mask)
                umask(mask);
        thread_mask = mask;
}

mode_t taken_umask(void) {
        if (thread_mask == (mode_t) -1)
                take_umask(0);
        return thread_mask;
}

/* The maker's ids, where they are not the process's own: (uint32_t) -1 where they are. Box numbers. True: both are. */
static bool owner_of(const Request *r, bool setgid_dir, uint32_t *ret_uid, uint32_t *ret_gid) {
        uid_t uid;
        gid_t gid;

        *ret_uid = *ret_gid = (uint32_t) -1;
        if (ids_uid_in(&r->fs->ids, r->head->uid, &uid) && uid != r->fs->ids.uid)
                *ret_uid = r->head->uid;
        /* In a set-group-id directory the group is the directory's, which the file system below sees to. */
        if (!setgid_dir && ids_gid_in(&r->fs->ids, r->head->gid, &gid) && gid != r->fs->ids.gid)
                *ret_gid = r->head->gid;
        return *ret_uid == (uint32_t) -1 && *ret_gid == (uint32_t) -1;
}

static int give(Fs *fs, int dir, const char *name, uint32_t uid, uint32_t gid) {
        uid_t to_uid = (uid_t) -1;
        gid_t to_gid = (gid_t) -1;

        if (uid != (uint32_t) -1)
                (void) ids_uid_in(&fs->ids, uid, &to_uid);
        if (gid != (uint32_t) -1)
                (void) ids_gid_in(&fs->ids, gid, &to_gid);
        if (fchownat(dir, name, to_uid, to_gid, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        return fs->agent ? agent_chown(fs->agent, dir, name, -1, uid, gid) : -errno;
}

/* One call that makes it; a regular file's descriptor in *ret_fd. */
static int make(Request *r, int dir, const char *name, const New *new, int *ret_fd) {
        int n;

        *ret_fd = -1;
        if (S_ISREG(new->mode)) {
                n = up_open(r->fs, dir, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, new->mode & 07777);
                if (n >= 0) {
                        *ret_fd = n;
                        n = 0;
                }
        } else if (S_ISDIR(new->mode)) {
                n = up_mkdir(r->fs, dir, name, new->mode & 07777);
        } else if (S_ISLNK(new->mode)) {
                n = up_symlink(r->fs, new->target, dir, name);
        } else {
                n = up_mknod(r->fs, dir, name, new->mode, new->rdev);
        }
        return n;
}

/* Whose it is to be: box numbers, (uint32_t) -1 where it is already. */
typedef struct {
        uint32_t uid, gid;
} Owner;

/* The mode, an ACL and the owner that temp, in work/, is to have in the directory parent. 0, or a negative errno. */
static int give_rights(Request *r, const Place *parent, const struct stat *dir_st, const char *temp, const New *new, Owner owner) {
        Fs *fs = r->fs;
        Place made = { .dir = fs->work };
        mode_t mode = new->mode & 07777;
        struct stat inherited;

        g_strlcpy(made.name, temp, sizeof made.name);
        int n = fs->acl && !S_ISLNK(new->mode) ? acl_inherit(fs, parent, &made, mode, S_ISDIR(new->mode)) : 0;
        if (n == 0 || n == -EOPNOTSUPP)
                mode &= ~new->umask;
        else if (n < 0)
                return n;
        else if (place_stat(fs, &made, &inherited) == 0)
                mode = (mode & ~(mode_t) 0777) | (inherited.st_mode & 0777); /* what the ACL made of it */
        if (S_ISDIR(new->mode) && (dir_st->st_mode & S_ISGID))
                mode |= S_ISGID;
        n = S_ISLNK(new->mode) ? 0 : up_chmod(fs, fs->work, temp, -1, mode);
        if (n < 0 || (owner.uid == (uint32_t) -1 && owner.gid == (uint32_t) -1))
                return n;
        n = give(fs, fs->work, temp, owner.uid, owner.gid);
        /* A new owner loses set-id bits. */
        if (n == 0 && (mode & (S_ISUID | S_ISGID)) && !S_ISLNK(new->mode))
                n = up_chmod(fs, fs->work, temp, -1, mode);
        return n;
}

/* In work/, with the owner that it is to have and what it inherits; then moved to its name, over a whiteout where there is one. */
static int make_apart(Request *r, const Place *parent, const struct stat *dir_st, const char *name, const New *new, bool whiteout,
                      Owner owner, int *ret_fd) {
        Fs *fs = r->fs;
        char temp[32];
        New plain = *new;

        temp_name(fs, temp);
        /* The rights come last: a file that is another's already. */
        take_umask(0);
        plain.mode = (new->mode & S_IFMT) | 0700;
        int n = make(r, fs->work, temp, &plain, ret_fd);
        if (n < 0)
                return n;
        if (dir_st->st_mode & S_ISGID)
                owner.gid = ids_group_out(&fs->ids, dir_st);
        /* While it may be written: attributes of the kind user.* ask for that. */
        if (S_ISDIR(new->mode) && dir_has_lower(r->node))
                n = xattr_set_at(fs->work, temp, XATTR_OPAQUE, "y", 1);
        if (n == 0)
                n = give_rights(r, parent, dir_st, temp, new, owner);
        if (n == 0) {
                bool swap = whiteout && S_ISDIR(new->mode); /* a directory cannot be renamed over a file */
                n = up_rename(fs, fs->work, temp, parent->dir, name, swap ? RENAME_EXCHANGE : whiteout ? 0 : RENAME_NOREPLACE);
                if (n == 0 && swap)
                        (void) up_unlink(fs, fs->work, temp, 0);
        }
        if (n < 0) {
                (void) up_unlink(fs, fs->work, temp, S_ISDIR(new->mode) ? AT_REMOVEDIR : 0);
                fd_closep(ret_fd);
                *ret_fd = -1;
        }
        return n;
}

/* What was made in the directory r->node becomes known; the descriptor *fd, where there is one, becomes its own. */
static int know_new(Request *r, const Place *parent, const char *name, const New *new, int *fd, Node **ret, struct stat *st) {
        Fs *fs = r->fs;
        Found found = { .upper = true };
        bool new_name;

        int n = *fd < 0 ? up_stat(fs, parent->dir, name, &found.st) : fstat(*fd, &found.st) < 0 ? -errno : 0;
        if (n < 0)
                return n;
        /* The box's kernel has judged about the bit already, and ours did it once more, for the caller. */
        mode_t setgid = new->mode & S_ISGID & ~found.st.st_mode;
        if (setgid && fs->agent && up_chmod(fs, parent->dir, name, -1, (found.st.st_mode & 07777) | setgid) == 0)
                found.st.st_mode |= setgid;
        usage_add(fs, &found.st);
        fs_dev_meet(fs, found.st.st_dev, parent->dir, name);
        found.ino = fs_shown_ino(fs, found.st.st_dev, found.st.st_ino);
        *st = found.st;
        *ret = node_get(fs, r->node, name, &found, &new_name);
        if (!*ret)
                return -ENOMEM;
        node_set(*ret, NODE_FRESH | NODE_PLAIN);
        if (*fd >= 0)
                fd_put(fs, fd_add(fs, *ret, *fd, LAYER_UPPER, false, true, false));
        *fd = -1;
        dir_changed(r->node);
        return 0;
}

/* Nothing is below a new directory. That something comes to be there on the host later shall not show, but is no reason to fail. One that shuts out its
 * owner is opened for it: attributes of the kind user.* ask for the right to write. */
static void mark_new_dir(Fs *fs, int dir, const char *name) {
        Place p = { .dir = dir, .fd = -1 };
        struct stat st;

        g_strlcpy(p.name, name, sizeof p.name);
        if (xattr_set_place(fs, &p, XATTR_OPAQUE, "y", 1, 0) != -EACCES || up_stat(fs, dir, name, &st) < 0 ||
            up_chmod(fs, dir, name, -1, (st.st_mode & 07777) | 0700) < 0)
                return;
        (void) xattr_set_place(fs, &p, XATTR_OPAQUE, "y", 1, 0);
        (void) up_chmod(fs, dir, name, -1, st.st_mode & 07777);
}

/* The new name in the directory r->node, and its node; under Fs.tree. */
static int make_named(Request *r, const char *name, const New *new, Node **ret, struct stat *st) {
        Fs *fs = r->fs;
        struct stat dir_st = { 0 };
        uint32_t uid, gid;
        int fd = -1, n = 0;
        Place parent = { .dir = -1, .fd = -1 };

        parent.held = fd_dir(fs, r->node, LAYER_UPPER, &n);
        if (!parent.held)
                return n;
        parent.dir = parent.held->fd;
        strcpy(parent.name, ".");
        Growth growth = growth_begin(fs, parent.dir);
        bool own = owner_of(r, false, &uid, &gid) || (fstat(parent.dir, &dir_st) == 0 && owner_of(r, dir_st.st_mode & S_ISGID, &uid, &gid));
        if (own) {
                take_umask(new->umask);
                n = make(r, parent.dir, name, new, &fd);
                if (n == 0 && S_ISDIR(new->mode) && dir_has_lower(r->node))
                        mark_new_dir(fs, parent.dir, name);
        }
        bool whiteout = false;
        if (n == -EEXIST || !own) {
                struct stat old;
                whiteout = up_stat(fs, parent.dir, name, &old) == 0;
                if (whiteout && !stat_is_whiteout(&old)) {
                        n = -EEXIST;
                        goto out;
                }
                if (fstat(parent.dir, &dir_st) < 0) {
                        n = -errno;
                        goto out;
                }
                n = make_apart(r, &parent, &dir_st, name, new, whiteout, (Owner){ uid, gid }, &fd);
        }
        if (n == 0)
                n = know_new(r, &parent, name, new, &fd, ret, st);
out:
        growth_end(fs, &growth);
        fd_closep(&fd);
        fd_put(fs, parent.held);
        return n;
}

static int make_new(Request *r, const char *name, const New *new, Node **ret, struct stat *st) {
        Fs *fs = r->fs;

        if (!name || name_is_mark(fs, name))
                return -EINVAL;
        int n = copy_up(fs, r->node, -1);
        if (n < 0)
                return n;
        /* It may take a block, or its name may; what they really took is counted when they are there. */
        if (!usage_reserve(fs, USAGE_BLOCK))
                return -ENOSPC;
        pthread_rwlock_rdlock(&fs->tree);
        n = make_named(r, name, new, ret, st);
        pthread_rwlock_unlock(&fs->tree);
        quota_release(fs->quota, USAGE_BLOCK);
        if (n == 0)
                journal_node(fs, *ret, NODE_WRITTEN);
        return n;
}

static int reply_new(Request *r, const char *name, const New *new) {
        Node *node = NULL;
        struct stat st = { 0 };

        int n = make_new(r, name, new, &node, &st);
        if (n < 0)
                return n;
        reply_entry(r, node, &st, r->out);
        r->out_len = sizeof(struct fuse_entry_out);
        return 0;
}

int op_mknod(Request *r) {
        const struct fuse_mknod_in *in = r->in;
        dev_t dev = makedev((in->rdev & 0xfff00) >> 8, (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00));
        New new = { .mode = in->mode, .umask = in->umask, .rdev = dev };

        /* Device 0:0 is overlayfs's whiteout: nobody in the box makes one. */
        if (S_ISCHR(in->mode) && dev == makedev(0, 0))
                return -EPERM;
        return reply_new(r, request_name(r, sizeof *in), &new);
}

int op_mkdir(Request *r) {
        const struct fuse_mkdir_in *in = r->in;
        New new = { .mode = S_IFDIR | (in->mode & 07777), .umask = in->umask };
        return reply_new(r, request_name(r, sizeof *in), &new);
}

int op_symlink(Request *r) {
        const char *name = request_name(r, 0), *target = name ? request_string(r, strlen(name) + 1) : NULL;
        New new = { .mode = S_IFLNK | 0777, .target = target };
        return target ? reply_new(r, name, &new) : -EINVAL;
}

/* The answer to a file that was made and opened by one request. */
static void reply_created(Request *r, Node *node, const struct stat *st) {
        struct {
                struct fuse_entry_out entry;
                struct fuse_open_out open;
        } *out = r->out;

        reply_entry(r, node, st, &out->entry);
        out->open = (struct fuse_open_out){ .open_flags = FOPEN_KEEP_CACHE };
        r->out_len = sizeof *out;
}

/* Where open is not told either, MKNOD makes the file, and there is nothing to release when it is closed. */
int op_create(Request *r) {
        const struct fuse_create_in *in = r->in;
        New new = { .mode = S_IFREG | (in->mode & 07777), .umask = in->umask };
        Node *node = NULL;
        struct stat st = { 0 };

        if (r->fs->no_open)
                return -ENOSYS;
        int n = make_new(r, request_name(r, sizeof *in), &new, &node, &st);
        if (n < 0)
                return n;
        reply_created(r, node, &st);
        return 0;
}

/* A file without a name yet: in work/ it has one, by which link can give it another. */
int op_tmpfile(Request *r) {
        const struct fuse_create_in *in = r->in;
        Fs *fs = r->fs;
        uint32_t uid, gid;
        struct stat st = { 0 }, dir_st = { 0 };
        Place parent;

        int n = copy_up(fs, r->node, -1);
        if (n < 0)
                return n;
        pthread_rwlock_rdlock(&fs->tree);
        n = place_get_stat(fs, r->node, &parent, &dir_st);
        pthread_rwlock_unlock(&fs->tree);
        if (n == 0 && parent.dir < 0) { /* a directory that was removed */
                place_put(fs, &parent);
                n = -ENOENT;
        }
        if (n < 0)
                return n;
        bool own = owner_of(r, dir_st.st_mode & S_ISGID, &uid, &gid);
        take_umask(in->umask);
        /* O_TMPFILE in the directory itself inherits what a named file would. */
        int fd = up_open(fs, parent.dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, in->mode & 07777);
        place_put(fs, &parent);
        if (fd < 0)
                return fd;
        if (!own)
                n = fs->agent ? agent_chown(fs->agent, -1, NULL, fd, uid, gid) : -EPERM;
        if (n == 0 && fstat(fd, &st) < 0)
                n = -errno;
        mode_t setid = in->mode & (S_ISUID | S_ISGID) & ~st.st_mode;
        if (n == 0 && setid && fs->agent && up_chmod(fs, -1, NULL, fd, (st.st_mode & 07777) | setid) == 0)
                st.st_mode |= setid;
        Node *node = n == 0 ? node_new_nameless(fs, &st, fs_shown_ino(fs, st.st_dev, st.st_ino)) : NULL;
        if (!node) {
                close(fd);
                return n ? n : -ENOMEM;
        }
        Fd *f = fd_add(fs, node, fd, LAYER_UPPER, false, true, true);
        if (!f) {
                node_unref(fs, node, 1);
                return -ENOMEM;
        }
        fd_put(fs, f);
        reply_created(r, node, &st);
        return 0;
}

/* Give the pinned descriptor of a nameless file a name: linkat(2) through /proc, which asks for no right (open(2), O_TMPFILE). */
static int link_nameless(Fs *fs, Node *node, int dir, const char *name) {
        char path[64];
        Fd *f = fd_pinned(fs, node);

        if (!f)
                return -ESTALE;
        (void) g_snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
        int n = linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
        if ((n == -EACCES || n == -EPERM) && fs->agent)
                n = agent_link_fd(fs->agent, f->fd, dir, name);
        fd_put(fs, f);
        return n;
}

static int link_to(Fs *fs, Node *node, int dir, const char *name) {
        Place p;

        if (node_is_loose(node))
                return link_nameless(fs, node, dir, name);
        int n = place_get(fs, node, &p);
        if (n == 0) {
                n = up_link(fs, p.dir, p.name, dir, name);
                place_put(fs, &p);
        }
        return n;
}

static int link_named(Fs *fs, Node *node, Node *parent, const char *name) {
        struct stat old;
        char temp[32];
        int n = 0;
        Fd *dir = fd_dir(fs, parent, LAYER_UPPER, &n);

        if (!dir)
                return n;
        Growth growth = growth_begin(fs, dir->fd);
        n = link_to(fs, node, dir->fd, name);
        if (n == -EEXIST && up_stat(fs, dir->fd, name, &old) == 0 && stat_is_whiteout(&old)) {
                temp_name(fs, temp);
                n = link_to(fs, node, fs->work, temp);
                if (n == 0 && (n = up_rename(fs, fs->work, temp, dir->fd, name, 0)) < 0)
                        (void) up_unlink(fs, fs->work, temp, 0);
        }
        growth_end(fs, &growth);
        fd_put(fs, dir);
        return n;
}

int op_link(Request *r) {
        const struct fuse_link_in *in = r->in;
        const char *name = request_name(r, sizeof *in);
        Fs *fs = r->fs;
        Node *node = node_of_id(fs, in->oldnodeid);
        struct stat st = { 0 };

        if (!name || name_is_mark(fs, name))
                return -EINVAL;
        if (S_ISDIR(node_type(node)))
                return -EPERM;
        int n = copy_up(fs, node, -1);
        if (n == 0)
                n = copy_up(fs, r->node, -1);
        if (n == 0 && !usage_reserve(fs, USAGE_BLOCK))
                n = -ENOSPC;
        if (n < 0)
                return n;
        pthread_rwlock_wrlock(&fs->tree);
        bool was_nameless = node_is(node, NODE_NAMELESS);
        n = link_named(fs, node, r->node, name);
        if (n == 0) {
                if (!was_nameless)
                        node_set(node, NODE_LINKS);
                if (!node_add_name(fs, node, r->node, name))
                        n = -ENOMEM;
                if (was_nameless)
                        fd_unpin(fs, node);
                dir_changed(r->node);
        }
        if (n == 0)
                n = node_stat(fs, node, &st);
        pthread_rwlock_unlock(&fs->tree);
        quota_release(fs->quota, USAGE_BLOCK);
        if (n < 0)
                return n;
        if (fs->journal)
                journal_name(fs, r->node, name, "write");
        node_ref(node);
        reply_entry(r, node, &st, r->out);
        r->out_len = sizeof(struct fuse_entry_out);
        return 0;
}
