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
        bool framed; /* boxside.h */
} FastPathParts;

/* fds: what divert_set_up() has made, taken over. NULL with error. */
FastPath *fastpath_new_take(int fds[DIVERT_FDS_MAX], const FastPathParts *parts, GError **error);
void fastpath_free(FastPath *fastpath);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FastPath, fastpath_free)

/* Was this frame led here to be held? Only such ones are the fast path's: a socket that is bound to the TAP goes by libslirp. In a framed network it is
 * all TCP but the resolver's. */
bool fastpath_wants(const FastPath *fastpath, const Packet *packet);

/* In a framed network: is this a segment of our end's, for the program's? It is made one that the box takes. */
bool fastpath_turn_back(const FastPath *fastpath, uint8_t *frame, size_t len);

/* In a framed network: a segment of the program's that begins nothing, for our end. */
void fastpath_segment(const FastPath *fastpath, const Packet *packet);

/* A held SYN that the policy has passed: connect on the host's side to where it says, then let the SYN go. */
void fastpath_syn(FastPath *fastpath, const Packet *packet, const PolicyDecision *decision);
