/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file system put together from its layers, before it is served.
 *
 * Role: usbox-fs. Privileges: the caller's. Threads: none yet. Order: after layers and /dev/fuse are open; the agent, which fs_start_agent() starts, and the
 * confinement come before the first thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "fsoverlay/mountfs.h"

/* Of the descriptors that we may have, half at most, and not more than helps. */
#define CACHED_FDS_MAX 4096u

static unsigned max_cached(void) {
        rlim_t limit = fd_raise_limit();
        return limit == 0 ? 256 : (unsigned) MIN(limit / 2, (rlim_t) CACHED_FDS_MAX);
}

static bool is_empty(int dir) {
        DIR *list = fd_open_dir(dir, ".");
        bool empty = true;

        if (!list)
                return false;
        for (struct dirent *d; empty && (d = readdir(list));)
                empty = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;
        closedir(list);
        return empty;
}

static int open_made(int dir, const char *name, GError **error) {
        if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST) {
                err_set(error, errno, "make %s in the work directory", name);
                return -1;
        }
        int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                err_set(error, errno, "%s in the work directory", name);
                return -1;
        }
        /* The kernel's overlayfs leaves it without any rights. */
        struct stat st;
        if (fstat(fd, &st) == 0 && (st.st_mode & S_IRWXU) != S_IRWXU)
                (void) !fchmodat(dir, name, 0700, 0);
        return fd;
}

/* Two that change one upper, each with its own idea of it, would spoil it. The lock is held by an open descriptor, and so ends with us. */
static bool lock_work(Fs *fs, GError **error) {
        int fd = openat(fs->work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return err_set(error, errno, "work directory");
        /* One that was killed holds it until its agent is gone, too, which is a moment later. */
        int saved = EWOULDBLOCK;
        for (int tries = 0; saved == EWOULDBLOCK && tries < 100; tries++) {
                if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                        return true; /* it stays open */
                saved = errno;
                g_usleep(20000);
        }
        close(fd);
        if (saved != EWOULDBLOCK)
                return true; /* a file system without locks */
        err_set(error, EBUSY, "the work directory is in use by another usbox-fs");
        return err_hint(error, "unmount that one first, or take another upper and work directory");
}

static bool may_be_foreign(const FsParts *parts, int root) {
        return parts->foreign && xattr_get_at(root, ".", XATTR_FORM, NULL, 0) < 0;
}

/* An empty upper gets no marks but ours from now on, whatever the box makes look like others'. */
static bool begin_upper(Fs *fs, const FsParts *parts, GError **error) {
        int r = fs->read_only ? 0 : xattr_set_at(parts->upper, ".", XATTR_FORM, "y", 1);

        if (r == -EOPNOTSUPP) {
                log_note("the file system of the upper keeps no attributes (user.*): what is to be marked by one fails there");
                r = 0;
        }
        return r == 0 || fs_mark_failed(-r, error);
}

/* Is this the directory outer, or somewhere below it? */
static bool is_within(int dir, const struct stat *outer) {
        struct stat st, below = { 0 };
        int at = fcntl(dir, F_DUPFD_CLOEXEC, 3);
        bool within = false;

        while (at >= 0 && fstat(at, &st) == 0 && (st.st_dev != below.st_dev || st.st_ino != below.st_ino)) {
                within = st.st_dev == outer->st_dev && st.st_ino == outer->st_ino;
                int up = within ? -1 : openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
                close(at);
                at = up;
                below = st;
        }
        if (at >= 0)
                close(at);
        return within;
}

static bool open_work(Fs *fs, const FsParts *parts, GError **error) {
        struct stat upper, work;

        fs->work = fs->links = -1;
        if (parts->upper < 0)
                return true;
        if (fstat(parts->upper, &upper) < 0 || fstat(parts->work, &work) < 0)
                return err_set(error, errno, "upper and work directories");
        if (upper.st_dev != work.st_dev)
                return err_set(error, EXDEV, "the work directory has to be on the file system of the upper");
        /* What is in work/ is removed, and what is in the upper shows. */
        if (is_within(parts->work, &upper) || is_within(parts->upper, &work))
                return err_set(error, EINVAL, "neither of the upper and the work directory may be within the other");
        /* The other way round there are uses: the lower may be "/". The host's tree is open later, and is no layer to be spoilt. */
        for (unsigned i = 0; i < parts->n_lowers && !parts->last_is_host; i++)
                if (is_within(parts->lowers[i], &upper) || is_within(parts->lowers[i], &work))
                        return err_set(error, EINVAL, "a lower directory may not be the upper or the work directory, nor be within one of them");
        fs->work = open_made(parts->work, "work", error);
        fs->links = fs->work >= 0 ? open_made(parts->work, "links", error) : -1;
        if (fs->links < 0 || !lock_work(fs, error))
                return false;
        /* What a killed one left unfinished. */
        int r = work_clean(fs);
        if (r < 0)
                return err_set(error, -r, "clean the work directory");
        links_read(fs);
        fs->origins = fs->owners = !is_empty(parts->upper);
        if (!fs->origins && !begin_upper(fs, parts, error))
                return false;
        fs->layers[LAYER_UPPER].foreign = may_be_foreign(parts, parts->upper);
        return true;
}

/* The lowest first: its inode numbers show as they are. The box's own layer is a file system that is made anew each time. */
static bool meet_devices(Fs *fs) {
        for (unsigned i = fs->n_layers; i-- > 0;) {
                const Layer *layer = &fs->layers[i];
                struct stat st;
                if (layer->root < 0)
                        continue;
                if (fstat(layer->root, &st) < 0)
                        return false;
                if (layer->places)
                        fs_dev_meet_fleeting(fs, st.st_dev);
                else
                        fs_dev_meet(fs, st.st_dev, layer->root, ".");
        }
        return true;
}

static bool make_root(Fs *fs, GError **error) {
        unsigned first = fs->layers[LAYER_UPPER].root >= 0 ? LAYER_UPPER : LAYER_UPPER + 1;
        struct stat top, below;
        Found found = { .layer = first, .upper = first == LAYER_UPPER };

        if (fstat(fs->layers[first].root, &top) < 0 || fstat(fs->layers[LAYER_UPPER + 1].root, &below) < 0)
                return err_set(error, errno, "root directory");
        if (!meet_devices(fs))
                return err_set(error, errno, "root directories of the layers");
        found.st = top;
        found.ino = fs_shown_ino(fs, below.st_dev, below.st_ino);
        found.n_lower = (uint16_t) (fs->n_layers - 1);
        found.lower = g_new0(DirLayer, found.n_lower);
        for (unsigned i = 0; i < found.n_lower; i++)
                found.lower[i].layer = (uint16_t) (i + 1);
        found.rule = fs->rules ? rules_root(fs->rules) : 0;
        bool new_name;
        fs->root = node_get(fs, NULL, "", &found, &new_name);
        g_free(found.lower);
        if (!fs->root)
                return err_set(error, ENOMEM, "root directory");
        return true;
}

static bool read_groups(Fs *fs, GError **error) {
        int n = getgroups(0, NULL);
        fs->groups = g_new(gid_t, MAX(n, 0) + 1);
        fs->n_groups = getgroups(MAX(n, 0), fs->groups);
        if (fs->n_groups < 0)
                return err_set(error, errno, "getgroups");
        return true;
}

Fs *fs_open(const FsParts *parts, GError **error) {
        const FsConfig *config = parts->config;
        Fs *fs = g_new0(Fs, 1);

        fs->dev = -1;
        fs->max_fds = max_cached();
        fs->n_layers = parts->n_lowers + 1;
        fs->layers = g_new0(Layer, fs->n_layers);
        fs->layers[LAYER_UPPER] = (Layer){ .root = parts->upper };
        for (unsigned i = 1; i < fs->n_layers; i++)
                fs->layers[i].root = -1;
        fs->read_only = parts->upper < 0 || config->read_only;
        fs->strict = config->strict;
        fs->polling = !config->no_polling;
        fs->acl = !parts->noacl;
        fs->fsync_ignored = parts->fsync_ignored;
        /* A limit is to be felt by the write(2) that meets it, not by a page that is written later. Nor does the kernel believe then what it is told
         * of a file's size and mtime. */
        fs->writeback = !fs->read_only && config->disk == 0 && !config->strict;
        fs->ids = (Ids){ .uidmap = config->uidmap, .gidmap = config->gidmap, .uid = geteuid(), .gid = getegid() };
        links_init(fs);
        if (!devices_init(fs) || !nodes_init(fs) || getrandom(fs->hash_key, sizeof fs->hash_key, 0) != sizeof fs->hash_key) {
                err_set(error, ENOMEM, "table of nodes");
                return NULL;
        }
        if (config->rules->len > 0 || config->others_eyes)
                fs->rules = rules_new(config);
        if (!read_groups(fs, error) || !open_work(fs, parts, error))
                return NULL;
        /* The box's upper is a directory like any other: what it looks like says nothing of "/". */
        fs->root_like_lower = parts->last_is_host && parts->upper >= 0 && xattr_get_at(parts->upper, ".", XATTR_ROOT, NULL, 0) < 0;
        if (parts->trace >= 0)
                fs->journal = journal_new(parts->trace);
        return fs;
}

bool fs_add_lowers(Fs *fs, const FsParts *parts, int dev, GError **error) {
        fs->dev = dev;
        for (unsigned i = 0; i < parts->n_lowers; i++) {
                Layer layer = { .root = parts->lowers[i],
                                .host = parts->last_is_host && i + 1 == parts->n_lowers,
                                .ruled = !parts->last_is_host || i + 1 == parts->n_lowers,
                                .places = parts->last_is_host && i + 1 < parts->n_lowers };
                layer.foreign = may_be_foreign(parts, parts->lowers[i]) && !layer.host;
                fs->foreign |= layer.foreign;
                fs->layers[i + 1] = layer;
        }
        return make_root(fs, error);
}

bool fs_start_agent(Fs *fs, const FsParts *parts, int userns, int life, const Confinement *files, GError **error) {
        bool may_do_without = life < 0;
        guint64 limit = parts->config->disk;
        AgentCount count = { .upper = parts->upper, .links = fs->links };
        g_autoptr(GError) without = NULL;

        if (parts->upper < 0)
                return true;
        /* Root has the right to pass modes that shut out the owner. */
        bool needed = !may_do_without || geteuid() != 0;
        if (needed && !(fs->agent = agent_start(userns, life, files, limit > 0 ? &count : NULL, &without))) {
                if (!may_do_without) {
                        g_propagate_error(error, g_steal_pointer(&without));
                        return false;
                }
                log_step("without an agent: %s", without->message);
        }
        if (limit > 0)
                fs->quota = fs->agent ? quota_new_used(limit, count.bytes) : quota_new(limit, parts->upper, fs->links, error);
        return limit == 0 || fs->quota;
}
