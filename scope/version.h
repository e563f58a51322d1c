/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* cgroup v2 as a file system, below where it is mounted. */
#define CGROUP_MOUNT "/sys/fs/cgroup"

/* Fails, with a hint, where the machine has no cgroup v2, or hybrid. */
bool cgroup_check_version(GError **error);
