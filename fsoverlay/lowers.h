/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/*
 * Layers as they lie on the disk, read without a mount: what marks a whiteout, an opaque and a moved directory, and the merged view of several
 * lower layers. For usbox-fs diff; one thread.
 *
 * Forms that are known: the kernel's overlayfs with userxattr and as root (user.overlay.*, trusted.overlay.*), fuse-overlayfs's
 * (user.fuseoverlayfs.*, .wh.NAME, .wh..wh..opq), and the owner and mode that containers keep in user.containers.override_stat.
 */

/*
 * Who made a layer. In one of OURS (XATTR_FORM at its root) marks are what no box can make: device 0:0 and attributes user.overlay.*. What looks like another
 * driver's mark there was made by a box, and is a file or an attribute like any other.
 */
typedef enum { LAYER_FOREIGN, LAYER_OURS } LayerForm;
LayerForm layer_form(int root);

/* What a name in a directory of a layer is. */
typedef enum { LAYER_NOTHING, LAYER_WHITEOUT, LAYER_ENTRY } LayerName;

/* Look at name (one component) in the directory dirfd (O_PATH is enough). *ret_st is set for LAYER_ENTRY: as lstat(2) has it, with the type and mode
 * that an override says. LAYER_NOTHING leaves in errno why: ENOENT, or that it could not be looked at. */
LayerName layer_look(LayerForm form, int dirfd, const char *name, struct stat *ret_st);

/* The name that a file name is a whiteout of, as aufs wrote them; NULL: it is none. ".wh..wh.*" are marks, and names of nothing. */
const char *layer_wh_name(LayerForm form, const char *name);
bool layer_is_mark(LayerForm form, const char *name);

/* Does this directory hide those below it? */
bool layer_is_opaque(LayerForm form, int dirfd);

/* Where in the lower layers what is merged with this directory lies: an absolute path without "." and "..", or another name in the same
 * directory. NULL: at the same place. *ret_bad: there is a mark, and it is none of that kind. The caller's. */
char *layer_redirect(LayerForm form, int dirfd, bool *ret_bad);

/* An extended attribute of name in dirfd, symlinks not followed; without name of dirfd itself. NUL-terminated and the caller's; NULL with errno. */
char *layer_xattr(int dirfd, const char *name, const char *attribute, size_t *ret_len);

/* The lower layers, the topmost first. */
typedef struct {
        GArray *roots; /* of int */
        GArray *forms; /* of LayerForm */
        bool live;     /* they are no layers but trees that programs use: marks are not read in them. Set after lowers_open() */
        int errnum;    /* why something was not found that may be there; 0: nothing */
} Lowers;

/* A directory of the merged lower layers: its parts, the topmost first. No parts: no such directory. */
typedef struct {
        GArray *parts; /* of LowerPart; NULL: none */
} LowerDir;

typedef struct {
        guint layer;
        int fd; /* O_PATH */
} LowerPart;

/* Open the paths. False with error. */
bool lowers_open(const GPtrArray *paths, Lowers *ret, GError **error);
void lowers_clear(Lowers *lowers);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Lowers, lowers_clear)

void lower_dir_clear(LowerDir *dir);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LowerDir, lower_dir_clear)

/* The root of all layers; ret is to be cleared. */
void lowers_root(Lowers *lowers, LowerDir *ret);

/* Find name in a merged directory. False: it does not exist there. *ret_st is its status, *ret_dir (to be cleared; no parts if it is no directory) what
 * it merges, *ret_fd the borrowed directory that it lies in. */
bool lowers_lookup(Lowers *lowers, const LowerDir *parent, const char *name, struct stat *ret_st, LowerDir *ret_dir, int *ret_fd);

/* The same for an absolute path; its directory alone. */
void lowers_lookup_path(Lowers *lowers, const char *path, LowerDir *ret);

/* Append to names what may be a name in dir: whiteouts are left to lowers_lookup(), and a name may come twice. */
void lowers_list(Lowers *lowers, const LowerDir *dir, GPtrArray *names);
