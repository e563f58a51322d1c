/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "root.h"
#include "spec.h"

#define BOX_ID_LEN 12

#define STATE_RANDOM_MAX 64

/* n_digits (even, at most STATE_RANDOM_MAX) lower-case hexadecimal digits and a NUL: a box's id, a machine's id. */
bool state_random_hex(char *ret, size_t n_digits, GError **error);

/*
 * A box's directory on the host, $XDG_DATA_HOME/usbox/boxes/ID, locked by flock(2) while the launcher lives: upper/ (what the box
 * changed), work/ (the overlay's), tmp/ (its /var/tmp), hooks/ and hooks-work/ (with --overlay=fuse: project hooks while the box runs)
 * and, once the run has ended and left changes, kept.
 */
typedef struct {
        char *boxes; /* real path of .../usbox/boxes */
        char *path;  /* boxes/ID */
        int boxes_fd, fd;
        int lock_fd;   /* the directory itself */
        FdLater later; /* what was removed of it, whose space is given back after the run */
        char id[BOX_ID_LEN + 1];
} BoxDir;

/* Make the directory of a new box and lock it. NULL with error and hint. */
BoxDir *box_dir_new(const char *id, const Caller *caller, GError **error);

/* Removes nothing; releases the lock. */
void box_dir_free(BoxDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BoxDir, box_dir_free)

/* Remove what boxes left whose launcher was killed: unlocked and not kept. */
void box_dir_sweep(BoxDir *dir, const Spec *spec);

/* The run is over: forget what the one before it left (all that is kept), keep the directory (only its upper/), or remove it. */
void box_dir_forget(BoxDir *dir, const Spec *spec);
void box_dir_forget_without(const Spec *spec); /* the same for a run that has no directory: where there are none, none is made */
bool box_dir_keep(BoxDir *dir, const Spec *spec, GError **error);
bool box_dir_remove(BoxDir *dir, const Spec *spec, GError **error);

/* What a run changed: names in upper/ after root_plan_trim_dirs(). */
typedef struct {
        guint64 changed; /* files, links, directories that the host has not */
        guint64 removed; /* whiteouts */
        guint64 bytes;   /* of regular files, as allocated */
} UpperCount;
void box_dir_count(const BoxDir *dir, const Spec *spec, UpperCount *ret);
