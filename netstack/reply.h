/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/packet.h"

/* Large enough for any reply: IPv6's ICMP errors may fill 1280 bytes. */
#define REPLY_MAX (PACKET_ETH_LEN + 1280)

typedef enum {
        REPLY_RESET,      /* TCP: a RST */
        REPLY_PROHIBITED, /* ICMP errors: "administratively prohibited" */
        REPLY_NO_NETWORK, /* ... and so on: ENETUNREACH in the box */
        REPLY_NO_HOST,    /* EHOSTUNREACH */
} ReplyKind;

/* What an errno of connect(2) or send(2) is to the box: one of the ICMP errors. */
ReplyKind reply_kind_of(int errnum);

/* The frame that answers packet so. Writes to out (REPLY_MAX bytes) and returns the length, 0 where nothing may be answered. */
size_t reply_with(ReplyKind kind, const Packet *packet, uint8_t *out);

/* What a connect(2) on the host's side has come to, as the answer to the SYN that it was for; as reply_with(). */
size_t reply_syn(int errnum, const Packet *syn, uint8_t *out);

/* An ICMP or ICMPv6 error about a packet, as some router said it. */
typedef struct {
        uint8_t type, code;
        uint32_t info;               /* its last four bytes */
        const struct in6_addr *from; /* NULL: the gateway */
} ReplyIcmp;

/* The frame with that error; as reply_with(). */
size_t reply_icmp(const ReplyIcmp *error, const Packet *packet, uint8_t *out);

/*
 * The frame that tells the box that packet is refused: TCP gets a RST, the rest ICMP "administratively prohibited". Writes to
 * out (REPLY_MAX bytes) and returns the length, 0 where nothing may be answered.
 */
size_t reply_refuse(const Packet *packet, uint8_t *out);
