/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "supervise.h"

/* The parts of a box's end, in the order in which sandbox_run() calls them; each does what there is to do, however far the box came. */

/* ran: its command began, whatever became of it; what it changed is kept then, and what an unnamed run before it left is forgotten. keep: usbox-fs may
 * have something to write. */
void sandbox_end_processes(Sandbox *s, bool ran, bool keep);
void sandbox_end_scope(Sandbox *s);
void sandbox_end_hooks(const Sandbox *s);
bool sandbox_end_box_dir(Sandbox *s, bool ran, GError **error);
/* Once usbox-fs has ended, too. */
void sandbox_end_unmounter(Sandbox *s);
/* For the last that is held of the box; *fd is -1 then. */
void sandbox_release_kernel_object(int *fd);
