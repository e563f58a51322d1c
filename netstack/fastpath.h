/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/divert.h"
#include "netstack/events.h"
#include "netstack/packet.h"
#include "netstack/policy.h"
#include "netstack/splice.h"

/* The box's outgoing TCP by sockets on both sides instead of by frames. */
typedef struct FastPath FastPath;

/* A frame for the box: an answer to a SYN. */
typedef void (*FastPathSend)(const void *frame, size_t len, void *data);

/* What it works with; all of it borrowed. send gets send_data. */
typedef struct {
        Events *events;
        SplicePipes *pipes;
        Account *account;
        const Policy *policy; /* for what a connection says by TLS */
        FastPathSend send;
        void *send_data;
} FastPathParts;

/* fds: what divert_set_up() has made, taken over. NULL with error. */
FastPath *fastpath_new_take(int fds[DIVERT_FDS_MAX], const FastPathParts *parts, GError **error);
void fastpath_free(FastPath *fastpath);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FastPath, fastpath_free)

/* Was this frame led here to be held? Only such ones are the fast path's: a socket that is bound to the TAP goes by frames. */
bool fastpath_wants(const Packet *packet);

/* A held SYN that the policy has passed: connect on the host's side to where it says, then let the SYN go. */
void fastpath_syn(FastPath *fastpath, const Packet *packet, const PolicyDecision *decision);
