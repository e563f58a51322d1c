/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "netstack/reply.h"

/* An ICMP error about what a connected socket has sent. */
typedef struct {
        ReplyIcmp icmp;       /* its from points here */
        struct in6_addr from;
        uint8_t quoted[64];   /* what was sent, from its transport header (ICMP) or its payload (UDP) on, as far as it goes */
        size_t quoted_len;
} ErrqueueError;

/* Take one from the socket, which has IP_RECVERR or IPV6_RECVERR. False: there is none. *ret_told: whether the box is to be told of it: that
 * its destination is unreachable or a hop limit was exceeded; else *ret is not set. */
bool errqueue_take(int fd, ErrqueueError *ret, bool *ret_told);

/* Have the kernel keep such errors for the socket. False with errno. */
bool errqueue_want(int fd, int family);
