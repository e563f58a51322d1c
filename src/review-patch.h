/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "review.h"

/*
 * What a box changed as a patch that git apply takes, or as counts of lines (--stat). A patch says files, symlinks and git's two modes of a
 * file: binary files are in it by their size alone; what is below a .git as a comment, since git apply takes no such thing; directories,
 * other modes, owners, attributes and times not at all.
 */

/* One file of it. */
typedef struct {
        const char *path;  /* in the box */
        bool binary;       /* not text, or too large to be treated as such */
        guint64 added, removed; /* lines */
        guint64 old_size, new_size;
        const char *text;  /* the patch, "" where there is nothing that it could say */
} PatchFile;

/* Of which files. */
typedef enum {
        PATCH_ALL,
        PATCH_HOOKS, /* project hooks */
        PATCH_OTHERS,
} PatchFiles;

typedef void (*PatchVisit)(void *data, const PatchFile *file);

/*
 * Of each file in changes (of review_changes(), NULL: everything of them). strip: a directory that the names in the patch are relative to, "/" for
 * all. *unsaid grows by how many changes a patch cannot say. What visit has is gone after it: not all that a box changed has room in memory.
 * False with error.
 */
bool review_patch(const Review *review, const GPtrArray *changes, const char *strip, PatchFiles files, PatchVisit visit, void *data, guint *unsaid,
                  GError **error);
