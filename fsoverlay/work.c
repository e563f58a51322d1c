/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The work directory: names for what is not finished, whiteouts (all of them links to one there), what is on its way out of the upper.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any; work_clean() before there are any.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/fs.h"

#define WHITEOUT "whiteout"

void temp_name(Fs *fs, char ret[32]) {
        (void) g_snprintf(ret, 32, "t%" PRIx64, atomic_fetch_add(&fs->temp, 1));
}

/* overlayfs's mark for "nothing here": device 0:0, which everybody may make (since Linux 5.8). All of them are links to one. */
int whiteout_make(Fs *fs, int dir, const char *name) {
        for (int tries = 0; tries < 3; tries++) {
                int r = up_link(fs, fs->work, WHITEOUT, dir, name);
                if (r != -ENOENT && r != -EMLINK)
                        return r;
                pthread_mutex_lock(&fs->whiteout_lock);
                if (r == -EMLINK)
                        (void) unlinkat(fs->work, WHITEOUT, 0);
                int made = mknodat(fs->work, WHITEOUT, S_IFCHR, makedev(0, 0)) < 0 && errno != EEXIST ? -errno : 0;
                pthread_mutex_unlock(&fs->whiteout_lock);
                if (made < 0)
                        return made;
        }
        return up_mknod(fs, dir, name, S_IFCHR, makedev(0, 0));
}

int whiteout_replace(Fs *fs, int dir, const char *name) {
        char temp[32];

        temp_name(fs, temp);
        int r = whiteout_make(fs, fs->work, temp);
        if (r < 0)
                return r;
        r = up_rename(fs, fs->work, temp, dir, name, 0);
        /* rename(2) of two links to one file does nothing and says 0: it was a whiteout. */
        (void) unlinkat(fs->work, temp, 0);
        return r;
}

static int remove_tree(Fs *fs, int dir, const char *name, int depth);

/* All that is in the directory fd, which is closed then. */
static int remove_entries(Fs *fs, int fd, int depth) {
        DIR *list = fdopendir(fd);
        if (!list) {
                int r = -errno;
                close(fd);
                return r;
        }
        for (struct dirent *d; (d = readdir(list));)
                if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
                        (void) remove_tree(fs, dirfd(list), d->d_name, depth);
        closedir(list);
        return 0;
}

static int remove_tree(Fs *fs, int dir, const char *name, int depth) {
        int r = up_unlink(fs, dir, name, 0);
        if (r != -EISDIR && r != -EPERM)
                return r;
        r = up_unlink(fs, dir, name, AT_REMOVEDIR);
        if ((r != -ENOTEMPTY && r != -EEXIST) || depth > 64)
                return r;
        int fd = up_open(fs, dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0)
                return fd;
        r = remove_entries(fs, fd, depth + 1);
        return r < 0 ? r : up_unlink(fs, dir, name, AT_REMOVEDIR);
}

void keep_times(Fs *fs, int dir, const struct stat *before) {
        const struct timespec times[2] = { before->st_atim, before->st_mtim };
        if (utimensat(dir, ".", times, 0) < 0 && fs->agent)
                (void) agent_utimens(fs->agent, dir, ".", -1, times);
}

/* A directory of the upper, in work/ by now. Who has it open knows nothing of the whiteouts that went before it; its times do not tell either. */
static void remove_trash(Fs *fs, const char *temp) {
        _cleanup_close_ int fd = up_open(fs, fs->work, temp, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
        struct stat before;
        bool timed = fd >= 0 && fstat(fd, &before) == 0;

        (void) remove_tree(fs, fs->work, temp, 0);
        if (timed)
                keep_times(fs, fd, &before);
}

int clear_dir(Fs *fs, int dir) {
        struct stat before;
        int fd = up_open(fs, dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        if (fd < 0)
                return fd;
        bool timed = fstat(fd, &before) == 0;
        int r = remove_entries(fs, fd, 0);
        if (timed)
                keep_times(fs, dir, &before);
        return r;
}

/* A directory of the upper that shows nothing (whiteouts may be in it) goes; a whiteout takes its place in the same moment. */
int trash_dir(Fs *fs, int dir, const char *name, bool leave_whiteout) {
        char temp[32];
        int r;

        temp_name(fs, temp);
        if (leave_whiteout) {
                r = whiteout_make(fs, fs->work, temp);
                if (r == 0)
                        r = up_rename(fs, dir, name, fs->work, temp, RENAME_EXCHANGE);
                if (r < 0)
                        (void) unlinkat(fs->work, temp, 0);
        } else {
                r = up_unlink(fs, dir, name, AT_REMOVEDIR);
                if (r != -ENOTEMPTY && r != -EEXIST)
                        return r;
                r = up_rename(fs, dir, name, fs->work, temp, 0);
        }
        if (r == 0)
                remove_trash(fs, temp);
        return r;
}

int work_clean(Fs *fs) {
        int fd = openat(fs->work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : remove_entries(fs, fd, 0);
}
