/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The limit of what a box writes to the disk.
 *
 * Role: usbox-fs. Privileges: quota_count() needs to read the upper's directories. Threads: any, but for counting. Order: counted before the first
 * request.
 *
 * One number is changed by compare-and-swap: whoever reserves sees what all others have reserved before. The count walks with
 * one open directory, however deep: on the way back it opens ".." and sees to it that it is where it came from.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/quota.h"

struct Quota {
        guint64 limit;
        _Atomic guint64 used;
};

/* One directory that the walk is in. */
typedef struct {
        dev_t dev;
        ino_t ino;
        GPtrArray *names; /* of its directories that are still to be walked */
} Level;

typedef struct {
        int fd; /* of the innermost level */
        GPtrArray *levels;
        GHashTable *links; /* inode numbers of files with several names that were counted */
        guint64 bytes;
        dev_t dev;
} Count;

static void level_free(Level *level) {
        g_ptr_array_unref(level->names);
        g_free(level);
}

static void count_entry(Count *c, Level *level, const char *name, const struct stat *st) {
        if (st->st_dev != c->dev)
                return;
        if (S_ISDIR(st->st_mode)) {
                g_ptr_array_add(level->names, g_strdup(name));
        } else if (st->st_nlink > 1) {
                gint64 ino = (gint64) st->st_ino;
                if (!g_hash_table_add(c->links, g_memdup2(&ino, sizeof ino)))
                        return;
        }
        c->bytes += (guint64) st->st_blocks * 512;
}

/* Read the directory c->fd as a new level. */
static bool enter(Count *c, GError **error) {
        DIR *dir = fd_open_dir(c->fd, "."); /* an offset of its own */
        struct stat st;

        if (!dir || fstat(c->fd, &st) < 0) {
                int errnum = errno;
                if (dir)
                        closedir(dir);
                return err_set(error, errnum, "read a directory of the upper");
        }
        Level *level = g_new(Level, 1);
        *level = (Level){ st.st_dev, st.st_ino, g_ptr_array_new_with_free_func(g_free) };
        g_ptr_array_add(c->levels, level);

        for (;;) {
                errno = 0;
                const struct dirent *entry = readdir(dir);
                if (!entry)
                        break;
                if (g_str_equal(entry->d_name, ".") || g_str_equal(entry->d_name, ".."))
                        continue;
                if (fstatat(c->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        break;
                count_entry(c, level, entry->d_name, &st);
        }
        int errnum = errno;
        closedir(dir);
        return errnum == 0 || err_set(error, errnum, "read a directory of the upper");
}

/* Replace c->fd. */
static bool go(Count *c, const char *name, int flags, GError **error) {
        int fd = openat(c->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
        if (fd < 0) {
                int errnum = errno;
                g_autofree char *quoted = err_quote(name);
                return err_set(error, errnum, "directory %s in the upper", quoted);
        }
        close(c->fd);
        c->fd = fd;
        return true;
}

static bool walk(Count *c, GError **error) {
        if (!enter(c, error))
                return false;
        for (;;) {
                Level *level = c->levels->pdata[c->levels->len - 1];
                if (level->names->len > 0) {
                        g_autofree char *name = g_ptr_array_steal_index_fast(level->names, level->names->len - 1);
                        if (!go(c, name, O_NOFOLLOW, error) || !enter(c, error))
                                return false;
                        continue;
                }
                g_ptr_array_set_size(c->levels, (int) c->levels->len - 1);
                if (c->levels->len == 0)
                        return true;
                struct stat st;
                const Level *above = c->levels->pdata[c->levels->len - 1];
                if (!go(c, "..", 0, error))
                        return false;
                if (fstat(c->fd, &st) < 0)
                        return err_set(error, errno, "directory of the upper");
                if (st.st_dev != above->dev || st.st_ino != above->ino)
                        return err_set(error, EBUSY, "a directory of the upper was moved while it was counted");
        }
}

/* All below the directory dir; with itself where it is the upper. */
static bool count_below(Count *c, int dir, bool itself, GError **error) {
        struct stat st;

        c->fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->fd < 0)
                return err_set(error, errno, "open the upper");
        bool ok = fstat(c->fd, &st) == 0 || err_set(error, errno, "the upper");
        c->dev = ok ? st.st_dev : 0;
        c->bytes += ok && itself ? (guint64) st.st_blocks * 512 : 0;
        ok = ok && walk(c, error);
        close(c->fd);
        return ok;
}

bool quota_count(int upper_fd, int links_fd, guint64 *ret_bytes, GError **error) {
        Count c = { .levels = g_ptr_array_new_with_free_func((GDestroyNotify) level_free),
                    .links = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL) };

        bool ok = count_below(&c, upper_fd, true, error) && (links_fd < 0 || count_below(&c, links_fd, false, error));
        *ret_bytes = c.bytes;
        g_ptr_array_unref(c.levels);
        g_hash_table_unref(c.links);
        return ok;
}

Quota *quota_new_used(guint64 limit, guint64 used) {
        Quota *quota = g_new0(Quota, 1);
        quota->limit = limit;
        atomic_init(&quota->used, used);
        return quota;
}

Quota *quota_new(guint64 limit, int upper_fd, int links_fd, GError **error) {
        guint64 used = 0;
        return quota_count(upper_fd, links_fd, &used, error) ? quota_new_used(limit, used) : NULL;
}

void quota_free(Quota *quota) {
        g_free(quota);
}

bool quota_reserve(Quota *quota, guint64 bytes) {
        if (!quota || bytes == 0)
                return true;
        guint64 used = atomic_load_explicit(&quota->used, memory_order_relaxed);
        do {
                if (used > quota->limit || bytes > quota->limit - used)
                        return false;
        } while (!atomic_compare_exchange_weak_explicit(&quota->used, &used, used + bytes, memory_order_relaxed, memory_order_relaxed));
        return true;
}

void quota_release(Quota *quota, guint64 bytes) {
        if (!quota || bytes == 0)
                return;
        guint64 used = atomic_load_explicit(&quota->used, memory_order_relaxed), left;
        do
                left = used > bytes ? used - bytes : 0; /* files that others changed on the disk may be smaller than we knew */
        while (!atomic_compare_exchange_weak_explicit(&quota->used, &used, left, memory_order_relaxed, memory_order_relaxed));
}

void quota_adjust(Quota *quota, gint64 delta) {
        if (!quota)
                return;
        if (delta < 0)
                quota_release(quota, -(guint64) delta);
        else
                atomic_fetch_add_explicit(&quota->used, (guint64) delta, memory_order_relaxed);
}

guint64 quota_used(const Quota *quota) {
        return quota ? atomic_load_explicit(&((Quota *) quota)->used, memory_order_relaxed) : 0;
}

guint64 quota_room(const Quota *quota) {
        guint64 used = quota_used(quota);

        return used < quota->limit ? quota->limit - used : 0;
}

void quota_statfs(const Quota *quota, struct statvfs *st) {
        if (!quota || st->f_frsize == 0)
                return;
        guint64 left = quota_room(quota) / st->f_frsize;
        st->f_blocks = quota->limit / st->f_frsize;
        st->f_bfree = st->f_bavail = MIN(left, st->f_bavail);
}
