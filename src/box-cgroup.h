/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "cgroup.h"
#include "registry.h"

/* Whether it has one of its own: where a limit was asked for, or somebody has needed it since. */
bool box_has_cgroup(const BoxInfo *box);

/* Not from its start on: what was used before is not counted in it. */
bool box_has_late_cgroup(const BoxInfo *box);

/* usbox pause has stopped it. */
bool box_is_paused(const BoxInfo *box);

/* Have one made where there is none. *box then tells of it. */
bool box_cgroup_need(BoxInfo **box, const Caller *caller, GError **error);

/* The cgroup of a running box; NULL with error where it has none of its own. */
Cgroup *box_cgroup_open(const BoxInfo *box, GError **error);
