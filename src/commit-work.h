/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of a commit at work share: commit-apply.c (the order), commit-file.c (what is made), commit-move.c (renamed directories). */

#include "commit-apply.h"
#include "commit-held.h"

#define COMMIT_NAME_MAX (sizeof COMMIT_PARKED + BOX_ID_LEN + 16)

typedef struct {
        Review *review;
        const CommitPlan *plan;
        const CommitReport *report;
        char temp[COMMIT_NAME_MAX]; /* the name of what is not finished */
        char *dir_path; /* the directory at hand, as the box and the host know it */
        int dir;        /* O_PATH */
        GHashTable *names;   /* "DEV:INO" of files of the upper with several names → of char *: where on the host it is */
        GHashTable *devices; /* st_dev of file systems that were written to → descriptor, as pointers */
        GHashTable *moved;   /* set of sources of renamed directories (ReviewChange.redirect) that were moved */
        guint first_move;    /* how many moves earlier commits made */
        guint parked;
        bool aside_stays; /* the host's is under a temporary name, or one like it, and is not to be removed */
        const char *blocked; /* a directory that could not be made: what is in it is not tried */
        GError *error;       /* why all has to stop */
} CommitWork;

/* The directory of path on the host becomes the one at hand, and a temporary name may be made in it. *ret_name: path's last part. False with errno, or with
 * work->error. */
bool commit_enter(CommitWork *w, const char *path, const char **ret_name);
/* There is none any more: its path may lead elsewhere now. */
void commit_leave(CommitWork *w);

/* Is it the file that the plan looked at? Its ctime tells, until we rename it: then do not ask for that. */
bool commit_same(const struct stat *now, const struct stat *then, bool with_ctime);
/* now is what the plan saw (then), but that another name of it may have gone by a commit, which changes its ctime. */
bool commit_unchanged(const CommitWork *w, const struct stat *now, const struct stat *then);

/* A descriptor of the upper's at path, which must still be the file that the plan looked at. -1 with errno. */
int commit_open_upper(CommitWork *w, const ReviewChange *change, int flags);

/* Names of the host's directory dir came or went, and its ctime with them: that this was us is for the next commit, where this one is of some paths alone. What
 * else changed in it is looked at by name. False with w->error, or errno. */
bool commit_note_worked(CommitWork *w, int dir);

/* renameat2(2) to a name of the directory at hand. False with errno; where the file system has no such flags (EINVAL), with work->error. */
bool commit_rename(CommitWork *w, int from_dir, const char *from, const char *to, unsigned flags);

/* What stands at name in the directory at hand goes, if it, and all that is in it, is what the plan saw (then). False with errno, or work->error. */
bool commit_remove(CommitWork *w, const char *name, const struct stat *then);

/* commit-file.c: make change's file, symlink or empty directory under the temporary name. replaced: what it will replace, or NULL. False with errno. */
bool commit_make(CommitWork *w, const ReviewChange *change, const struct stat *replaced);
/* Attributes, mode and times of an object of the upper to one of the host; both open (O_PATH: without attributes). */
bool commit_copy_attributes(CommitWork *w, const ReviewChange *change, int from, int to);
/* Remember where a file with several names is. */
void commit_remember_name(CommitWork *w, const ReviewChange *change);

/* Remove what stands under the temporary name. 0 or an errno. */
int commit_remove_temp(CommitWork *w);

/* commit-apply.c: make what the plan's i-th item says, and say so. True: it is there. */
bool commit_make_item(CommitWork *w, guint i);
/* Say that an item failed, by errno. */
void commit_tell_failed(CommitWork *w, const CommitItem *item);
/* No bytes of a file that stands here: it stays the file that it is. */
bool commit_is_in_place(const CommitItem *item);

/* commit-order.c: make all. ok: of each item whether it was made, false before. */
void commit_make_all(CommitWork *w, bool *ok);

/* commit-move.c: move the directory that change says was renamed. False with errno, or work->error. */
bool commit_move(CommitWork *w, const CommitItem *item);
/* The directory at path is about to go: what lies in it and will be moved is taken out first. */
bool commit_park_below(CommitWork *w, const char *path);
/* Nothing is in it that the box has elsewhere and that was not moved there: the box has nothing of that but a name. False with errno EINPROGRESS. */
bool commit_may_go(const CommitWork *w, const char *path);
