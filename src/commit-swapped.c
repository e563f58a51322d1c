/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories of the host that are not the ones in which the box worked.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-plan.c.
 *
 * Two directories that changed places, or something mounted over one: no file in them has a later ctime by that, and each looks as if it had not changed.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/times.h"
#include "commit-swapped.h"
#include "copy-origin.h"

static bool is_touched(const Review *review, const struct stat *st) {
        return time_compare(&st->st_ctim, &review->seen->since) > 0;
}

/* It has a new ctime by another name, and by names that came to it or went; the latter set its mtime, too. With a name of its own its directory has changed. */
static bool may_be_renamed(const Review *review, const char *path, const struct stat *st) {
        g_autofree char *parent = g_path_get_dirname(path);
        _cleanup_close_ int fd = review_open_lower(review, parent, O_PATH);
        struct stat above;

        return is_touched(review, st) && time_compare(&st->st_ctim, &st->st_mtim) > 0 && fd >= 0 && fstat(fd, &above) == 0 && is_touched(review, &above);
}

static bool is_mounted(const Review *review, const char *path) {
        _cleanup_close_ int fd = review_open_lower(review, path, O_PATH);
        return fd >= 0 && fd_is_mount(fd);
}

/* A file system that makes inode numbers up anew makes no other directory by that: so something must have happened to it as well. The kernel's overlay has no
 * numbers for us; of it a new mode may look like a new name. */
bool commit_is_swapped(const Review *review, const char *path, const char *below_path, const struct stat *below) {
        if (commit_journal_made(review->journal, below) || commit_journal_planned(review->journal, path, below))
                return false; /* a commit had it there already */
        _cleanup_close_ int fd = review_open_upper(review, path, O_PATH);
        switch (fd >= 0 ? copy_origin_was(fd, below) : COPY_ORIGIN_YES) {
        case COPY_ORIGIN_NO:
                return is_touched(review, below) || is_mounted(review, below_path);
        case COPY_ORIGIN_UNKNOWN:
                return copy_origin_of_upper(fd) && may_be_renamed(review, below_path, below) && !g_hash_table_contains(review->seen->ways, path);
        default:
                return false;
        }
}

GHashTable *commit_swapped(const Review *review, const GPtrArray *changes) {
        GHashTable *paths = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < changes->len; i++) {
                const ReviewChange *c = changes->pdata[i];
                if (c->merged && c->has_st && S_ISDIR(c->st.st_mode) && c->has_below && S_ISDIR(c->below.st_mode) &&
                    commit_is_swapped(review, c->path, c->below_path, &c->below))
                        g_hash_table_add(paths, c->path);
        }
        return paths;
}

bool commit_is_in_swapped(GHashTable *swapped, const ReviewChange *c) {
        g_autofree char *at = g_strdup(c->path);
        char *slash;

        while ((slash = strrchr(at, '/')) && slash != at) {
                *slash = '\0';
                if (g_hash_table_contains(swapped, at))
                        return true;
        }
        return false;
}
