/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netstack/address.h"

#define PACKET_ETH_LEN 14
#define PACKET_ETH_ARP 0x0806
#define PACKET_ETH_IPV4 0x0800
#define PACKET_ETH_IPV6 0x86dd

#define PACKET_TCP_FIN 0x01
#define PACKET_TCP_SYN 0x02
#define PACKET_TCP_RST 0x04
#define PACKET_TCP_ACK 0x10

/*
 * An Ethernet frame taken apart. IPv4 addresses stand as ::ffff:a.b.c.d, so that there is one form of address; whether a
 * packet is IPv4 is for family alone to say, since a hostile IPv6 packet can carry such an address too.
 */
typedef struct {
        const uint8_t *frame;
        size_t len;       /* of the frame, what follows the IP packet cut off */
        int family;       /* AF_INET, AF_INET6; AF_UNSPEC: ARP, nothing below is set */
        uint8_t protocol; /* IPPROTO_TCP, _UDP, _ICMP, _ICMPV6: never another */
        uint8_t hops;     /* TTL or hop limit */
        struct in6_addr src, dst;
        size_t l4;     /* offset of the transport header in the frame */
        size_t l4_len; /* bytes from there to the end, the header's own minimum at least */
        uint16_t sport, dport;        /* TCP, UDP */
        uint16_t segment;             /* UDP: bytes of data of each of the datagrams of which it is made, but for the last; 0: it is one. The reader's to set */
        uint8_t tcp_flags;            /* TCP */
        uint8_t icmp_type, icmp_code; /* ICMP, ICMPv6 */
} Packet;

/*
 * Take a frame apart. False for all that is malformed, that is a fragment, or that is of a protocol or an extension which
 * usbox-net does not speak: such a frame goes nowhere. ret borrows frame.
 */
bool packet_parse(const uint8_t *frame, size_t len, Packet *ret);

/* Add len bytes to a running ones' complement sum, and end it (RFC 1071). The sums of odd lengths come last. */
uint32_t packet_sum(uint32_t sum, const void *data, size_t len);
uint16_t packet_sum_end(uint32_t sum);

/* The pseudo header's sum alone, as it stands in the place of a checksum that somebody else is to complete. */
uint16_t packet_pseudo_sum(int family, const struct in6_addr *src, const struct in6_addr *dst, uint8_t protocol, size_t len);

/* The checksum of a transport packet of len bytes with its pseudo header; the field itself must hold 0. */
uint16_t packet_l4_checksum(int family, const struct in6_addr *src, const struct in6_addr *dst, uint8_t protocol,
                            const void *l4, size_t len);

/* Write Ethernet and IP header for l4_len bytes of transport packet to frame; returns where the transport packet goes. */
size_t packet_write_headers(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src,
                            const struct in6_addr *dst, uint8_t protocol, size_t l4_len);

/* A datagram whose payload of len bytes stands at frame + packet_udp_payload(family) already: all headers, with the checksum. Returns the frame's
 * length. */
size_t packet_write_udp(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src, uint16_t sport,
                        const struct in6_addr *dst, uint16_t dport, size_t len);

/* The same, but where the checksum stands is the pseudo header's sum alone: whoever sends it adds the rest. */
size_t packet_write_udp_unsummed(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src, uint16_t sport,
                                 const struct in6_addr *dst, uint16_t dport, size_t len);

/* Up to a datagram's data, at most: by IPv6. */
#define PACKET_UDP_HEADERS_MAX (PACKET_ETH_LEN + 40u + 8u)

static inline size_t packet_udp_payload(int family) {
        return PACKET_ETH_LEN + (family == AF_INET ? 20 : 40) + 8;
}

static inline uint16_t packet_get16(const uint8_t *p) {
        return (uint16_t) ((p[0] << 8) | p[1]);
}

static inline void packet_put16(uint8_t *p, unsigned v) {
        p[0] = (uint8_t) (v >> 8);
        p[1] = (uint8_t) v;
}

static inline uint32_t packet_get32(const uint8_t *p) {
        return ((uint32_t) packet_get16(p) << 16) | packet_get16(p + 2);
}

static inline void packet_put32(uint8_t *p, uint32_t v) {
        packet_put16(p, v >> 16);
        packet_put16(p + 2, v & 0xffff);
}

/* UDP: the bytes of data; those of the datagram whose data begins at the offset `at` of them. */
static inline size_t packet_udp_len(const Packet *p) {
        return packet_get16(p->frame + p->l4 + 4) - 8u;
}

static inline size_t packet_datagram_len(const Packet *p, size_t at) {
        size_t rest = packet_udp_len(p) - at;
        return p->segment > 0 && p->segment < rest ? p->segment : rest;
}
