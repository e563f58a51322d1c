/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Owners of what is in the upper: whose the copy of a lower file is, and whose it shows as where it could not be given away.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fsoverlay/fs.h"

void stat_owner(Fs *fs, const Place *place, struct stat *st) {
        char text[32];

        if (!atomic_load_explicit(&fs->owners, memory_order_relaxed) || st->st_uid != fs->ids.uid || S_ISLNK(st->st_mode))
                return;
        int n = xattr_get_place(fs, place, XATTR_OWNER, text, sizeof text - 1);
        if (n <= 0)
                return;
        text[n] = '\0';
        char *end;
        guint64 uid = g_ascii_strtoull(text, &end, 10);
        if (*end != ':' || uid >= UINT32_MAX)
                return;
        guint64 gid = g_ascii_strtoull(end + 1, &end, 10);
        if (*end == '\0' && gid < UINT32_MAX) {
                st->st_uid = (uid_t) uid;
                st->st_gid = (gid_t) gid;
        }
}

/* Is id one that the box's user namespace has for itself, and not just a number that it happens to know? */
static bool is_mapped(const GArray *map, uint32_t host) {
        for (guint i = 0; map && i < map->len; i++) {
                const FsIdRange *r = &g_array_index(map, FsIdRange, i);
                if (host >= r->host && host - r->host < r->count)
                        return true;
        }
        return !map || map->len == 0;
}

/* It cannot be given away: the copy is ours, and says whose it is to be. Symlinks have no such attributes; nobody asks whose they are. */
static int note_owner(Fs *fs, int dir, const char *name, int fd, const struct stat *st) {
        char text[32];
        Place p = { .dir = dir, .fd = fd };

        if (S_ISLNK(st->st_mode))
                return 0;
        if (name)
                g_strlcpy(p.name, name, sizeof p.name);
        (void) g_snprintf(text, sizeof text, "%u:%u", st->st_uid, st->st_gid);
        int r = xattr_set_place(fs, &p, XATTR_OWNER, text, strlen(text), 0);
        if (r == 0)
                atomic_store(&fs->owners, true);
        /* Neither do sockets and the like. */
        return r == -EPERM && !S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) ? 0 : r;
}

/*
 * Whose the copy is: the same id where the box has that one for itself; the caller's where both show as the same (the host's root,
 * for a root payload); else the caller's with a note. So an upper is nearly always the caller's own.
 */
int own_like(Fs *fs, int dir, const char *name, int fd, const struct stat *st) {
        uid_t shown;
        bool uid_mapped = is_mapped(fs->ids.uidmap, st->st_uid), gid_mapped = is_mapped(fs->ids.gidmap, st->st_gid);

        if (st->st_uid == fs->ids.uid && st->st_gid == fs->ids.gid)
                return 0;
        if (!uid_mapped && ids_uid_in(&fs->ids, ids_uid_out(&fs->ids, st->st_uid), &shown) && shown == fs->ids.uid)
                return 0;
        uid_t uid = st->st_uid == fs->ids.uid ? (uid_t) -1 : st->st_uid;
        gid_t gid = st->st_gid == fs->ids.gid ? (gid_t) -1 : st->st_gid;
        if (uid_mapped || uid == (uid_t) -1) {
                int r = dir < 0 ? fchown(fd, uid, gid) : fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW);
                if (r == 0)
                        return 0;
                uint32_t box_uid = uid == (uid_t) -1 ? uid : ids_uid_out(&fs->ids, uid);
                uint32_t box_gid = gid == (gid_t) -1 ? gid : ids_gid_out(&fs->ids, gid);
                if (uid_mapped && gid_mapped && fs->agent && agent_chown(fs->agent, dir, dir < 0 ? NULL : name, fd, box_uid, box_gid) == 0)
                        return 0;
        }
        return note_owner(fs, dir, name, fd, st);
}

/* Set-id bits are of an owner: where the copy has another, it has none. */
mode_t mode_like(Fs *fs, const struct stat *st) {
        bool same = is_mapped(fs->ids.uidmap, st->st_uid) && (st->st_uid == fs->ids.uid || fs->agent || fs->ids.uid == 0);
        return st->st_mode & (same || S_ISDIR(st->st_mode) ? 07777 : 01777);
}
