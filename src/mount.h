/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "option.h"

typedef enum { OVERLAY_FUSE, OVERLAY_KERNEL, OVERLAY_NONE } OverlayDriver;
#define OVERLAY_DRIVERS "fuse|kernel|none" /* in that order */
#define OVERLAY_DEFAULT OVERLAY_FUSE
#define OVERLAY_DEFAULT_NAME "fuse"

typedef enum { HOME_TOOLS, HOME_EMPTY, HOME_ALL } HomeMode;

typedef struct {
        char *rootfs; /* --rootfs, absolute; NULL: the host's "/" */
        OverlayDriver overlay;
        bool read_only;
        HomeMode home;
        GPtrArray *hide;   /* of char *: --hide, absolute paths as typed (leading ~/ expanded) */
        GPtrArray *hide_globs; /* of char *: --hide, patterns as fsoverlay/config.h has them */
        guint64 disk;          /* --disk: bytes that the copy may take; 0: no limit */
        char *trace_file;      /* --trace-files, absolute; NULL: none */
        char *workdir;     /* --workdir, an absolute path in the box; NULL: the caller's */
        bool workdir_given;
} RootSpec;

typedef enum {
        MOUNT_BIND,    /* src → dst */
        MOUNT_TMPFS,
        MOUNT_PROC,
        MOUNT_DEVPTS,
        MOUNT_MQUEUE,
        MOUNT_SYMLINK, /* src is the link's text */
        MOUNT_FILE,    /* contents of the caller's fd into a file of the box's own */
        MOUNT_DEVICE,  /* a device node, bound with its device rights */
} MountKind;

/* One mount that the user asked for; they apply in the order given. */
typedef struct {
        MountKind kind;
        char *src;       /* host path (BIND, DEVICE: absolute, not resolved), link text (SYMLINK), with own_state that directory, or NULL */
        char *dst;       /* absolute path in the box */
        bool read_only;
        bool devices;    /* --dev-bind: device nodes work */
        bool optional;   /* --*-try: a missing source is passed over */
        bool hooks_cow;  /* --rw of a tree: project hooks stay copy-on-write (off with --rw-hooks) */
        bool own_state;  /* TMPFS over a directory of usbox's own, which the mount before it would show (own-state.h) */
        guint64 size;    /* tmpfs: bytes, 0: the default */
        mode_t mode;     /* tmpfs: default 01777 for /tmp-like, else 0755; FILE: 0644 */
        int fd;          /* FILE: the caller's descriptor number */
        char *option;    /* the option that asked for it, as typed, for errors: "-v /a:/b" */
} MountOp;

typedef struct {
        GPtrArray *ops; /* of MountOp * */
        bool rw_hooks;
} MountSpec;

extern const Option root_options[];
extern const Option mount_options[];

/* The defaults; and free what it owns. */
void root_init(RootSpec *s);
void root_clear(RootSpec *s);

/* "fuse", "kernel", "none"; static. */
const char *root_overlay_name(OverlayDriver overlay);
void mount_init(MountSpec *s);
void mount_clear(MountSpec *s);

/* A root without an overlay is a read-only one; what only usbox-fs can do is refused with another. */
bool root_check(Spec *draft, GError **error);

/* hooks_cow settled; a --rw of the home, or of what it is in, is refused. */
bool mount_check(Spec *draft, GError **error);

void mount_op_free(MountOp *op);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MountOp, mount_op_free)
