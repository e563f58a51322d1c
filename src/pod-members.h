/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/wire.h"

/*
 * The boxes of a pod from its launcher's side: each is the connection of its launcher, and in the pod as long as that is open. As many as the launcher may have
 * descriptors.
 */
typedef struct PodMembers PodMembers;

/* NULL with error. */
PodMembers *pod_members_new(GError **error);
void pod_members_free(PodMembers *members);

/* Room for one more whose connection is fd? False with error, which says what the bound is. */
bool pod_members_have_room(PodMembers *members, int fd, GError **error);

/* fd is taken in any case. */
bool pod_members_add(PodMembers *members, int fd_take, const char *box_id, GError **error);
guint pod_members_count(const PodMembers *members);
void pod_members_tell(PodMembers *members, WireType type, guint32 number);
struct json_t *pod_members_ids(const PodMembers *members); /* as a JSON array */

/* What to poll for, and what to do then. pidns: the pod's pid namespace. */
int pod_members_fd(const PodMembers *members);
void pod_members_dispatch(PodMembers *members, int pidns);
