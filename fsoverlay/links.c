/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * links/ of the work directory: what is to be known of files with several names at the next mount (fs.h lists its names).
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any; what is in links/ changes under Fs.tree for writing.
 *
 * A lower file is named by the inode number that it shows. That number may be another file's by the time of the next mount: the first one was removed
 * from the lower, and its number given out again. So each note says which file it is of, by the file handle, which no two files of one
 * file system have in common over time (its generation, ext4, xfs, btrfs, tmpfs), and else by the time when the file was made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/fs.h"

/* Where a number is taken by a file that is gone, its successor shows another: bits that neither inode numbers nor devices come to. */
#define SUCCESSORS_MAX 16u
#define SUCCESSOR_SHIFT 44

typedef struct {
        unsigned n;
        char *which;
} Removed;

static void removed_free(gpointer removed) {
        g_free(((Removed *) removed)->which);
        g_free(removed);
}

void links_init(Fs *fs) {
        pthread_mutex_init(&fs->removed_lock, NULL);
        fs->removed = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, removed_free);
}

void links_name(char ret[LINKS_NAME_MAX], const char *kind, uint64_t ino) {
        (void) g_snprintf(ret, LINKS_NAME_MAX, "%s%" PRIx64, kind, ino);
}

/* The text of a symlink in links/, NULL where there is none. */
static char *read_text(Fs *fs, const char *name) {
        char text[LINKS_TEXT_MAX];
        ssize_t n = readlinkat(fs->links, name, text, sizeof text - 1);

        return n < 0 ? NULL : g_strndup(text, (gsize) n);
}

static int write_text(Fs *fs, const char *name, const char *text) {
        char temp[32];

        temp_name(fs, temp);
        if (symlinkat(text, fs->work, temp) < 0)
                return -errno;
        int r = renameat2(fs->work, temp, fs->links, name, 0) < 0 ? -errno : 0;
        if (r < 0)
                (void) unlinkat(fs->work, temp, 0);
        return r;
}

/* False: it cannot be read. */
static bool read_number(Fs *fs, const char *kind, uint64_t ino, uint64_t *ret) {
        char name[LINKS_NAME_MAX];

        links_name(name, kind, ino);
        g_autofree char *text = read_text(fs, name);
        bool known = text || errno == ENOENT;
        *ret = text ? g_ascii_strtoull(text, NULL, 10) : 0;
        return known;
}

uint64_t links_number(Fs *fs, const char *kind, uint64_t ino) {
        uint64_t number;
        (void) read_number(fs, kind, ino, &number);
        return number;
}

bool links_left(Fs *fs, uint64_t ino, uint64_t *ret) {
        return read_number(fs, LINKS_LEFT, ino, ret);
}

int links_set_number(Fs *fs, const char *kind, uint64_t ino, uint64_t number) {
        char name[LINKS_NAME_MAX], text[24];

        links_name(name, kind, ino);
        (void) g_snprintf(text, sizeof text, "%" PRIu64, number);
        if (number == 0)
                return unlinkat(fs->links, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        return write_text(fs, name, text);
}

char *links_which(int dir, const char *name) {
        union {
                struct file_handle handle;
                char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        GString *text = g_string_new(NULL);
        struct statx stx;
        int mount;

        if (name_to_handle_at(dir, name, &h.handle, &mount, *name ? 0 : AT_EMPTY_PATH) == 0) {
                g_string_printf(text, "h%x.", (unsigned) h.handle.handle_type);
                for (unsigned i = 0; i < h.handle.handle_bytes; i++)
                        g_string_append_printf(text, "%02x", h.handle.f_handle[i]);
        } else if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH), STATX_BASIC_STATS | STATX_BTIME, &stx) == 0) {
                bool born = stx.stx_mask & STATX_BTIME;
                const struct statx_timestamp *t = born ? &stx.stx_btime : &stx.stx_ctime;
                g_string_printf(text, "%c%" PRIi64 ".%u", born ? 'b' : 'c', (int64_t) t->tv_sec, t->tv_nsec);
                if (!born)
                        g_string_append_printf(text, ".%" PRIu64, (uint64_t) stx.stx_size);
        }
        return g_string_free(text, FALSE);
}

/* Is it the file that a note is of? One that says nothing is taken at its word. *which: the file's, asked for once. */
static bool is_that(const char *note, int dir, const char *name, char **which) {
        if (!note || !*note)
                return true;
        if (!*which)
                *which = links_which(dir, name);
        return g_str_equal(note, *which);
}

static void set_removed(Fs *fs, uint64_t ino, unsigned n, const char *which) {
        Removed *r = g_new(Removed, 1);
        *r = (Removed){ n, g_strdup(which) };
        pthread_mutex_lock(&fs->removed_lock);
        g_hash_table_replace(fs->removed, g_memdup2(&ino, sizeof ino), r);
        atomic_store(&fs->any_removed, true);
        pthread_mutex_unlock(&fs->removed_lock);
}

unsigned links_removed(Fs *fs, uint64_t ino) {
        pthread_mutex_lock(&fs->removed_lock);
        const Removed *r = g_hash_table_lookup(fs->removed, &ino);
        unsigned n = r ? r->n : 0;
        pthread_mutex_unlock(&fs->removed_lock);
        return n;
}

void links_count_removed(Fs *fs, Node *node) {
        char name[LINKS_NAME_MAX];
        unsigned n = links_removed(fs, node->ino) + 1;
        g_autofree char *which = NULL;
        Place p;

        if (place_get(fs, node, &p) == 0) {
                which = p.dir >= 0 ? links_which(p.dir, p.name) : NULL;
                place_put(fs, &p);
        }
        set_removed(fs, node->ino, n, which);
        g_autofree char *text = g_strdup_printf("%u %s", n, which ? which : "");
        links_name(name, LINKS_GONE, node->ino);
        if (fs_dev_keep(fs, node->key_dev) == 0)
                (void) write_text(fs, name, text);
}

/* Names of another file were counted that had this one's number before. */
static void forget_removed(Fs *fs, int dir, const char *name, uint64_t ino, char **which) {
        pthread_mutex_lock(&fs->removed_lock);
        const Removed *r = g_hash_table_lookup(fs->removed, &ino);
        g_autofree char *note = r ? g_strdup(r->which) : NULL;
        pthread_mutex_unlock(&fs->removed_lock);
        if (!note || is_that(note, dir, name, which))
                return;
        pthread_mutex_lock(&fs->removed_lock);
        g_hash_table_remove(fs->removed, &ino);
        pthread_mutex_unlock(&fs->removed_lock);
        (void) links_set_number(fs, LINKS_GONE, ino, 0);
}

void links_find(Fs *fs, int dir, const char *name, Found *f) {
        const uint64_t ino = f->ino;
        g_autofree char *which = NULL;
        char key[LINKS_NAME_MAX];
        struct stat st;

        if (f->upper || S_ISDIR(f->st.st_mode) || f->st.st_nlink < 2)
                return;
        if (atomic_load(&fs->any_removed))
                forget_removed(fs, dir, name, ino, &which);
        for (unsigned i = 0; atomic_load(&fs->indexed) && i < SUCCESSORS_MAX; i++) {
                f->ino = ino ^ (uint64_t) i << SUCCESSOR_SHIFT;
                links_name(key, "", f->ino);
                if (fstatat(fs->links, key, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return;
                links_name(key, LINKS_WHICH, f->ino);
                g_autofree char *note = read_text(fs, key);
                if (!is_that(note, dir, name, &which))
                        continue;
                f->st = st;
                f->upper = f->indexed = true;
                f->layer = LAYER_UPPER;
                return;
        }
}

bool links_has(Fs *fs, uint64_t ino, const struct stat *file) {
        char key[LINKS_NAME_MAX];
        struct stat st;

        links_name(key, "", ino);
        return atomic_load(&fs->indexed) && fstatat(fs->links, key, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == file->st_ino && st.st_dev == file->st_dev;
}

int links_add(Fs *fs, uint64_t ino, const char *which, const char *temp) {
        char key[LINKS_NAME_MAX];

        links_name(key, LINKS_WHICH, ino);
        int r = which ? write_text(fs, key, which) : 0;
        links_name(key, "", ino);
        if (r == 0)
                r = up_link(fs, fs->work, temp, fs->links, key);
        if (r == 0)
                atomic_store(&fs->indexed, true);
        return r;
}

void links_drop(Fs *fs, uint64_t ino) {
        char key[LINKS_NAME_MAX];

        links_name(key, "", ino);
        (void) up_unlink(fs, fs->links, key, 0);
        (void) links_set_number(fs, LINKS_WHICH, ino, 0);
}

void links_read(Fs *fs) {
        DIR *list = fd_open_dir(fs->links, ".");

        for (struct dirent *d; list && (d = readdir(list));) {
                const char *name = d->d_name;
                if (g_ascii_isxdigit(name[0]))
                        fs->indexed = true;
                if (!g_str_has_prefix(name, LINKS_GONE) && !g_str_has_prefix(name, LINKS_DEVICE))
                        continue;
                g_autofree char *text = read_text(fs, name);
                uint64_t number = g_ascii_strtoull(name + 1, NULL, 16);
                const char *which = text ? strchr(text, ' ') : NULL;
                if (text && g_str_has_prefix(name, LINKS_DEVICE))
                        devices_remember(fs, (unsigned) number, text);
                else if (text)
                        set_removed(fs, number, (unsigned) g_ascii_strtoull(text, NULL, 10), which ? which + 1 : NULL);
        }
        if (list)
                closedir(list);
}
