/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <time.h>

#include "fsoverlay/config.h"
#include "root.h"

/*
 * What a box could see of the host, and since when: the file "seen" in the box's directory, where the box itself cannot come to. diff and commit
 * go by it: what was hidden from the box stays so, and what the host changed later than that is a conflict.
 */
#define SEEN_FILE "seen"

/* On upper/ and on each directory on the way in it that usbox made: what the box itself has of the others, with mode and attributes, has it not. */
#define WAY_ATTRIBUTE XATTR_PRIVATE "usbox.way"

typedef struct {
        struct timespec since; /* just before the command was let go, by the clock that gives files their times */
        char *lower;           /* the host's directory that was the box's "/" */
        bool fuse;             /* usbox-fs served it, and not the kernel */
        char **options, *cwd;  /* of the run, and where it was started: the same once more makes the same view */
        FsConfig *rules;       /* which names of it were there */
        GHashTable *own;       /* set of char *: paths in the box whose files are the box's own, and neither the host's nor a change */
        GHashTable *ways;      /* set of char *: directories of upper/ that usbox made, where they were not there: their mode is not the box's doing */
        GHashTable *through;   /* set of char *: trees that were written through, of which upper/ has the project hooks */
        guint32 root_uid, root_gid; /* the host's ids that were the box's root; G_MAXUINT32: none */
} Seen;

/* Launcher, just before GO of the first run of a box: from now on, whatever changes on the host changed since. *ret_fd: for the next function, -1 where an
 * earlier run has it noted. False with error. */
bool seen_begin(int box_fd, const RootPlan *plan, int *ret_fd, struct timespec *ret_since, GError **error);

/* And all the rest, which has time. */
bool seen_write(int fd, const struct timespec *since, const Spec *spec, const RootPlan *plan, GError **error);

/* The moment by a clock that was set back meanwhile, which the times of the machine's boot tell (ns since 1970, when the moment was noted and now): what the
 * host changed after it may bear an earlier time than it was, so it is taken to be earlier, too. A clock that was set ahead hides nothing. */
void seen_set_back(struct timespec *since, gint64 boot_then, gint64 boot_now);

/* Read it below box_fd, since by the clock as it goes now. NULL with error. */
Seen *seen_read(int box_fd, GError **error);
void seen_free(Seen *seen);

/* name in dirfd, a directory of upper/, which is path, was made by usbox as a way. upper: upper/ itself; one of an earlier usbox tells by the path alone. */
bool seen_is_way(const Seen *seen, int upper, int dirfd, const char *name, const char *path);

/* What upper/ has at path was written by the kernel's overlayfs: the root was its, or path is a project hook. */
bool seen_by_kernel(const Seen *seen, const char *path);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Seen, seen_free)
