/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/fd.h"
#include "fsoverlay/config.h"
#include "spec.h"

/* Which inode a host path was when the launcher opened it: the child, in its own mount namespace, must find the same. */
typedef struct {
        char *path; /* absolute, resolved: no symlink in it */
        dev_t dev;
        ino_t ino;
} HostPath;

typedef enum {
        ROOT_DIR,     /* a directory of the skeleton: nothing of the host below it but what other nodes put there */
        ROOT_SYMLINK, /* a symlink of the skeleton, as on the host */
        ROOT_FILE,    /* a host file, bound read-only */
        ROOT_OVERLAY, /* a directory shown copy-on-write: a box layer, then (host.path set) the host's directory */
        ROOT_PART,    /* a directory of the root that usbox-fs serves, bound once more over one of the box's own mounts */
} RootNodeKind;

/* What stands at one path of the box's root before the user's own mounts. Parents come before children. */
typedef struct {
        RootNodeKind kind;
        char *path; /* in the box, without leading "/"; "" is the root itself */
        size_t path_len;
        mode_t mode;
        char *target;   /* ROOT_SYMLINK */
        HostPath host;  /* ROOT_OVERLAY (path NULL: box layer only), ROOT_FILE */
        unsigned index; /* ROOT_OVERLAY: names its layer and its workdir */
        bool has_layer; /* ROOT_OVERLAY: something is in its box layer */
        bool packaged; /* only the distribution writes there, and only plain files: where it is read-only a bind mount will do */
        bool read_only; /* no upper: nothing in it that the payload may write */
} RootNode;

typedef enum {
        LAYER_ABSENT, /* the name does not exist in the box */
        LAYER_DIR,      /* a place for a mount */
        LAYER_FILE,     /* a file of the box's own */
} LayerKind;

/* What the box's own layer holds over the host's files: hidden names, places for mounts, /etc files of the box. */
typedef struct {
        LayerKind kind;
        char *path; /* in the box, without leading "/" */
        char *data; /* LAYER_FILE */
        size_t len;
        mode_t mode;
        gid_t gid; /* LAYER_FILE, in the box; the owner is its root */
        bool over; /* LAYER_FILE: only a place for a mount, over a file of the host's */
} LayerEntry;

/* A source of a user's mount, opened and identified by the launcher. */
typedef struct {
        const MountOp *op;
        HostPath host; /* path NULL: nothing to open, or optional and missing */
        bool is_dir;
        bool skip;    /* optional and missing */
        bool planned; /* MOUNT_SYMLINK: it is a node of the plan */
        char *data;   /* MOUNT_FILE: read from the caller's descriptor */
        size_t len;
        GPtrArray *hooks; /* of Hook (root-hooks.h); NULL where none are guarded */
} MountSource;

/* The whole plan of the box's root, made by the launcher and carried out by the child. */
typedef struct {
        GPtrArray *nodes;   /* of RootNode */
        GPtrArray *entries; /* of LayerEntry */
        GPtrArray *sources; /* of MountSource, in the order of the options */
        bool served;        /* --overlay=fuse: by usbox-fs */
        FsConfig *fs;       /* what that is told; the launcher's alone */
        HostPath box_dir;   /* upper/, work/ and tmp/ of this box; path NULL with --overlay=none */
        char *workdir;      /* in the box */
        const char *lower;  /* the host's directory that is the box's root; the Spec's */
        bool cgroup2;       /* the host's /sys/fs/cgroup is cgroup v2 alone: mount the box's view of it */
} RootPlan;

/* Launcher: look at the host and decide. Opens every source, changes nothing. box_dir is where upper/ and work/ will
 * stand (NULL with --overlay=none). NULL with error. */
/* And one with nothing in it but places for the box's own mounts: a pod's. */
RootPlan *root_plan_new_bare(void);
RootPlan *root_plan_new(const Spec *spec, const char *box_dir, GError **error);

/* What root_plan_new() says of the sources of mounts, alone: false where a name in a tree that the box may write leads out of it, or where --hide would have
 * to reach into a tree that is given as it is. */
bool root_plan_check_sources(const Spec *spec, GError **error);
void root_plan_free(RootPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RootPlan, root_plan_free)

/* Put a file of the box's own into it ("etc/hosts"). data is copied; what is returned is the plan's. */
LayerEntry *root_plan_add_file(RootPlan *plan, const char *path, const char *data, mode_t mode);

/*
 * Launcher: the directories that the plan's overlays need below box_fd: upper/..., work/N, tmp. With the second
 * function those that stayed empty are removed again after the run, so that what is left in upper/ are changes. What usbox-fs
 * serves needs upper/ and work/ alone; project hooks, which then have kernel overlays of their own, are kept out of both
 * (hooks/, hooks-work/) until the run is over.
 */
bool root_dirs_make(int box_fd, const char *path, mode_t mode, GError **error); /* mkdir -p */
bool root_dirs_make_way(const RootPlan *plan, int box_fd, const char *path, GError **error); /* the same in upper/, with the modes that the host has there */
int root_dirs_parent(int box_fd, const char *path, const char **ret_name); /* the directory that path is in, and its name there; -1 with errno */
void root_dirs_trim(int box_fd, const char *path, FdLater *later); /* rmdir upwards while empty, but for the first name of path */
bool root_plan_make_dirs(const RootPlan *plan, int box_fd, GError **error);
void root_plan_trim_dirs(const RootPlan *plan, int box_fd, FdLater *later);

/* name below dir, without symlinks on the way: a tree that the box writes, or wrote, as it did upper/. -1 with errno. */
int root_open_beneath(int dir, const char *name, uint64_t flags);

/* In a pod: what was mounted of the pod's namespaces by who could (pod-join.c). Mounts, attached nowhere. */
typedef struct {
        bool in_pod;
        int sysfs;  /* -1: it could not be had */
        int mqueue;
        int proc;   /* -1: the box has processes of its own */
} PodMounts;

#define POD_MOUNTS_NONE ((PodMounts){ .sysfs = -1, .mqueue = -1, .proc = -1 })

/*
 * Child, in the box's namespaces: build the root, pivot into it, detach the old one. In parts: root_build_begin() makes what
 * the payload's process may need, the box's /proc (*ret_proc, for the payload's id maps; borrowed) and, where ret_pty_master is not
 * NULL, the box's pty; root_build_own(), where that can be before the plan, what is the same in every box; root_build_layers(), with the plan
 * (borrowed to the end), opens all that comes from the host and makes the box's own layers;
 * root_build_tree() mounts that, once the box's directory is filled; root_build_finish(), in the box's network namespace, whose
 * devices /sys shows, the rest; root_build_enter() leaves the host's tree.
 */
typedef struct RootBuild RootBuild;
RootBuild *root_build_begin(const Spec *spec, const PodMounts *pod, int *ret_proc, int *ret_pty_master, GError **error);
void root_build_take_cgroup(RootBuild *build, int fd); /* before root_build_finish(): what /sys/fs/cgroup shows; -1: what the box's namespace does */
bool root_build_own(RootBuild *build, GError **error);
bool root_build_layers(RootBuild *build, const RootPlan *plan, GError **error);
bool root_build_tree(RootBuild *build, int wire, GError **error); /* wire: where FS_FDS goes; borrowed */
bool root_build_finish(RootBuild *build, GError **error);
bool root_build_enter(RootBuild *build, GError **error);

/* The node that is responsible for a path of the box (longest prefix); never NULL: the root is a node. */
const RootNode *root_plan_node_for(const RootPlan *plan, const char *path);

/* path (of the box, no leading "/") is at or below one of the places that are the box's own: /proc, /tmp, ... */
bool root_plan_is_own(const char *path);

/* The node in whose layer a path's own place is made: the overlay above it, else the skeleton's root. Never NULL. */
RootNode *root_plan_carrier(const RootPlan *plan, const char *path);
