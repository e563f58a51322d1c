/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "runtime.h"
#include "spec.h"
#include "state.h"

/* The user's boxes, for the verbs: what the runtime directory and the directory of boxes know together. */

typedef enum {
        BOX_RUNNING, /* its launcher lives */
        BOX_EXITED,  /* it has ended, and something of it is kept */
        BOX_DEAD,    /* its launcher was killed, and something of it is left */
} BoxState;

typedef struct {
        char id[BOX_ID_LEN + 1];
        char *name; /* NULL: none */
        char *dir;  /* its directory on disk, with upper/; NULL: it has none */
        BoxState state;
        json_t *facts; /* state.json (record.h); an empty object where that is missing or cut short. Never NULL */
} BoxInfo;

void box_info_free(BoxInfo *box);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BoxInfo, box_info_free)

const char *box_state_name(BoxState state);

/* All boxes of the caller, the newest first: an array of BoxInfo *, the caller's. NULL with error. */
GPtrArray *registry_list(const Caller *caller, GError **error);

/* The box that text names: by its name, its id, a beginning of its id that no other has, or as "last", the one that was started last. NULL
 * with error, which tells unknown from ambiguous. */
BoxInfo *registry_find(const Caller *caller, const char *text, GError **error);

/* registry_find(), and the box must be running. */
BoxInfo *registry_find_running(const Caller *caller, const char *text, GError **error);

/* Pods, which are not among the boxes: the same of them, by name or id. */
GPtrArray *registry_list_pods(const Caller *caller, GError **error);
BoxInfo *registry_find_pod(const Caller *caller, const char *text, GError **error);
BoxInfo *registry_find_running_pod(const Caller *caller, const char *text, GError **error);
bool box_info_is_pod(const BoxInfo *box);
const char *box_info_kind(const BoxInfo *box); /* "box" or "pod" */

/* What people call a box or pod: its name, or its id where it has none. The box's. */
const char *box_info_called(const BoxInfo *box);

/* For what both have (facts, limits): a box, or a pod. */
BoxInfo *registry_find_any(const Caller *caller, const char *text, GError **error);
BoxInfo *registry_find_running_any(const Caller *caller, const char *text, GError **error);

/* The running boxes of all (registry_list()) that are in the pod: of BoxInfo * that belong to all; the array is the caller's. */
GPtrArray *registry_boxes_of(const GPtrArray *all, const BoxInfo *pod);

/* For ports and flows: a running box or pod; not a box in a pod, whose network is the pod's. The hint for that is what verb is to be asked. */
BoxInfo *registry_find_network(const Caller *caller, const char *text, const char *verb, GError **error);

/* What is written down of the box of dir; NULL: nothing that could be read. The caller's. */
json_t *registry_facts(const BoxDir *dir);

/* dir is that of an earlier box or pod of the name: whether what is being started (pod: a pod) may go on with it. A pod never does. */
bool registry_may_go_on(const BoxDir *dir, bool pod, GError **error);

/* What --json says of it: facts, and id, name and state as they are now. A new reference. */
json_t *box_info_to_json(const BoxInfo *box);

/* Whether it may be the name of a box: safe as a part of a path and on a terminal, no id, not "last". */
bool registry_name_ok(const char *name);

/* "last" is this one: a box that is being started (before it is shown), or one without a name that ended and left changes. box: its runtime directory.
 * False: that could not be noted, and "last" may be another one. */
bool registry_set_last(const RuntimeBox *box, const char *id);
