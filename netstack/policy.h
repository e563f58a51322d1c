/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/packet.h"

typedef enum {
        POLICY_PASS,   /* libslirp may have it */
        POLICY_DROP,   /* nobody answers: malformed, or of a kind that has no answer */
        POLICY_REFUSE, /* the box is told: reply_refuse() */
} PolicyVerdict;

/* Addresses whose first len bits are those of addr; IPv4 as ::ffff:a.b.c.d, its len from 96 on. */
typedef struct {
        struct in6_addr addr;
        uint8_t len;
} PolicyPrefix;

typedef struct {
        bool ipv6;    /* the box has IPv6 */
        bool ping;    /* the host lets usbox-net send echo requests */
        GArray *host; /* of PolicyPrefix: what the host itself answers to; borrowed, may be NULL */
} Policy;

/*
 * May this frame of len bytes go on? Pure: looks at its arguments alone. *ret_packet is the frame taken apart; it is valid
 * (and borrows frame) only if the verdict is not POLICY_DROP.
 */
PolicyVerdict policy_frame(const Policy *policy, const uint8_t *frame, size_t len, Packet *ret_packet);

/* May the box open flows to addr (family as in Packet)? Says nothing about the box's own network. */
bool policy_address(const Policy *policy, int family, const struct in6_addr *addr);

/* Is addr within the network between box and usbox-net? */
bool policy_is_subnet(int family, const struct in6_addr *addr);
