/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Shared by the files that make the plan of the root: root-plan.c (the order of things), root-tree.c (a host directory),
 * root-home.c (the home and what is hidden), root-sources.c (the user's mounts). Launcher only.
 */

#include <sys/stat.h>

#include "root.h"

#define HOME_FILTER_WORDS 32

typedef struct {
        const Spec *spec;
        RootPlan *plan;
        GPtrArray *mounts;  /* of char *: the host's mount points */
        GHashTable *hidden; /* set of char *: absolute host paths that do not exist in the box */
        GPtrArray *kernel_mounts; /* of char *: mount points of file systems that are windows on the kernel; --overlay=fuse alone */
        GHashTable *rules;        /* char * to FsRuleKind: likewise */
        guint64 home_filter
                [HOME_FILTER_WORDS]; /* Bloom filter of what the caller's home has: the lists of home.h are long */
        dev_t root_dev;              /* the host's "/": what differs is another mount */
        gid_t *groups;
        int n_groups;
        unsigned n_overlays;
        int look_own, look_others; /* root-tree.c: entries that may still be looked at in directories of the caller's, of others */
        int look_hidden;           /* and names that may be hidden there */
        GPtrArray *left_out;        /* of char *: directories with too many */
} Planner;

/* These are the box's own, whatever the host has there; NULL-terminated, absolute. */
extern const char *const root_own_dirs[];

/* Append; box_path is absolute. The returned object is the plan's. */
RootNode *plan_add_node(Planner *p, RootNodeKind kind, const char *box_path, mode_t mode);
LayerEntry *plan_add_entry(Planner *p, LayerKind kind, const char *box_path);

/* root-tree.c */
char *plan_join(const char *dir, const char *name); /* the caller's */
HostPath plan_host_path(const char *path, const struct stat *st);
bool plan_is_hidden(const Planner *p, const char *path);
bool plan_has_mount_below(const Planner *p, const char *path);
bool plan_closed_to_others(const Planner *p, const struct stat *st); /* the caller's own, or its groups', and no one else's */
bool plan_caller_may_write(const Planner *p, const struct stat *st);
/* The host's host shall appear as box. others_eyes: with what any other user of the machine could see. */
bool plan_tree(Planner *p, const char *host, const char *box, bool others_eyes, int depth, GError **error);
/* The entries of the directory fd, each as plan_tree() has it. */
bool plan_apart(Planner *p, int fd, const char *host, const char *box, bool others_eyes, int depth, GError **error);
/* What plan_tree() may spend. */
void plan_look_begin(Planner *p);
bool plan_symlink(Planner *p, const char *host, const char *box, GError **error);
/* Directories down to box_path (exclusive), where nothing planned so far has them. */
void plan_parents(Planner *p, const char *box_path);

/* root-home.c */
bool plan_collect_hidden(Planner *p, GError **error);
bool plan_home(Planner *p, GError **error);
bool plan_home_may_have(const Planner *p, const char *name); /* relative to the home; false: it surely has it not */
bool plan_hint_rootfs(GError **error); /* what --rootfs is to be given; false */
bool plan_cwd_is_shown(const Planner *p); /* the working directory is to be in the box by itself */
void plan_hide_shown(Planner *p, const char *const *names); /* names of home.h that the tools would show */

/* root-rules.c: the same host as rules of usbox-fs */
bool plan_fuse(Planner *p, GError **error);
bool plan_fuse_shows(const Planner *p, const char *box_path); /* with the caller's own eyes */
bool plan_fuse_has(const Planner *p, const char *box_path); /* it is there; false where that is not certain */
void plan_fuse_finish(Planner *p);

/* Of a MountSource. */
void plan_source_free(gpointer p);

/* root-sources.c */
bool plan_overlay_has(const RootNode *node, const char *box_path); /* the host's side of it has this path of the box */
bool plan_sources(Planner *p, GError **error);

/* root-hide.c: false where --hide names what a tree shows that is given as it is. All sources are open. */
bool plan_hide_reaches(const Planner *p, GError **error);
/* False where the kernel's overlay would show host, a hidden name below the directory top, by another spelling. looked_at: the caller's, paths that
 * have none. */
bool plan_hide_by_name(const Planner *p, const char *host, const char *top, GHashTable *looked_at, GError **error);
