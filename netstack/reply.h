/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/packet.h"

/* Large enough for any reply: IPv6's ICMP errors may fill 1280 bytes. */
#define REPLY_MAX (PACKET_ETH_LEN + 1280)

/*
 * The frame that tells the box that packet is refused: TCP gets a RST, the rest ICMP "administratively prohibited". Writes to
 * out (REPLY_MAX bytes) and returns the length, 0 where nothing may be answered. So do the others.
 */
size_t reply_refuse(const Packet *packet, uint8_t *out);

/* The ICMP error for a packet that the host did not send, by the errno of connect(2) or send(2). */
size_t reply_unsent(int errnum, const Packet *packet, uint8_t *out);

/* What a connect(2) on the host's side has come to, as the answer to the SYN that it was for. */
size_t reply_syn(int errnum, const Packet *syn, uint8_t *out);

/* An ICMP or ICMPv6 error about a packet, as some router said it. */
typedef struct {
        uint8_t type, code;
        uint32_t info;               /* its last four bytes */
        const struct in6_addr *from; /* NULL: the gateway */
} ReplyIcmp;

/* The frame with that error. */
size_t reply_icmp(const ReplyIcmp *error, const Packet *packet, uint8_t *out);
