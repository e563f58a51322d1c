/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file systems that layers lie on, numbered: what tells apart two files of one inode number.
 *
 * Role: usbox-fs. Privileges: the caller's. Threads: any; a mutex for the seldom case that one is met for the first time.
 *
 * A file shows its inode number with the number of its file system in the upper bits. What is kept of that (attributes of copies, names in links/
 * of the work directory) has to mean the same file at the next mount, when st_dev may be another and directories are looked at in another order: so
 * the number belongs to what statfs(2) calls the file system's id, and links/ has the table (LINKS_DEVICE).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/fs.h"

bool devices_init(Fs *fs) {
        pthread_mutex_init(&fs->dev_lock, NULL);
        fs->devs = calloc(FS_DEVS_MAX, sizeof *fs->devs);
        fs->dev_numbers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        fs->dev_taken = calloc(FS_DEVS_MAX, sizeof *fs->dev_taken);
        return fs->devs && fs->dev_taken;
}

void devices_remember(Fs *fs, unsigned number, const char *id) {
        if (number >= FS_DEVS_MAX)
                return;
        g_hash_table_replace(fs->dev_numbers, g_strdup(id), GUINT_TO_POINTER(number));
        fs->dev_taken[number] = true;
}

/* What the file system is called when it is mounted again; its st_dev where it has no id of its own (NFS, FUSE). */
static char *ask_id(dev_t dev, int dir, const char *name) {
        struct statfs st = { 0 };
        unsigned id[2];

        if (dir >= 0) {
                _cleanup_close_ int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                G_STATIC_ASSERT(sizeof id == sizeof st.f_fsid);
                if (fd >= 0 && fstatfs(fd, &st) == 0) {
                        memcpy(id, &st.f_fsid, sizeof id);
                        if (id[0] != 0 || id[1] != 0)
                                return g_strdup_printf("%lx:%x:%x", (unsigned long) st.f_type, id[0], id[1]);
                }
        }
        return g_strdup_printf("dev:%u:%u", major(dev), minor(dev));
}

static bool is_met(const Fs *fs, const char *id) {
        for (unsigned i = 0; i < fs->n_devs; i++)
                if (g_str_equal(fs->devs[i].id, id))
                        return true;
        return false;
}

/* Under the lock. Images of one origin, and overlayfs's files, have one id and several st_dev: told apart as they come. */
static unsigned number_of(Fs *fs, char **id, bool lasting) {
        gpointer known;
        unsigned number = 0;

        for (unsigned copy = 2; is_met(fs, *id); copy++) {
                char *bare = *id;
                *id = g_strdup_printf("%.*s#%u", (int) strcspn(bare, "#"), bare, copy);
                g_free(bare);
        }
        if (lasting && g_hash_table_lookup_extended(fs->dev_numbers, *id, NULL, &known))
                return GPOINTER_TO_UINT(known);
        if (lasting)
                while (number + 1 < FS_DEVS_MAX && fs->dev_taken[number])
                        number++;
        else
                for (number = FS_DEVS_MAX - 1; number > 0 && fs->dev_taken[number];)
                        number--;
        fs->dev_taken[number] = true;
        return number;
}

static unsigned find(const Fs *fs, dev_t dev, unsigned n) {
        unsigned i = 0;
        while (i < n && fs->devs[i].dev != dev)
                i++;
        return i;
}

/* The id is taken. */
static unsigned meet(Fs *fs, dev_t dev, char *id, bool lasting) {
        pthread_mutex_lock(&fs->dev_lock);
        unsigned n = atomic_load(&fs->n_devs), i = find(fs, dev, n);
        if (i == n && n < FS_DEVS_MAX) {
                unsigned number = number_of(fs, &id, lasting);
                fs->devs[n] = (Device){ .dev = dev, .id = g_steal_pointer(&id), .number = (uint16_t) number, .kept = !lasting };
                atomic_store_explicit(&fs->n_devs, n + 1, memory_order_release);
        }
        pthread_mutex_unlock(&fs->dev_lock);
        g_free(id);
        return i;
}

unsigned fs_dev_index(Fs *fs, dev_t dev) {
        unsigned n = atomic_load_explicit(&fs->n_devs, memory_order_acquire), i = find(fs, dev, n);
        return i < n ? i : meet(fs, dev, ask_id(dev, -1, NULL), true);
}

void fs_dev_meet(Fs *fs, dev_t dev, int dir, const char *name) {
        unsigned n = atomic_load_explicit(&fs->n_devs, memory_order_acquire);
        if (find(fs, dev, n) == n)
                (void) meet(fs, dev, ask_id(dev, dir, name), true);
}

void fs_dev_meet_fleeting(Fs *fs, dev_t dev) {
        (void) meet(fs, dev, ask_id(dev, -1, NULL), false);
}

uint64_t fs_shown_ino(Fs *fs, dev_t dev, ino_t ino) {
        unsigned i = fs_dev_index(fs, dev);
        return i < FS_DEVS_MAX ? ino ^ (uint64_t) fs->devs[i].number << DEVICE_SHIFT : ino;
}

int fs_dev_keep(Fs *fs, unsigned index) {
        int r = 0;

        if (index >= FS_DEVS_MAX || atomic_load_explicit(&fs->devs[index].kept, memory_order_acquire))
                return 0;
        pthread_mutex_lock(&fs->dev_lock);
        Device *d = &fs->devs[index];
        if (!atomic_load(&d->kept) && !g_hash_table_contains(fs->dev_numbers, d->id)) {
                char name[16];
                (void) g_snprintf(name, sizeof name, LINKS_DEVICE "%x", d->number);
                r = symlinkat(d->id, fs->links, name) < 0 ? -errno : 0;
                if (r == 0)
                        devices_remember(fs, d->number, d->id);
        }
        if (r == 0)
                atomic_store_explicit(&d->kept, true, memory_order_release);
        pthread_mutex_unlock(&fs->dev_lock);
        return r;
}
