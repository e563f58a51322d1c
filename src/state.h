/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/fd.h"
#include "spec.h"

#define BOX_ID_LEN 12

#define BOX_NAME_MAX 64

#define STATE_RANDOM_MAX 64

/* n_digits (even, at most STATE_RANDOM_MAX) lower-case hexadecimal digits and a NUL: a box's id, a machine's id. */
bool state_random_hex(char *ret, size_t n_digits, GError **error);

/* It looks like an id. */
bool state_is_id(const char *name);

/* The directory of all boxes' directories (O_PATH), made where it is missing and make is set; its real path, unless ret_path is NULL. -1 with
 * error. */
int state_open_boxes(const Caller *caller, bool make, char **ret_path, GError **error);

/* Write state.json below dirfd, by rename. */
bool state_write(int dirfd, const char *text, GError **error);

/* Keep room for the next state_write(), of at most len bytes, and for a mark (see BoxDir), whatever fills the disk meanwhile; as far as it is to be had. */
void state_reserve(int dirfd, size_t len, bool mark);

/* The name of box id below boxes_fd, or NULL; the caller's. */
char *state_box_name(int boxes_fd, const char *id);

/*
 * A box's directory on the host, $XDG_DATA_HOME/usbox/boxes/ID, locked by flock(2) while the launcher lives: upper/ (what the box
 * changed), work/ (the overlay's), tmp/ (its /var/tmp), hooks/ and hooks-work/ (with --overlay=fuse: project hooks while the box runs),
 * .state.json and .mark (room kept for its end), name (where it has one), log (with --detach), state.json (where it is to outlive its
 * launcher). Two marks say that its end is not to remove it: kept,
 * made at the end of an unnamed run that left changes, until the next one ends; and held, until `usbox rm`: made at the start
 * of a named one, at the end of a detached one.
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

/* The box of that name, or a new one of it: id (in: for a new one) is the box's. An error where it is running. */
BoxDir *box_dir_named(const char *name, char id[static BOX_ID_LEN + 1], const Caller *caller, GError **error);

/* The box of that id, as it was left; its id goes to id. */
BoxDir *box_dir_again(const char *wanted, char id[static BOX_ID_LEN + 1], const Caller *caller, GError **error);

/* The directory is one whose launcher is between mkdir and lock, or was killed there: empty, and of the last minute. fd: it, opened to read. */
bool box_dir_is_new(int fd);

/* The hint for an error of a disk that is full, what of it is usbox's to give back, or of a limit on the size of files. False. */
bool state_hint_full(GError **error);

/* flock(2) of a box's directory: LOCK_EX for who runs, begins or removes the box, LOCK_SH for who looks at it or commits it; waited for a moment. False
 * with errno: ENOENT where the box is gone by then, EWOULDBLOCK where another has it. */
bool state_lock(int fd, int how);

/* The lock of box id, LOCK_EX. -1 with error: ENOENT in it where there is no such box, EBUSY where another has it. */
int box_dir_lock(int boxes_fd, const char *id, GError **error);

/* Removes nothing; releases the lock. */
void box_dir_free(BoxDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BoxDir, box_dir_free)

/* Remove what boxes left whose launcher was killed: unlocked and not kept. */
void box_dir_sweep(BoxDir *dir, const Spec *spec);

/* The run is over: forget what the unnamed one before it left (all that is kept), keep the directory (held: until it is removed by hand), or
 * remove it. */
void box_dir_forget(BoxDir *dir, const Spec *spec);
void box_dir_forget_without(const Spec *spec); /* the same for a run that has no directory: where there are none, none is made */
bool box_dir_keep(BoxDir *dir, const Spec *spec, bool held, GError **error);
bool box_dir_remove(BoxDir *dir, const Spec *spec, GError **error);

/* What a run changed: names in upper/ after root_plan_trim_dirs(). */
typedef struct {
        guint64 changed; /* files, links, directories that the host has not; where there are none, directories of its that are not as they were */
        guint64 removed; /* whiteouts */
        guint64 bytes;   /* of regular files, as allocated */
} UpperCount;
void box_dir_count(const BoxDir *dir, const Spec *spec, UpperCount *ret);
