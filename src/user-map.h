/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/* newuidmap or newgidmap at work. */
typedef struct {
        const char *program;
        const char *capability;
        AccountServed served;
        uid_t uid; /* whom */
        char *path; /* NULL: it is not at work */
        pid_t pid;
        int output; /* read end of its stderr */
} MapHelper;

typedef struct {
        MapHelper each[2];
} MapHelpers;

/*
 * Launcher: write the id maps of the outer user namespace that child_pid was cloned into, unless the child does (user_maps_itself()).
 * Any map of real root is written directly; others by newuidmap and newgidmap, side by side. They take a while, so this only starts
 * them: the maps are written when map_helpers_finish(), which is for every case and to be called once, in failure too, says so. False with error and hint.
 */
bool user_setup_parent(const Spec *spec, pid_t child_pid, MapHelpers *ret, GError **error);
bool map_helpers_finish(MapHelpers *helpers, GError **error);

/* Launcher: the same of all ids that the caller may use (user_all_ids()), for what is removed of boxes with other maps than this run's. */
bool user_map_all_ids(const Spec *spec, pid_t pid, GError **error);

/*
 * In a pod, by who has the capabilities of its user namespace: the maps of that of a process (proc: its /proc/PID), a child of it. pod_uids and
 * pod_gids: the pod's own maps, since a map is written in ids of the parent's. And that translation: ret gets map with the outer's box ids in
 * place of host ids.
 */
bool user_map_in_pod(const Spec *spec, int proc, const GArray *pod_uids, const GArray *pod_gids, GError **error);
bool user_map_within(const GArray *map, const GArray *outer, GArray *ret, GError **error);

/* A map of the caller's own ids alone is the child's to write: no message has to be waited for. */
bool user_maps_itself(const Spec *spec);
bool user_map_self(const Spec *spec, GError **error);

/* Child: take the box ids under which it builds the box: those that the caller's own ids are mapped to, so that what it makes
 * on the host (upper directories) is the caller's. */
bool user_setup_child(const Spec *spec, GError **error);

/*
 * The maps of the payload's inner user namespace: the outer's, id by id, written below dir ("/proc/self", or a name relative to the
 * O_PATH fd proc of the box's /proc). Where user_maps_itself() the payload writes them, which is allowed to who maps its own ids alone
 * (user_namespaces(7)), else init does.
 */
bool user_map_payload(const Spec *spec, int proc, const char *dir, GError **error);
