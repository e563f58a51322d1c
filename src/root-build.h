/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Shared by the files that build the root: root-build.c has the order, the others are parts of it. Child only. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/mount.h>

#include "root.h"

#define PLAIN_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define KERNEL_ATTRS (PLAIN_ATTRS | MOUNT_ATTR_NOEXEC)
/* Read-only leaves a device as usable as it is, but not its node: a payload that owns it (root's) would chmod the host's. */
#define DEVICE_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY)

struct RootBuild {
        const Spec *spec;
        const RootPlan *plan; /* NULL in root_build_begin() */
        bool read_only;
        bool sysfs_of_host; /* --network=host: a sysfs of one's own needs a network namespace of one's own */
        bool proc_of_host;  /* --pid=host */
        int wire;        /* to the launcher; borrowed */
        int fuse;        /* /dev/fuse until usbox-fs has it; -1 with another driver */
        int old_root;    /* the host's "/", likewise */
        int proc;        /* the box's /proc; attached in the stage until there is a root */
        int dev;         /* the box's /dev, likewise */
        int pts;         /* the box's /dev/pts, until that is in it */
        int stage;       /* tmpfs: the layers, attached in the old root, and what the box's /tmp, /run, /dev, ... are */
        int root;        /* the new root */
        int box;         /* the box's directory on the host, or -1 with --overlay=none */
        int *host_fds;   /* by RootNode.index */
        int *file_fds;   /* by place in plan->nodes */
        int *layer_fds;  /* by RootNode.index, 0: the skeleton; -1: not made */
        int *source_fds; /* by place in plan->sources: mounts, attached nowhere yet; -1: none */
        int cgroup;      /* the box's cgroup on the host; -1: it has none of its own */
        PodMounts pod;   /* what the box has of its pod's */
        int host_sys;    /* with --network=host: a mount likewise */
        int hidden_sys;  /* with --nested: where a sysfs for namespaces inside goes */
        GArray *own_devs; /* of dev_t: file systems that are the box's own: places for mounts may be made in them */
        uint64_t var_tmp; /* the mount of /var/tmp, of a directory of the box's on a file system of the host's: likewise; 0: it is none */
};

/* root-calls.c */

/* O_PATH of a host path that must still be the inode it was; -1 with error. */
int root_open_host(const HostPath *host, GError **error);
/* openat2(2) beneath the new root; -1 with errno. */
int root_open_in(int root, const char *path, uint64_t flags);
/* A new mount of a file system without source; attached nowhere. -1 with error. */
int root_mount_new(const char *type, const char *const *options, unsigned attrs, GError **error);
/* An overlay of the fds in lower, topmost first; a writable upper, or -1. -1 with error. */
int root_mount_overlay(int *lower, size_t n_lower, int upper, int work, bool read_only, GError **error);
/* A clone of the mount (or of a part of it) that fd is in, with attrs added; attached nowhere. -1 with error. */
int root_clone(int fd, bool recursive, unsigned attrs, GError **error);
bool root_attach(int mnt, int target, const char *name, GError **error);
bool root_attach_at(RootBuild *b, int mnt, const char *path, GError **error);

/* root-fuse.c, in the order of their use; with --overlay=fuse alone */
bool root_fuse_open(RootBuild *b, GError **error);
/* Mount it, attached nowhere, and have usbox-fs told of it; lower and layer (borrowed) are what it serves. -1 with error. */
int root_fuse_mount(RootBuild *b, int lower, int layer, GError **error);
/* Open what of the root is bound once more, before anything covers it. */
bool root_fuse_open_parts(RootBuild *b, GError **error);
/* After pivot_root, before the old root is detached. */
bool root_fuse_second_root(RootBuild *b, int place, GError **error); /* b->root becomes one that is attached over itself */
bool root_fuse_seal_lower(const RootBuild *b, GError **error);

/* root-layers.c */

/* The box's own layers, in the stage. */
bool root_layers_make(RootBuild *b, GError **error);
/* The directory of a carrier's layer, made when it is first needed; borrowed. -1 with errno. */
int root_layer_dir(RootBuild *b, const RootNode *carrier);

/* root-mounts.c, in the order of their use */
int root_mount_devpts(const RootBuild *b, GError **error); /* one of the box's own (the only kind since 4.7); attached nowhere yet, -1 with error */
bool root_mounts_begin(RootBuild *b, int *ret_pty_master, GError **error); /* ret_pty_master: NULL, none is wanted */
bool root_mounts_own(RootBuild *b, GError **error); /* in the stage */
bool root_mounts_open(RootBuild *b, GError **error);
bool root_mounts_attach_own(RootBuild *b, GError **error); /* all but /sys */
bool root_mounts_attach_sys(RootBuild *b, GError **error); /* in the box's network namespace */
int root_mount_bare_proc(const RootBuild *b, GError **error); /* attached nowhere; -1 with error */

/* root-places.c */
bool root_add_own(RootBuild *b, int fd, GError **error); /* the file system of fd is the box's own */
bool root_add_var_tmp(RootBuild *b, int mnt, GError **error); /* and this mount is that of /var/tmp */
bool root_make_place(RootBuild *b, const char *path, bool is_dir, GError **error);

/* root-user-mounts.c */
bool root_user_open(RootBuild *b, GError **error);
bool root_user_mount(RootBuild *b, GError **error);
