/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * Give up all that usbox-net does not need to move packets: own namespaces, an empty root, no capabilities, no file but
 * /etc/resolv.conf, few system calls. parent is the launcher's pid, without which this process is not to live. With
 * best_effort a kernel that forbids own namespaces is noted on stderr instead of being an error.
 */
bool confinement_apply(pid_t parent, bool best_effort, GError **error);
