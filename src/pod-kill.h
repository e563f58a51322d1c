/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/*
 * In a pod whose boxes share their processes: kill all that is in the user namespace or in one below it, which is one box, and in the pod's pid
 * namespace: usbox-fs has a process in the box's user namespace, too. And the box's init, by its pidfd, into which nobody can look. All are
 * borrowed. False where some of it lives on after timeout_ms.
 */
bool pod_kill_box(int userns, int pidns, int init, int timeout_ms);
