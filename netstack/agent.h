/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "netstack/divert.h"

/*
 * A process of usbox-net's in the box's network namespace, with the rights over it that usbox-net itself does not have. It makes the namespace
 * ready once, and sockets there when asked.
 */

/* Sockets in one answer. */
#define AGENT_SOCKETS 16

/* Fork it. Returns our end of the socket to it (it ends when that is closed), -1 with error. While usbox-net still has the caller's rights. */
int agent_start(GError **error);

/* Let it enter the namespace (borrowed) and make it ready. Once, and first. False with errno. */
bool agent_ask_join(int agent, int netns, const char *tap, bool ipv6);

/* Wait for how that went. */
bool agent_take_join(int agent, int ret_fds[DIVERT_FDS_MAX], GError **error);

/* Ask for AGENT_SOCKETS TCP sockets of that family that may be bound to any address. False with errno. */
bool agent_ask_sockets(int agent, int family);

/* The answer to that, once the socket is readable: which family was asked for, and up to AGENT_SOCKETS descriptors, the caller's. -1: the agent is gone. */
int agent_take_sockets(int agent, int *ret_family, int ret_fds[AGENT_SOCKETS]);
