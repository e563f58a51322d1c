/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Before a box goes on, its layer is told where the directories are by now that its commits renamed on the host. box_fd: its directory, whose lock is held.
 * False with error.
 */
bool commit_settle(int box_fd, GError **error);

/* The same, for what was begun and not finished alone: before a commit. */
bool commit_settle_finish(int box_fd, GError **error);
