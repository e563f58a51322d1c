/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A tree that is written through, and what is noted of the project hooks below its top (hook-nested.h). */

#include "hook-content.h"
#include "root.h"

#define HOOK_TREE_TOLD 5u /* lines of one tree */

typedef struct {
        dev_t dev;
        ino_t ino; /* 0: it is not there */
        mode_t mode;
        off_t size;
        struct timespec changed;
} HookStamp;

typedef enum {
        HOOK_MARK_ANY,
        HOOK_MARK_REPOSITORY, /* which directory it is, not when that changed */
        HOOK_MARK_SHUT,       /* a directory that could not be read */
} HookMarkKind;

/* One name whose change is told. */
typedef struct HookMark HookMark;
struct HookMark {
        HookMarkKind kind;
        char *path;
        HookStamp stamp;
        HookContent content;
        HookMark *unit; /* told in its place: the directory of hooks that it is in; NULL: itself */
        HookMark *repository; /* that it is of */
        bool told;
};

typedef struct {
        const MountSource *source;
        GPtrArray *marks; /* of HookMark, in the order in which they were found */
        GHashTable *by_path;
        size_t path_bytes;
        GPtrArray *dirs; /* the walk's: the directories before the run */
        bool is_read;  /* contents count: hook_content_counts() */
        gsize to_read; /* bytes of them, still */
        bool unread;   /* these were too few */
        unsigned whole; /* so many levels were seen as a whole */
        unsigned told;
} HookTree;

HookTree *hook_tree_new(const MountSource *source);
void hook_tree_free(gpointer tree);

HookStamp hook_stamp_of(const struct stat *st);
bool hook_stamp_is_same_file(const HookStamp *a, const HookStamp *b);

/* Nobody has written, replaced or renamed it meanwhile. */
bool hook_stamp_is_same(const HookStamp *a, const HookStamp *b);

/* The tree's top, as the plan found it; -1: it is another one. */
int hook_tree_open(const HookTree *tree);

/* A directory at path below top; "": top itself. Without symlinks, and of one mount. -1 with errno. */
int hook_tree_open_below(int top, const char *path, uint64_t flags);

/* Say of path in the tree what it is, to which is added before what one should look at it; of a few at most, the others are counted. */
void hook_tree_tell(HookTree *tree, const char *path, const char *what);
