/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cgroup.h"
#include "helper.h"
#include "spec.h"

/* usbox-scope of one box, from the launcher's side; none where no limit was asked for. */
typedef struct {
        Helper helper;
        Cgroup *cgroup; /* the box's; NULL before it is made */
        int payload_fd; /* its leaf, for the child; -1 likewise */
        bool updating;  /* an update was sent and not answered */
} ScopeHelper;

#define SCOPE_HELPER_NONE ((ScopeHelper){ .helper = HELPER_NONE, .payload_fd = -1 })

/* Start it and tell it the limits: it works from then on, beside all else. */
bool scope_helper_start(const Spec *spec, const char *id, ScopeHelper *ret, GError **error);

/* Its wire can be read: the cgroup is made. */
bool scope_helper_made(ScopeHelper *h, GError **error);

/* Have processes (those that are 0 are none) moved into a leaf of it; and, when the wire can be read: they are. */
bool scope_helper_join(ScopeHelper *h, const char *leaf, const pid_t *pids, size_t n, GError **error);
bool scope_helper_joined(ScopeHelper *h, GError **error);

/* Ask for other limits of a box that runs, of SCOPE_UPDATE_SIGNATURE; the answer comes by scope_helper_dispatch(). One at a time. */
bool scope_helper_update(ScopeHelper *h, GVariant *limits, GError **error);

/* Something came on its wire, or its end. *ret_updated: it is the answer to the update, and *ret_answer says why that failed, or is
 * NULL. False with error where usbox-scope ended. */
bool scope_helper_dispatch(ScopeHelper *h, bool *ret_updated, GError **ret_answer, GError **error);

/* The last numbers were read: let it end, which takes the cgroup with it. */
void scope_helper_finish(ScopeHelper *h);
void scope_helper_clear(ScopeHelper *h);
