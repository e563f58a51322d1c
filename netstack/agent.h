/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * A process of usbox-net's in the box's network namespace, with the rights over it that usbox-net itself does not have. It makes sockets there
 * when asked.
 */

/* Sockets in one answer. */
#define AGENT_SOCKETS 16

/* Fork it. Returns our end of the socket to it (it ends when that is closed), -1 with error. While usbox-net still has the caller's rights. */
int agent_start(GError **error);

/* Have it enter the namespace (borrowed). Once, and first. False with errno. */
bool agent_ask_join(int agent, int netns);

/* Wait for how that went; false: not, and it has ended. Before sockets are asked for, or not at all. */
bool agent_take_join(int agent, GError **error);

/* Ask for AGENT_SOCKETS TCP sockets of that family that may be bound to any address. False with errno. */
bool agent_ask_sockets(int agent, int family);

/* Have it give back what only its start needed (unmap_start()); it answers nothing to that. False with errno. */
bool agent_ask_unmap(int agent);

/* What it has to say, once the socket is readable. The answer to that: which family was asked for, and up to AGENT_SOCKETS descriptors, the caller's. AF_UNSPEC
 * and none: it is in the namespace, for which nobody had waited. -1 with error: it is gone, and why. */
int agent_take_sockets(int agent, int *ret_family, int ret_fds[AGENT_SOCKETS], GError **error);
