/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "cgroup.h"
#include "registry.h"

/* Whether it has one of its own: where a limit was asked for. */
bool box_has_cgroup(const BoxInfo *box);

/* The cgroup of a running box; NULL with error where it has none of its own. */
Cgroup *box_cgroup_open(const BoxInfo *box, GError **error);
