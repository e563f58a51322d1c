/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fsoverlay/lowers.h"
#include "fsoverlay/rules.h"

/*
 * What an upper changes, without a mount: a walk over the upper beside the merged lower layers. For usbox-fs diff, and for the verbs of usbox that
 * show and carry over what a box did.
 */

typedef enum {
        CHANGE_NONE = ' ',     /* in the upper, and as below: a directory on the way to what is in it, a file that was copied */
        CHANGE_ADDED = 'A',    /* was not there */
        CHANGE_MODIFIED = 'M', /* is something else now, of the same type */
        CHANGE_TYPE = 'T',     /* is of another type */
        CHANGE_DELETED = 'D',  /* is gone, with all below it */
} ChangeKind;

/* What of a CHANGE_MODIFIED is not as it was. */
enum {
        CHANGE_CONTENT = 1 << 0, /* bytes, a link's target, a device's number */
        CHANGE_MODE = 1 << 1,
        CHANGE_OWNER = 1 << 2,
        CHANGE_XATTR = 1 << 3, /* user.*, ACLs, capabilities */
        CHANGE_TIME = 1 << 4,  /* mtime of a file; of others it is no change */
        CHANGE_PLACE = 1 << 5, /* a directory that replaces that of the same name: opaque, or with a redirect */
};

/* All of it is borrowed, and lasts as long as the call that it is handed to. */
typedef struct {
        ChangeKind kind;
        unsigned what;
        const char *path, *name; /* absolute in the box; its last part */
        const struct stat *st;    /* in the upper; NULL for CHANGE_DELETED */
        const struct stat *below; /* in the lower, as the box sees it; NULL: nothing */
        int dirfd;                /* the upper's directory that name is in; of a CHANGE_DELETED it may hold a whiteout */
        const char *below_path;   /* where that is in the lower: path, but below a renamed directory; set for all */
        gsize moved_len;          /* so much of below_path is where the nearest directory above that was renamed has been; 0: none above was */
        RuleState rule;           /* with below: what the rules say of it */
        bool hidden;              /* the lower has that name, and the box must not know: below is NULL */
        bool merged;              /* a directory through which the lower one of that name shows, or would if there were one */
        bool opaque;              /* a directory in which nothing of the lower one of that name shows */
        bool unread;              /* a directory of the upper that could not be opened: merged and the like are not known of it */
        const char *redirect;     /* a directory that was renamed: it was this one of the lower, and what is in it is compared with that */
} Change;

typedef struct {
        bool unchanged;         /* CHANGE_NONE are wanted, too */
        bool opens_closed;      /* directories of the caller's own that shut out their owner are opened for as long as is looked at them */
        bool owners;            /* owners are compared: where the upper's is the caller's */
        bool live;              /* the lower is one live tree: no marks of layers are read in it, special files of it are not there for the box */
        guint32 uid;            /* live: the caller, whose private files rules_others_eyes() is about */
        guint32 root_uid, root_gid; /* owners: the host's ids that are the box's root; what was the host's root's is theirs in the upper; G_MAXUINT32: none */
        const Rules *rules;     /* which names of the lower the box sees; NULL: all */
        const gid_t *groups;    /* live: the caller's */
        guint n_groups;
        /* Where a renamed directory that was redirect lies in the lower now, if somebody moved it there; NULL: where it was. The caller's to free. */
        char *(*place)(void *data, const char *redirect);
        /* What is at path of the lower was made of what the upper has: it is no name that the box must not know. NULL: nothing was. */
        bool (*made)(void *data, const char *path, const struct stat *st);
        /* Names of that kind, and maybe others, in the directory at path of the lower: of char *, borrowed; NULL: there are none. */
        const GPtrArray *(*made_in)(void *data, const char *path);
        /* The directory at path of the lower came to be later than the upper's, upper: so that is in place of none, and both show. NULL: none did. */
        bool (*came_later)(void *data, const char *path, int upper);
        void *data; /* of all four */
        GHashTable *own;        /* set of absolute paths that the box has from neither layer: the lower's are hidden; NULL: none */
} ChangesOptions;

typedef struct {
        /* In the order of a walk with the names of each directory sorted by their bytes, a directory before what is in it. False: what is in this
         * directory is not looked at. */
        bool (*change)(void *data, const Change *change);
        /* Something could not be read; the rest is looked at. */
        void (*complain)(void *data, const char *path, int errnum);
        void *data;
} ChangesVisitor;

/*
 * Walk. upper: a directory, borrowed. The upper's own root is not an entry. A file is changed if its bytes, mode, attributes or mtime are (and its
 * owner where owners are asked for), a directory if its mode or attributes are, a symlink if its target is.
 */
void changes_walk(int upper, Lowers *lowers, const ChangesOptions *options, const ChangesVisitor *visitor);

/* Does the lower's name in dirfd exist for the box? *rule: its directory's, then its own. parent_path: that directory's in the lower. */
bool changes_shows(const ChangesOptions *options, int dirfd, const char *parent_path, const char *name, const struct stat *st, RuleState *rule);

/* The rules' state of a directory of the lower that is come to by its path and not from its parent; a hidden one's is its directory's. */
RuleState changes_rule_of(const ChangesOptions *options, const char *path);

/* "file", "dir", ... as JSON has it; static. */
const char *changes_type_name(mode_t mode);
