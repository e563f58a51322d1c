/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/*
 * Run a box from its start to its end: the launcher's whole work. Returns the exit status of CLI.md (the command's own, 128+N,
 * 124, 126, 127), or -1 with error (exit 125), when nothing of the box is left. Blocks signals and reads them from a
 * signalfd while it runs. detached: NULL, or detach_fork()'s wire, which is -1 once the command runs.
 */
int sandbox_run(const Spec *spec, int *detached, GError **error);
