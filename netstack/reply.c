/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Answers to what the policy refuses, so that a connect(2) in the box fails at once instead of hanging.
 *
 * Role: usbox-net. Privileges: none. Threads: any; pure functions. Order: after the policy, instead of libslirp.
 *
 * No answer is longer than the frame that it answers by more than a header, and each goes to the box alone: there is
 * nothing here to amplify, so there is no limit of rate.
 */
#include <errno.h>
#include <string.h>

#include "netstack/reply.h"
#include "netstack/subnet.h"

typedef enum {
        REPLY_RESET,      /* TCP: a RST */
        REPLY_PROHIBITED, /* ICMP errors: "administratively prohibited" */
        REPLY_NO_NETWORK, /* ... and so on: ENETUNREACH in the box */
        REPLY_NO_HOST,    /* EHOSTUNREACH */
} ReplyKind;

#define TCP_LEN 20
#define ICMP_LEN 8
#define IPV4_LEN 20
#define IPV6_LEN 40

/* The sender of errors is the gateway, as on any path. */
static const struct in6_addr gateway_ipv6 = { .s6_addr = { 0xfd, [15] = 2 } };

/* RFC 9293, 3.10.7.1: a RST that the sender of this segment will believe. */
static size_t reply_reset(const Packet *p, uint8_t *out) {
        const uint8_t *in = p->frame + p->l4;

        if (p->tcp_flags & PACKET_TCP_RST)
                return 0;

        size_t at = packet_write_headers(out, p->frame + 6, p->family, &p->dst, &p->src, IPPROTO_TCP, TCP_LEN);
        uint8_t *tcp = out + at;
        memset(tcp, 0, TCP_LEN);
        packet_put16(tcp, p->dport);
        packet_put16(tcp + 2, p->sport);
        tcp[12] = (TCP_LEN / 4) << 4;
        tcp[13] = PACKET_TCP_RST;
        if (p->tcp_flags & PACKET_TCP_ACK) {
                packet_put32(tcp + 4, packet_get32(in + 8));
        } else {
                uint32_t taken = (uint32_t) (p->l4_len - (size_t) (in[12] >> 4) * 4);
                taken += !!(p->tcp_flags & PACKET_TCP_SYN) + !!(p->tcp_flags & PACKET_TCP_FIN);
                packet_put32(tcp + 8, packet_get32(in + 4) + taken);
                tcp[13] |= PACKET_TCP_ACK;
        }
        packet_put16(tcp + 16, packet_l4_checksum(p->family, &p->dst, &p->src, IPPROTO_TCP, tcp, TCP_LEN));
        return at + TCP_LEN;
}

/* RFC 792, RFC 4443: both carry as much of the packet as fits. */
size_t reply_icmp(const ReplyIcmp *error, const Packet *p, uint8_t *out) {
        bool v4 = p->family == AF_INET;
        size_t room = v4 ? 576 - IPV4_LEN - ICMP_LEN : 1280 - IPV6_LEN - ICMP_LEN;
        size_t quoted = p->len - PACKET_ETH_LEN;
        if (quoted > room)
                quoted = room;

        const struct in6_addr *src = error->from ? error->from : v4 ? &subnet_ipv4()->gateway : &gateway_ipv6;
        uint8_t protocol = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
        size_t at = packet_write_headers(out, p->frame + 6, p->family, src, &p->src, protocol, ICMP_LEN + quoted);
        uint8_t *icmp = out + at;
        memset(icmp, 0, ICMP_LEN);
        icmp[0] = error->type;
        icmp[1] = error->code;
        packet_put32(icmp + 4, error->info);
        memcpy(icmp + ICMP_LEN, p->frame + PACKET_ETH_LEN, quoted);
        packet_put16(icmp + 2, packet_l4_checksum(p->family, src, &p->src, protocol, icmp, ICMP_LEN + quoted));
        return at + ICMP_LEN + quoted;
}

/* RFC 1812: type 3; RFC 4443: type 1. */
static size_t reply_unreachable(ReplyKind kind, const Packet *p, uint8_t *out) {
        static const struct {
                uint8_t v4, v6;
        } codes[] = { [REPLY_PROHIBITED] = { 13, 1 }, [REPLY_NO_NETWORK] = { 0, 0 }, [REPLY_NO_HOST] = { 1, 3 } };
        bool v4 = p->family == AF_INET;
        const ReplyIcmp error = { .type = v4 ? 3 : 1, .code = v4 ? codes[kind].v4 : codes[kind].v6 };

        return reply_icmp(&error, p, out);
}

/* What an errno of the host's is to the box; others: what any other one is. */
static ReplyKind kind_of(int errnum, ReplyKind others) {
        switch (errnum) {
        case ENETUNREACH:
        case ENETDOWN:
        case EADDRNOTAVAIL:
                return REPLY_NO_NETWORK;
        case EHOSTUNREACH:
                return REPLY_NO_HOST;
        case EACCES:
        case EPERM:
                return REPLY_PROHIBITED;
        default:
                return others;
        }
}

static size_t reply_with(ReplyKind kind, const Packet *packet, uint8_t *out) {
        if (packet->family != AF_INET && packet->family != AF_INET6)
                return 0;
        return kind == REPLY_RESET ? reply_reset(packet, out) : reply_unreachable(kind, packet, out);
}

size_t reply_unsent(int errnum, const Packet *packet, uint8_t *out) {
        return reply_with(kind_of(errnum, REPLY_NO_NETWORK), packet, out);
}

size_t reply_syn(int errnum, const Packet *syn, uint8_t *out) {
        if (errnum == ETIMEDOUT)
                return 0; /* the box's own connect(2) has the same patience */
        return reply_with(errnum == ECONNREFUSED || errnum == ECONNRESET ? REPLY_RESET : kind_of(errnum, REPLY_NO_HOST), syn, out);
}

size_t reply_refuse(const Packet *packet, uint8_t *out) {
        return reply_with(packet->protocol == IPPROTO_TCP ? REPLY_RESET : REPLY_PROHIBITED, packet, out);
}
