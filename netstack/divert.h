/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "netstack/boxside.h"

/*
 * How the box's TCP is led into sockets of its own network namespace: rules and routes there, and the sockets that the TCP fast path needs
 * from it. fastpath.c says how they work together.
 */

/* Where a SYN that is to be held goes to on the TAP: what else comes from there is for libslirp. In a framed network (boxside.h) it is where our
 * own ends of connections send their segments. */
#define DIVERT_MAC ((const uint8_t[6]){ 0x52, 0x55, 10, 0, 2, 4 })

/* Marks of packets in the box's network. */
#define DIVERT_MARK_HELD 1u /* a SYN on its way to usbox-net; what our own ends of connections send */
#define DIVERT_MARK_FREE 2u /* a SYN that usbox-net lets go; in a framed network, each segment */

#define DIVERT_LO_INDEX 1 /* always the first */

/* The table of nftables. */
#define DIVERT_TABLE "usbox"

/* Congestion control of the box's TCP on both its ends: they are on one loopback interface, where nothing is lost and nothing needs pacing.
 * What the host prefers (BBR) would wait there for timers between segments. */
#define DIVERT_CONGESTION "reno"

typedef enum {
        DIVERT_LISTENER_IPV4, /* gets the connections: their local address is the one that was asked for */
        DIVERT_RAW_IPV4,      /* puts a SYN that was held on its way: IP packets, headers included */
        DIVERT_FDS_IPV4,
        DIVERT_LISTENER_IPV6 = DIVERT_FDS_IPV4, /* these two only where the box has IPv6 */
        DIVERT_RAW_IPV6,
        DIVERT_FDS_MAX,
} DivertFd;

/* Make it all, in the network namespace of the caller, who needs CAP_NET_ADMIN and CAP_NET_RAW there, for side's TAP. Nothing of it takes
 * effect unless all is made. The descriptors are the caller's. */
bool divert_set_up(const BoxSide *side, int ret_fds[DIVERT_FDS_MAX], GError **error);

/* A TCP socket for our end of a connection in the caller's network namespace, who needs the same rights: it may be bound to any address, and what it sends
 * has a mark. The caller's; -1 with errno. */
int divert_open_own(int family);

/* Take away what divert_set_up() made, as far as it is there, in the network namespace of the caller, who needs the same rights. */
void divert_clear(void);
