/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "commit-journal.h"
#include "fsoverlay/changes.h"
#include "seen.h"
#include "spec.h"
#include "state.h"
#include "verb-args.h"

/*
 * Looking at what a box changed, for diff, commit and their kin: the box's upper/ beside the host's directory that was its "/".
 *
 * The upper is hostile. Whatever is opened in it is opened by review_open_upper(); what is opened on the host, by review_open_lower(): neither follows
 * a symlink, nor leaves its tree.
 */
typedef struct {
        char id[BOX_ID_LEN + 1];
        char *name; /* what it is called: its name, or its id where it has none */
        char *dir;  /* the box's directory */
        char *home; /* the caller's */
        bool running; /* its launcher lives */
        int dir_fd, upper;
        int lock_fd, turn_fd; /* -1: not locked */
        Seen *seen;
        Rules *rules;
        Lowers lowers; /* one: seen->lower */
        CommitJournal *journal; /* what commits did already */
        gid_t *groups;
        ChangesOptions options; /* for changes_walk(), filled */
} Review;

/* One change, kept. */
typedef struct {
        ChangeKind kind;
        unsigned what;        /* CHANGE_CONTENT, ... */
        char *path;           /* absolute in the box, and below the lower */
        char *below_path;     /* where the lower has what it is compared with; path, but below a renamed directory */
        gsize moved_len;      /* as Change has it */
        char *redirect;       /* a directory that was renamed: from there */
        bool opaque, merged, unread, hidden; /* as Change has them */
        bool hook;            /* at or below a project hook: other programs run or obey it without being asked */
        bool moved;           /* below a renamed directory */
        bool has_st, has_below;
        struct stat st, below; /* in the upper; in the lower */
        RuleState rule;
} ReviewChange;

/* Attributes alone of what it was have changed: it stays the file that it is, with whatever other names it has. */
static inline bool review_keeps_content(const ReviewChange *c) {
        return c->kind == CHANGE_MODIFIED && !(c->what & CHANGE_CONTENT);
}

/* Of what a commit carries nothing but times. */
static inline bool review_keeps_mode(const ReviewChange *c) {
        return review_keeps_content(c) && !(c->what & (CHANGE_MODE | CHANGE_XATTR));
}

/* The box of that name, id or "last". NULL with error. */
Review *review_open(const Caller *caller, const char *box, GError **error);
void review_free(Review *review);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Review, review_free)

/* The words after the first: absolute paths, and relative ones against cwd. The caller's. */
GStrv review_paths(const char *cwd, const VerbArgs *args);

/* On stderr: no change is at or below them. */
void review_tell_unmatched(const Review *review);

/*
 * All changes at or below one of paths (NULL, or none in it: everywhere), in the order of Change's walk: an array of ReviewChange *, the caller's.
 * unchanged: CHANGE_NONE, too. What could not be read is named on stderr, and *ret_complete is false then.
 */
GPtrArray *review_changes(Review *review, const char *const *paths, bool unchanged, bool *ret_complete);

/* It is to be carried with what is at or below one of paths (NULL, or none in it: everywhere): that itself, and new directories on the way to it. */
bool review_carries(const ReviewChange *change, const char *const *paths);

/* Nobody else changes what the box has, or runs it, until review_free(); what others did meanwhile is known then. False with error. */
bool review_lock(Review *review, GError **error);

/* The host's directory that was the box's "/". The review's. */
int review_lower(const Review *review);

/* Open path (absolute, of the box) in either tree, or below another root. -1 with errno. */
int review_open_upper(const Review *review, const char *path, int flags);
int review_open_lower(const Review *review, const char *path, int flags);
int review_open_below(int root, const char *path, int flags);

/*
 * What the box saw below a directory of the lower: path (absolute), at every name, a directory before what is in it. visit gets the directory's
 * descriptor, the name, its path and status, and whether the box saw it; true: go on (into it). False with errno where something could not be
 * read, or with errno 0 where visit ended it.
 */
typedef struct {
        int dirfd;
        const char *name, *path;
        const struct stat *st;
        bool shown;
} ReviewEntry;
typedef bool (*ReviewVisit)(void *data, const ReviewEntry *entry);
bool review_walk_lower(const Review *review, const char *path, RuleState rule, ReviewVisit visit, void *data);

/* path or something above it is the name of a project hook (.git/hooks, .envrc, ...); so is a file .git. */
bool review_is_hook(const char *path);

/* path as git writes it: within quotes and with escapes where a character of it is not printable; prefix (as "a/") goes within them. The caller's. */
char *review_quote(const char *prefix, const char *path);
