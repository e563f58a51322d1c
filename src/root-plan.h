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
        guint64 home_filter
                [HOME_FILTER_WORDS]; /* Bloom filter of what the caller's home has: the lists of home.c are long */
        dev_t root_dev;              /* the host's "/": what differs is another mount */
        gid_t *groups;
        int n_groups;
        unsigned n_overlays;
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
bool plan_caller_may_write(const Planner *p, const struct stat *st);
/* The host's host shall appear as box. others_eyes: with what any other user of the machine could see. */
bool plan_tree(Planner *p, const char *host, const char *box, bool others_eyes, int depth, GError **error);
/* The entries of the directory fd, each as plan_tree() has it. */
bool plan_apart(Planner *p, int fd, const char *host, const char *box, bool others_eyes, int depth, GError **error);
bool plan_symlink(Planner *p, const char *host, const char *box, GError **error);
/* Directories down to box_path (exclusive), where nothing planned so far has them. */
void plan_parents(Planner *p, const char *box_path);

/* root-home.c */
void plan_collect_hidden(Planner *p);
bool plan_home(Planner *p, GError **error);

/* root-sources.c */
bool plan_overlay_has(const RootNode *node, const char *box_path); /* the host's side of it has this path of the box */
bool plan_sources(Planner *p, GError **error);
