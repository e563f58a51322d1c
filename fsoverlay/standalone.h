/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fsoverlay/config.h"

/*
 * usbox-fs without the launcher: usbox-fs [-f] [-d] -o lowerdir=A:B,upperdir=U,workdir=W[,…] MOUNTPOINT, the options of fuse-overlayfs and some more.
 * The order of a run: standalone_parse(), open the layers and files (their paths may be relative), standalone_mount(),
 * standalone_background() unless foreground, threads, standalone_serving(), and at the end standalone_unmount().
 */
typedef struct {
        bool help, version; /* only that was asked; nothing else is checked then */
        GPtrArray *lowers;  /* of char *, the topmost first; at least one */
        char *upper, *work; /* both NULL: read-only */
        char *mountpoint;   /* absolute, without symlinks */
        bool foreground;    /* -f, or -d */
        bool debug;         /* -d, --debug */
        bool read_only;     /* ro, or no upper */
        bool strict;        /* cache=strict, timeout=0 */
        bool no_polling;    /* polling=off */
        bool noacl;
        bool fsync_ignored; /* fsync=0, volatile */
        bool allow_other;   /* asked for; standalone_mount() does it by itself where mount(2) is allowed to us */
        gint64 squash_uid, squash_gid; /* every file is this one's; -1: no */
        /* Of FsIdRange: count ids on the disk from host on are shown as those from box on. fuse-overlayfs's order in uidmapping= is the disk's id first. */
        GArray *uidmap, *gidmap;
        GPtrArray *hide;      /* of char *: paths and patterns, each of them a valid rule */
        char *trace, *stats;  /* files to write, absolute; NULL: none */
        guint64 disk;         /* bytes; 0: no limit */
        guint threads;        /* 0: not given */
        char *fsname;         /* as mount tables show it */
        char *context;        /* "context=…" for SELinux; NULL: none */
        unsigned long set_flags, clear_flags; /* MS_*, of mount(2) */
} StandaloneOptions;

/* Take argv apart, argv[0] left out of it. ret is initialised here and to be cleared in any case. False with error, which names the option. */
bool standalone_parse(int argc, char **argv, StandaloneOptions *ret, GError **error);
/* The same for usbox-fs diff: lowerdir and upperdir are needed, other options are taken and mean nothing, a mount point is none of it. */
bool standalone_parse_diff(int argc, char **argv, StandaloneOptions *ret, GError **error);
/* What one -o says, on top of what is in options: NAME[=VALUE][,…]. False with error. */
bool standalone_apply_options(StandaloneOptions *options, const char *text, GError **error);
void standalone_clear(StandaloneOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StandaloneOptions, standalone_clear)

/* What the options say of rules, ids, limits: as the launcher would. The caller's. */
FsConfig *standalone_config(const StandaloneOptions *options);

/* What --help prints. */
const char *standalone_help(void);

/* Open /dev/fuse and mount: by mount(2), or by fusermount3 where that is not permitted. Returns the descriptor, -1 with error. */
int standalone_mount(const StandaloneOptions *options, GError **error);

/* Fork, before any thread: returns in the child alone, in a session of its own and in "/". The parent waits until the child calls
 * standalone_serving() on *ret_ready and exits with 0; if the child ends before that, with the child's status (not 0). False with error, in the parent. */
bool standalone_background(int *ret_ready, GError **error);

/* Tell the parent, and let go of the terminal: 0, 1 and 2 become /dev/null. *ready is closed; -1: there is no parent, and nothing happens. */
void standalone_serving(int *ready);

/* Take the mount away if fuse_fd still serves it: detached, files that are open stay usable. What fails is said on stderr. */
void standalone_unmount(const StandaloneOptions *options, int fuse_fd);
