/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * What the launcher tells usbox-fs about the root that it serves. The launcher packs, usbox-fs parses; both link this one
 * file, so that they cannot disagree.
 */

/* The type of WIRE_FS_CONFIG's body. */
#define FS_CONFIG_SIGNATURE "a{sv}"

/* Marks in an upper: overlayfs's own, in the form that needs no right (option userxattr), and ours below it. No box can make an attribute of this prefix. */
#define XATTR_PRIVATE "user.overlay."
#define XATTR_OPAQUE XATTR_PRIVATE "opaque"
#define XATTR_REDIRECT XATTR_PRIVATE "redirect"
#define XATTR_ACL "system.posix_acl_"
#define XATTR_ACL_ACCESS XATTR_ACL "access"
#define XATTR_ACL_DEFAULT XATTR_ACL "default"
#define XATTR_WHITEOUT XATTR_PRIVATE "whiteout"
/* At the top of an upper that usbox or usbox-fs began, "y": in it no other marks count, such as .wh.NAME, which a box can make. */
#define XATTR_FORM XATTR_PRIVATE "usbox.form"
#define XATTR_OWNER XATTR_PRIVATE "usbox.owner" /* UID:GID of the host that a copy shows, where it could not be given to them */
#define XATTR_INO XATTR_PRIVATE "usbox.ino"     /* the st_ino that a copied-up file keeps; of a directory, what it was copied from */

#define FS_RULES_MAX 8192
#define FS_THREADS_MAX 64
#define FS_MAP_LINES_MAX 340 /* UID_GID_MAP_MAX_EXTENTS of the kernel */

/* Below the mount's root, for the launcher's mount alone: the root once more, by an id whose ACL the kernel keeps. */
#define FS_ROOT_NAME ".usbox-root"

/*
 * What of the lower is there. Rules speak of names of the lower alone: what the box makes itself is always there. Between
 * paths the longest wins.
 */
typedef enum {
        FS_RULE_HIDE = 'h',   /* this path and all below do not exist in the lower */
        FS_RULE_GLOB = 'g',   /* nor do names that match, see below; what a SHOW says does not count against it */
        FS_RULE_FILTER = 'f', /* the directory is there, and of what is in it what a SHOW, FILTER or EMPTY names or lies on the way to */
        FS_RULE_SHOW = 's',   /* this path and all below are there, others_eyes or not */
        FS_RULE_TOOLS = 't',  /* as SHOW, but for all names below it that a SECRET has */
        FS_RULE_SECRET = 'c', /* a name, no path: it does not exist anywhere below a TOOLS, unless a SHOW below that is for it or something in it */
        FS_RULE_EMPTY = 'e',  /* the directory is there (0755 where the lower has it not), and in it only what other rules name */
} FsRuleKind;

/*
 * path: absolute in the box (which is: in the lower root), without "." or ".." in it, without a slash at its end.
 * For FS_RULE_GLOB a pattern: without a slash it is held against every name; with one against the whole path, where "**" is any
 * number of directories, none too, and one that does not begin with a slash may begin at any directory. "*", "?"
 * and "[...]" stay within a name.
 */
typedef struct {
        FsRuleKind kind;
        char *path;
} FsRule;

/* count ids from box on are the host's from host on. */
typedef struct {
        guint32 box, host, count;
} FsIdRange;

typedef struct {
        bool verbose;             /* "verbose" b */
        bool strict;              /* "strict" b: ask for the lower's names and attributes again each time */
        bool others_eyes;         /* "others_eyes" b: outside of SHOW, what is the caller's own and closed to others is not there */
        bool best_effort_confine; /* "best_effort_confine" b: go on where own namespaces are not to be had */
        bool read_only;           /* "read_only" b */
        bool no_polling;          /* "no_polling" b: sleep at once, and do not look for the next request first */
        guint threads;            /* "threads" u; 0: usbox-fs chooses */
        guint64 disk;             /* "disk" t: bytes that the upper may take; 0: no limit */
        GArray *uidmap, *gidmap;  /* "uidmap", "gidmap" a(uuu), of FsIdRange: the outer user namespace's */
        GPtrArray *rules;         /* "rules" a(yay), of FsRule * */
} FsConfig;

/* Everything off, no limit, no ids, no rules. */
FsConfig *fs_config_new(void);
void fs_config_free(FsConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FsConfig, fs_config_free)

/* Append a rule; path is copied. */
void fs_config_add_rule(FsConfig *config, FsRuleKind kind, const char *path);

/* Append a line to one of the maps. */
void fs_config_add_range(GArray *map, guint32 box, guint32 host, guint32 count);

/* Whether this can be a rule; false with error that names it. For --hide, and for what comes over the wire. */
bool fs_rule_check(FsRuleKind kind, const char *path, GError **error);

/* The config as the body of WIRE_FS_CONFIG; floating. */
GVariant *fs_config_pack(const FsConfig *config);

/* The other way. Every key is optional and has fs_config_new()'s default; a key that is not known, comes twice, or has
 * another type or an impossible value is an error, as is a path with two rules. NULL with error; else the caller's. */
FsConfig *fs_config_parse(GVariant *dict, GError **error);

/* False, with *error: an upper cannot have its mark, and what most often is the reason. errnum: what setxattr(2) said. */
bool fs_mark_failed(int errnum, GError **error);
