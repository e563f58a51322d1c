/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/wire.h"

/* What a network namespace is to get. */
typedef struct {
        const char *tap;     /* the name of its TAP; NULL: loopback alone */
        guint16 mtu;         /* of the TAP */
        bool ipv6;           /* else it is off on the TAP */
        bool fast_path;      /* its TCP is to be led into sockets (divert.h) */
        bool framed;         /* each packet counts: usbox-net shapes or captures them, those of the fast path, too */
        bool bare;           /* the TAP alone: nothing is up, nothing has an address or a route */
        const char *or_else; /* what a hint may end with where a TAP is not to be had; NULL: nothing */
} BoxSide;

/* Whether the kernel has IPv6. proc_sys: /proc/sys. */
bool boxside_has_ipv6(int proc_sys);

/* Let the kernel of a TAP's side leave checksums and the cutting into segments to usbox-net (tap.h). False with errno. */
bool boxside_offload(int tap);

/* Set up the network namespace of the caller. *ret_tap is the TAP's fd, non-blocking and the caller's, or -1. */
bool boxside_set_up(const BoxSide *side, int proc_sys, int *ret_tap, GError **error);

/* Then make the fast path ready, if it is wanted, and say NET_FDS, or NET_TAP: all of the network namespace of the caller that usbox-net needs. tap and
 * netns (that namespace) are borrowed. That there can be no fast path is no error: it is said why. */
bool boxside_hand_over(const BoxSide *side, int wire, WireType type, int tap, int netns, GError **error);
