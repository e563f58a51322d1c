/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Extended attributes, ACLs among them.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any.
 *
 * The calls that take a directory and a name are new (Linux 6.13); before them the way is /proc/self/fd. An ACL's ids are numbers of
 * the one who asks: what comes from the kernel has the box's, what the upper gets the host's (acl(5), fs/posix_acl.c); and
 * what goes by the agent, who is in the box's user namespace, the box's again. So it is with the user in whose namespaces a file's capabilities
 * count (capabilities(7), "Namespaced file capabilities").
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fsoverlay/fs.h"
#include "fsoverlay/ops.h"

#define SYS_SETXATTRAT 463
#define SYS_GETXATTRAT 464
#define SYS_LISTXATTRAT 465
#define SYS_REMOVEXATTRAT 466

struct xattr_at_args {
        uint64_t value;
        uint32_t size, flags;
};

static _Atomic bool no_xattrat;

/* name NULL: the descriptor's own. */
static bool use_at(void) {
        return !atomic_load_explicit(&no_xattrat, memory_order_relaxed);
}

/* Not there; or given a descriptor of O_PATH by itself (EBADF): then the other way. */
static bool at_missing(ssize_t r) {
        if (r >= 0 || (errno != ENOSYS && errno != EBADF))
                return false;
        if (errno == ENOSYS)
                atomic_store(&no_xattrat, true);
        return true;
}

static void proc_path(int dir, const char *name, char *ret, size_t size) {
        (void) g_snprintf(ret, (gulong) size, name ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", dir, name);
}

static unsigned at_flags(const char *name) {
        return name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
}

#define PROC_PATH_MAX (NAME_LEN_MAX + 64)

static ssize_t get_at(int dir, const char *name, const char *xattr, void *value, size_t size) {
        char path[PROC_PATH_MAX];
        if (use_at()) {
                struct xattr_at_args args = { .value = (uintptr_t) value, .size = (uint32_t) size };
                ssize_t r = syscall(SYS_GETXATTRAT, dir, name ? name : "", at_flags(name), xattr, &args, sizeof args);
                if (!at_missing(r))
                        return r;
        }
        proc_path(dir, name, path, sizeof path);
        return name ? lgetxattr(path, xattr, value, size) : getxattr(path, xattr, value, size);
}

static int set_at(int dir, const char *name, const char *xattr, const void *value, size_t size, int flags) {
        char path[PROC_PATH_MAX];
        if (use_at()) {
                struct xattr_at_args args = { .value = (uintptr_t) value, .size = (uint32_t) size, .flags = (uint32_t) flags };
                int r = (int) syscall(SYS_SETXATTRAT, dir, name ? name : "", at_flags(name), xattr, &args, sizeof args);
                if (!at_missing(r))
                        return r;
        }
        proc_path(dir, name, path, sizeof path);
        return name ? lsetxattr(path, xattr, value, size, flags) : setxattr(path, xattr, value, size, flags);
}

static ssize_t list_at(int dir, const char *name, char *value, size_t size) {
        char path[PROC_PATH_MAX];
        if (use_at()) {
                ssize_t r = syscall(SYS_LISTXATTRAT, dir, name ? name : "", at_flags(name), value, size);
                if (!at_missing(r))
                        return r;
        }
        proc_path(dir, name, path, sizeof path);
        return name ? llistxattr(path, value, size) : listxattr(path, value, size);
}

static int remove_at(int dir, const char *name, const char *xattr) {
        char path[PROC_PATH_MAX];
        if (use_at()) {
                int r = (int) syscall(SYS_REMOVEXATTRAT, dir, name ? name : "", at_flags(name), xattr);
                if (!at_missing(r))
                        return r;
        }
        proc_path(dir, name, path, sizeof path);
        return name ? lremovexattr(path, xattr) : removexattr(path, xattr);
}

int xattr_get_at(int dir, const char *name, const char *xattr, void *value, size_t size) {
        ssize_t r = get_at(dir, name, xattr, value, size);
        return r < 0 ? -errno : (int) r;
}

int xattr_set_at(int dir, const char *name, const char *xattr, const void *value, size_t size) {
        return set_at(dir, name, xattr, value, size, 0) < 0 ? -errno : 0;
}

static int at_dir(const Place *p) {
        return p->dir >= 0 ? p->dir : p->fd;
}

static const char *at_name(const Place *p) {
        return p->dir >= 0 ? p->name : NULL;
}

static bool for_agent(const Fs *fs, ssize_t r) {
        return r < 0 && (errno == EACCES || errno == EPERM) && fs->agent;
}

/* "." wants the right to search the directory; its descriptor, by /proc, does not. */
static bool closed_itself(const Place *p, ssize_t r) {
        return r < 0 && errno == EACCES && p->dir >= 0 && strcmp(p->name, ".") == 0;
}

static ssize_t get_place(const Place *p, const char *xattr, void *value, size_t size) {
        ssize_t r = get_at(at_dir(p), at_name(p), xattr, value, size);
        return closed_itself(p, r) ? get_at(p->dir, NULL, xattr, value, size) : r;
}

static ssize_t list_place(const Place *p, char *names, size_t size) {
        ssize_t r = list_at(at_dir(p), at_name(p), names, size);
        return closed_itself(p, r) ? list_at(p->dir, NULL, names, size) : r;
}

/* The binary form of an ACL: a version, then entries of tag, rights and id, all little-endian (linux/posix_acl_xattr.h). */
typedef struct {
        uint16_t tag, rights;
        uint32_t id;
} AclEntry;
enum { ACL_TAG_USER_OBJ = 1, ACL_TAG_USER = 2, ACL_TAG_GROUP_OBJ = 4, ACL_TAG_GROUP = 8, ACL_TAG_MASK = 16, ACL_TAG_OTHER = 32 };

static int translate_acl(Fs *fs, void *value, size_t size, bool in) {
        if (size < 4 || (size - 4) % sizeof(AclEntry) != 0)
                return -EINVAL;
        char *at = (char *) value + 4;
        for (size_t i = 0; i < (size - 4) / sizeof(AclEntry); i++, at += sizeof(AclEntry)) {
                AclEntry e;
                memcpy(&e, at, sizeof e); /* behind a name of any length */
                uint32_t id = GUINT32_FROM_LE(e.id);
                unsigned tag = GUINT16_FROM_LE(e.tag);
                if (tag != ACL_TAG_USER && tag != ACL_TAG_GROUP)
                        continue;
                if (!in)
                        id = tag == ACL_TAG_USER ? ids_uid_out(&fs->ids, id) : ids_gid_out(&fs->ids, id);
                else if (!(tag == ACL_TAG_USER ? ids_uid_in(&fs->ids, id, &id) : ids_gid_in(&fs->ids, id, &id)))
                        return -EINVAL;
                e.id = GUINT32_TO_LE(id);
                memcpy(at, &e, sizeof e);
        }
        return 0;
}

/*
 * An ACL as the box sees it, without the entries of whom it does not have: the kernel takes one that names an id which its user namespace has not
 * for broken (posix_acl_from_xattr()), and lets nobody in who is not the owner, although others may read. Returns its size. What an entry
 * that is left out says holds even so: the process that opens a file of the host's is the caller.
 */
static int show_acl(Fs *fs, void *value, size_t size) {
        if (translate_acl(fs, value, size, false) < 0)
                return -EIO;
        char *from = (char *) value + 4, *to = from, *end = (char *) value + size;
        for (; from < end; from += sizeof(AclEntry)) {
                AclEntry e;
                uint32_t id;
                memcpy(&e, from, sizeof e);
                unsigned tag = GUINT16_FROM_LE(e.tag);
                if ((tag == ACL_TAG_USER && !ids_uid_in(&fs->ids, GUINT32_FROM_LE(e.id), &id)) ||
                    (tag == ACL_TAG_GROUP && !ids_gid_in(&fs->ids, GUINT32_FROM_LE(e.id), &id)))
                        continue;
                memmove(to, from, sizeof e);
                to += sizeof e;
        }
        return (int) (to - (char *) value);
}

/* A number of a file's capabilities, which are little-endian and stand at any address. */
static uint32_t get_le32(const void *from) {
        uint32_t n;

        memcpy(&n, from, sizeof n);
        return GUINT32_FROM_LE(n);
}

static void put_le32(void *to, uint32_t n) {
        n = GUINT32_TO_LE(n);
        memcpy(to, &n, sizeof n);
}

/* Where it is of the kind that names a user: there. */
static char *capability_rootid(void *value, size_t size) {
        if (size != sizeof(struct vfs_ns_cap_data) || (get_le32(value) & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3)
                return NULL;
        return (char *) value + offsetof(struct vfs_ns_cap_data, rootid);
}

static int translate_capability(Fs *fs, void *value, size_t size) {
        char *rootid = capability_rootid(value, size);
        uint32_t id;

        if (!rootid)
                return 0;
        if (!ids_uid_in(&fs->ids, get_le32(rootid), &id))
                return -EINVAL;
        put_le32(rootid, id);
        return 0;
}

/*
 * A file's capabilities as the box sees them. Of those whose user it has not the kernel says EOVERFLOW to whoever asks (cap_inode_getsecurity()),
 * and cp(1) and rsync(1) fail by that; in the box they count for nobody: there are none.
 */
static int show_capability(Fs *fs, void *value, size_t size) {
        char *rootid = fs->ids.squash_uid ? NULL : capability_rootid(value, size);
        uint32_t host = 0, shown = 0, back;

        if (rootid) {
                host = get_le32(rootid);
                shown = ids_uid_out(&fs->ids, host);
        }
        if (!ids_uid_in(&fs->ids, shown, &back) || (rootid && back != host))
                return -ENODATA;
        if (rootid)
                put_le32(rootid, shown);
        return (int) size;
}

int xattr_get_place(Fs *fs, const Place *p, const char *xattr, void *value, size_t size) {
        ssize_t r = get_place(p, xattr, value, size);
        if (for_agent(fs, r)) {
                /* It is asked for the whole of what has only its size asked for. */
                g_autofree void *whole = size > 0 ? NULL : g_malloc(XATTR_SIZE_MAX);
                int n = agent_getxattr(fs->agent, p->dir, at_name(p), p->fd, xattr, whole ? whole : value, whole ? XATTR_SIZE_MAX : size);
                if (n < 0 || whole)
                        return n;
                int seen = xattr_is_acl(xattr)                    ? translate_acl(fs, value, (size_t) n, true)
                           : g_str_equal(xattr, XATTR_CAPABILITY) ? translate_capability(fs, value, (size_t) n)
                                                                  : 0;
                return seen < 0 ? -EIO : n;
        }
        return r < 0 ? -errno : (int) r;
}

int xattr_set_place(Fs *fs, const Place *p, const char *xattr, const void *value, size_t size, int flags) {
        int r = set_at(at_dir(p), at_name(p), xattr, value, size, flags);
        if (!for_agent(fs, r))
                return r < 0 ? -errno : 0;
        g_autofree void *acl = xattr_is_acl(xattr) && size > 0 ? g_memdup2(value, size) : NULL;
        if (acl && (r = translate_acl(fs, acl, size, false)) < 0)
                return r;
        return agent_setxattr(fs->agent, p->dir, at_name(p), p->fd, xattr, acl ? acl : value, size, flags);
}

int xattr_remove_place(Fs *fs, const Place *p, const char *xattr) {
        int r = remove_at(at_dir(p), at_name(p), xattr);
        if (for_agent(fs, r))
                return agent_removexattr(fs->agent, p->dir, at_name(p), p->fd, xattr);
        return r < 0 ? -errno : 0;
}

/* Marks: the box neither sees nor makes them. Others' marks are none where nobody reads them. */
static bool is_private(const Fs *fs, const char *name) {
        return g_str_has_prefix(name, XATTR_PRIVATE) || g_str_has_prefix(name, "trusted.") ||
               (g_str_has_prefix(name, "user.fuseoverlayfs.") && (fs->foreign || fs->layers[LAYER_UPPER].foreign)) ||
               (g_str_equal(name, "user.containers.override_stat") && fs->layers[LAYER_UPPER].foreign);
}

/*
 * Labels are the host's, and the box has none. With SELinux the kernel answers for them itself; without it ls(1) and others ask for each file's,
 * until they hear that there are none in this file system.
 */
static bool is_label(const char *name) {
        return g_str_equal(name, "security.selinux");
}

/* Of a file that has capabilities: the box has none of them. */
static bool hides_capability(Fs *fs, const Place *p) {
        struct vfs_ns_cap_data value;
        int n = xattr_get_place(fs, p, XATTR_CAPABILITY, &value, sizeof value);
        return n == -EOVERFLOW || (n >= 0 && show_capability(fs, &value, (size_t) n) < 0);
}

static bool has_name(const char *names, int len, const char *name) {
        for (int at = 0; at < len; at += (int) strlen(names + at) + 1)
                if (g_str_equal(names + at, name))
                        return true;
        return false;
}

int acl_inherit(Fs *fs, const Place *parent, const Place *file, mode_t mode, bool is_dir) {
        struct {
                uint32_t version;
                AclEntry entries[512];
        } acl;

        int n = xattr_get_place(fs, parent, XATTR_ACL_DEFAULT, &acl, sizeof acl);
        if (n < 4)
                return 0;
        if (is_dir) {
                int r = xattr_set_place(fs, file, XATTR_ACL_DEFAULT, &acl, (size_t) n, 0);
                if (r < 0)
                        return r;
        }
        /* What posix_acl_create() does: the mode asked for bounds owner, mask (else group) and others. */
        size_t count = ((size_t) n - 4) / sizeof(AclEntry);
        bool has_mask = false;
        for (size_t i = 0; i < count; i++)
                has_mask |= acl.entries[i].tag == ACL_TAG_MASK;
        for (size_t i = 0; i < count; i++) {
                AclEntry *e = &acl.entries[i];
                if (e->tag == ACL_TAG_USER_OBJ)
                        e->rights &= (uint16_t) (mode >> 6 & 7);
                else if (e->tag == ACL_TAG_MASK || (e->tag == ACL_TAG_GROUP_OBJ && !has_mask))
                        e->rights &= (uint16_t) (mode >> 3 & 7);
                else if (e->tag == ACL_TAG_OTHER)
                        e->rights &= (uint16_t) (mode & 7);
        }
        int r = xattr_set_place(fs, file, XATTR_ACL_ACCESS, &acl, (size_t) n, 0);
        return r < 0 ? r : 1;
}

int op_getxattr(Request *r) {
        const struct fuse_getxattr_in *in = r->in;
        const char *name = request_string(r, sizeof *in);
        struct stat st;
        Place p;

        if (!name)
                return -EINVAL;
        if (is_private(r->fs, name))
                return -ENODATA;
        if (is_label(name) || (xattr_is_acl(name) && !r->fs->acl))
                return -EOPNOTSUPP;
        if (node_is(r->node, NODE_PLAIN) && g_str_equal(name, XATTR_CAPABILITY))
                return -ENODATA;
        size_t room = MIN((size_t) in->size, (size_t) XATTR_SIZE_MAX);
        /* Before a write(2), too (file_remove_privs()), which is to find no page of what the file was. */
        bool may_write = room == 0 && S_ISREG(node_type(r->node)) && g_str_equal(name, XATTR_CAPABILITY);
        pthread_rwlock_rdlock(&r->fs->tree);
        int n = place_get(r->fs, r->node, &p);
        if (n == 0) {
                if (may_write && !node_is(r->node, NODE_UPPER) && lower_stat(r->fs, r->node, &p, &st) >= 0)
                        (void) told_look(r->fs, r->node, &st);
                n = xattr_get_place(r->fs, &p, name, room ? r->out : NULL, room);
                place_put(r->fs, &p);
        }
        pthread_rwlock_unlock(&r->fs->tree);
        if (may_write && notify_pending(r->fs, r->node))
                r->no_reply = notify_xattr_size(r->fs, r->node, r->head->unique, n);
        if (r->no_reply)
                return 0;
        /* A layer that has no ACLs has none: the kernel, which asks before it lets somebody in, would give up (fuse_get_acl()). */
        if ((n == -EOPNOTSUPP && xattr_is_acl(name)) || (n == -EOVERFLOW && g_str_equal(name, XATTR_CAPABILITY)))
                n = -ENODATA;
        if (n < 0)
                return n;
        if (room == 0)
                return reply_xattr_size(r, (uint32_t) n);
        if (xattr_is_acl(name) && (n = show_acl(r->fs, r->out, (size_t) n)) < 0)
                return n;
        if (g_str_equal(name, XATTR_CAPABILITY) && (n = show_capability(r->fs, r->out, (size_t) n)) < 0)
                return n;
        r->out_len = (size_t) n;
        return 0;
}

int op_listxattr(Request *r) {
        const struct fuse_getxattr_in *in = r->in;
        char *names = r->out; /* of them those that the box is not to see go, in place */
        bool no_capability = false;
        Place p;

        pthread_rwlock_rdlock(&r->fs->tree);
        int n = place_get(r->fs, r->node, &p);
        if (n == 0) {
                size_t most = MIN(r->out_size, XATTR_LIST_MAX);
                ssize_t got = list_place(&p, names, most);
                n = for_agent(r->fs, got) ? agent_listxattr(r->fs->agent, p.dir, at_name(&p), p.fd, names, most)
                    : got < 0             ? -errno
                                          : (int) got;
                no_capability = n > 0 && has_name(names, n, XATTR_CAPABILITY) && hides_capability(r->fs, &p);
                place_put(r->fs, &p);
        }
        pthread_rwlock_unlock(&r->fs->tree);
        if (n == -EOPNOTSUPP)
                n = 0;
        if (n < 0)
                return n;
        size_t len = 0;
        for (int at = 0; at < n;) {
                size_t one = strlen(names + at) + 1;
                bool shown = !is_private(r->fs, names + at) && !is_label(names + at) && (r->fs->acl || !xattr_is_acl(names + at)) &&
                             !(no_capability && g_str_equal(names + at, XATTR_CAPABILITY));
                if (shown) {
                        if (in->size > 0 && len + one > in->size)
                                return -ERANGE;
                        memmove(names + len, names + at, one);
                        len += one;
                }
                at += (int) one;
        }
        if (in->size == 0)
                return reply_xattr_size(r, (uint32_t) len);
        r->out_len = len;
        return 0;
}

/* It takes the set-group-id bit away where the group is not the caller's (posix_acl_update_mode()), which is not so for the box's root. */
static int set_acl(Request *r, const Place *p, const void *value, size_t size, int flags) {
        struct stat before, after;
        bool keep = r->fs->agent && r->head->uid == 0 && place_stat(r->fs, p, &before) == 0 && before.st_mode & S_ISGID;

        int n = xattr_set_place(r->fs, p, XATTR_ACL_ACCESS, value, size, flags);
        if (n == 0 && keep && place_stat(r->fs, p, &after) == 0 && !(after.st_mode & S_ISGID))
                n = up_chmod(r->fs, p->dir, at_name(p), p->fd, (after.st_mode & 07777) | S_ISGID);
        return n;
}

/* After a change of the ACL the mode may be another: the kernel asks by itself. */
static int change(Request *r, const char *name, void *value, size_t size, int flags, bool remove) {
        Place p;

        if (is_private(r->fs, name))
                return -EPERM;
        if (is_label(name) || (xattr_is_acl(name) && !r->fs->acl))
                return -EOPNOTSUPP;
        node_unset(r->node, NODE_PLAIN);
        int n = copy_up(r->fs, r->node, -1);
        if (n < 0)
                return n;
        if (!remove && xattr_is_acl(name) && size > 0 && (n = translate_acl(r->fs, value, size, true)) < 0)
                return n;
        guint64 room = remove ? 0 : MAX(size, USAGE_BLOCK);
        if (!usage_reserve(r->fs, room))
                return -ENOSPC;
        pthread_rwlock_rdlock(&r->fs->tree);
        n = place_get(r->fs, r->node, &p);
        if (n == 0) {
                struct stat before = { 0 }, after;
                bool counted = r->fs->quota && place_stat(r->fs, &p, &before) == 0;
                if (remove) {
                        n = xattr_remove_place(r->fs, &p, name);
                } else if (g_str_equal(name, XATTR_CAPABILITY) && r->fs->agent) {
                        /* A capability of the box's root counts in the box's user namespace alone. */
                        n = agent_setxattr(r->fs->agent, p.dir, at_name(&p), p.fd, name, value, size, flags);
                } else if (g_str_equal(name, XATTR_ACL_ACCESS)) {
                        n = set_acl(r, &p, value, size, flags);
                } else {
                        n = xattr_set_place(r->fs, &p, name, value, size, flags);
                }
                if (counted && place_stat(r->fs, &p, &after) == 0)
                        quota_adjust(r->fs->quota, (gint64) (after.st_blocks - before.st_blocks) * 512);
                place_put(r->fs, &p);
        }
        pthread_rwlock_unlock(&r->fs->tree);
        quota_release(r->fs->quota, room);
        if (n == 0)
                journal_node(r->fs, r->node, NODE_WRITTEN);
        return n;
}

int op_setxattr(Request *r) {
        const struct fuse_setxattr_in *in = r->in;
        const size_t fixed = FUSE_COMPAT_SETXATTR_IN_SIZE; /* FUSE_SETXATTR_EXT is not asked for */
        const char *name = request_string(r, fixed);

        if (!name)
                return -EINVAL;
        size_t at = fixed + strlen(name) + 1;
        if (in->size > XATTR_SIZE_MAX || at > r->in_len || r->in_len - at < in->size)
                return -EINVAL;
        /* The request's own memory: it may be changed in place. */
        return change(r, name, (char *) (uintptr_t) r->in + at, in->size, (int) in->flags, false);
}

int op_removexattr(Request *r) {
        const char *name = request_string(r, 0);
        return name ? change(r, name, NULL, 0, 0, true) : -EINVAL;
}
