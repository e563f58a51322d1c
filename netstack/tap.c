/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The TAP: frames larger than its MTU, and checksums that nobody needs.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: between the TAP and all else.
 *
 * With a small MTU nearly all that a stream costs by frames is their number. Both kernels of a virtual machine's network card know the way out,
 * which works here as well: before each frame stands a virtio_net_hdr, and what would have been many segments of one connection goes as one
 * frame of up to 64 KiB that says how long they would have been. The box's kernel sends such frames (TSO), and takes them (as it does after
 * GRO); no program sees a difference, nor does a rule of the MTU, which counts for each of those segments.
 *
 * libslirp takes frames of any length. That it makes long ones takes two things: its own idea of the MTU (stack.c), and the box's
 * SYN, whose MSS is raised. Two of its longest are as much as a frame holds; where it sends one right after the other they go as one. Then the
 * reader in the box wakes up once for both, and they are acknowledged once.
 *
 * Of a datagram only what is in it goes on, by a socket of the host's: its sum is left as it is, and made where somebody looks at it. Datagrams that a program
 * sends by one call (UDP_SEGMENT) are one frame, and so is what arrived at a socket of the host's as one piece (UDP_GRO), with Linux 6.2.
 *
 * The header is written by the box's kernel, but a program there can say what it holds (PACKET_VNET_HDR): nothing of it is
 * believed that is not checked here.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "netstack/tap.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define TCP_LEN 20
#define TCP_FLAGS 13
#define TCP_WINDOW 14
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6
#define TCP_PSH 0x08
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2

#define UDP_LEN 8

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* headers from Linux 6.2 on */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* No kernel makes one frame of more datagrams (UDP_MAX_SEGMENTS). */
#define DATAGRAMS_MAX 128

/* What an IP packet holds, less the headers of IPv6 and of TCP. */
#define MSS_MAX (65535 - 60)

#define PACKET_MAX 65535 /* what the length of an IP packet can say */

/* What is shorter costs little, and is not worth a copy. */
#define HOLD_MIN 8192

/* Of UDP, which is all that has its sum there. */
static bool is_for_udp(const struct virtio_net_hdr *h) {
        return h->csum_offset == UDP_CHECKSUM;
}

/* The field holds the pseudo header's sum already. */
static bool complete_checksum(const struct virtio_net_hdr *h, uint8_t *frame, size_t len) {
        size_t start = h->csum_start, at = start + h->csum_offset;

        if (start >= len || at + 2 > len)
                return false;
        packet_put16(frame + at, packet_sum_end(packet_sum(0, frame + start, len - start)));
        return true;
}

ssize_t tap_read(int tap, uint8_t *buf, size_t size, TapLeft *ret_left) {
        uint8_t *frame = buf + TAP_ROOM;
        struct virtio_net_hdr h;

        G_STATIC_ASSERT(sizeof h == TAP_ROOM);
        ssize_t n = read(tap, buf, size);
        if (n < 0)
                return -1;
        if (n <= (ssize_t) sizeof h)
                return 0;
        memcpy(&h, buf, sizeof h);
        size_t len = (size_t) n - sizeof h;
        ret_left->unsummed = (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && is_for_udp(&h);
        ret_left->segment = 0;
        if (h.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4) {
                if (!ret_left->unsummed || h.gso_size == 0 || len > PACKET_UDP_HEADERS_MAX + (size_t) h.gso_size * DATAGRAMS_MAX)
                        return 0;
                ret_left->segment = h.gso_size;
        }
        if ((h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !ret_left->unsummed && !complete_checksum(&h, frame, len))
                return 0;
        return (ssize_t) len;
}

void tap_sum_udp(uint8_t *frame, const Packet *packet) {
        uint8_t *udp = frame + packet->l4;

        packet_put16(udp + UDP_CHECKSUM, 0);
        packet_put16(udp + UDP_CHECKSUM, packet_l4_checksum(packet->family, &packet->src, &packet->dst, IPPROTO_UDP, udp, packet->l4_len));
}

static uint16_t pseudo_sum(const Packet *p) {
        return packet_pseudo_sum(p->family, &p->src, &p->dst, IPPROTO_TCP, p->l4_len);
}

/* Where the payload begins. */
static size_t headers_len(const Packet *p) {
        return p->l4 + (size_t) (p->frame[p->l4 + 12] >> 4) * 4;
}

/* Of a frame that is no segment but several. */
static struct virtio_net_hdr long_header(const Packet *p, size_t mtu) {
        size_t headers = headers_len(p);

        return (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                        .gso_type = p->family == AF_INET ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
                                        .hdr_len = (uint16_t) headers,
                                        .gso_size = (uint16_t) (mtu - (headers - PACKET_ETH_LEN)),
                                        .csum_start = (uint16_t) p->l4,
                                        .csum_offset = TCP_CHECKSUM };
}

static ssize_t write_long(int tap, const uint8_t *frame, const Packet *p, size_t mtu) {
        size_t sum_at = p->l4 + TCP_CHECKSUM;
        struct virtio_net_hdr h = long_header(p, mtu);
        uint8_t sum[2];

        packet_put16(sum, pseudo_sum(p));
        struct iovec iov[] = { { .iov_base = &h, .iov_len = sizeof h },
                               { .iov_base = (void *) frame, .iov_len = sum_at },
                               { .iov_base = sum, .iov_len = sizeof sum },
                               { .iov_base = (void *) (frame + sum_at + 2), .iov_len = p->len - sum_at - 2 } };
        return writev(tap, iov, G_N_ELEMENTS(iov));
}

ssize_t tap_write(int tap, const uint8_t *frame, size_t len, size_t mtu) {
        struct virtio_net_hdr h = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
        struct iovec iov[] = { { .iov_base = &h, .iov_len = sizeof h }, { .iov_base = (void *) frame, .iov_len = len } };
        Packet packet;

        if (len > PACKET_ETH_LEN + mtu && packet_parse(frame, len, &packet) && packet.protocol == IPPROTO_TCP)
                return write_long(tap, frame, &packet, mtu);
        return writev(tap, iov, G_N_ELEMENTS(iov));
}

ssize_t tap_write_udp(int tap, uint8_t *frame, size_t len, uint16_t segment) {
        size_t l4 = PACKET_ETH_LEN + (packet_get16(frame + 12) == PACKET_ETH_IPV4 ? IPV4_LEN : IPV6_LEN);
        struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t) l4, .csum_offset = UDP_CHECKSUM };

        if (len > l4 + UDP_LEN + segment) {
                h.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
                h.gso_size = segment;
                h.hdr_len = (uint16_t) (l4 + UDP_LEN);
        }
        memcpy(frame - TAP_ROOM, &h, sizeof h);
        return write(tap, frame - TAP_ROOM, TAP_ROOM + len);
}

/* Data alone, without options: what libslirp sends of a stream. */
static bool is_plain_data(const Packet *p) {
        return p->protocol == IPPROTO_TCP && (p->tcp_flags & ~TCP_PSH) == PACKET_TCP_ACK && headers_len(p) == p->l4 + TCP_LEN && p->len > headers_len(p);
}

bool tap_hold(TapHeld *held, const Packet *packet) {
        if (held->len > 0 || !is_plain_data(packet) || packet->len < HOLD_MIN || packet->len >= PACKET_ETH_LEN + PACKET_MAX)
                return false;
        if (!held->frame)
                held->frame = g_malloc(PACKET_ETH_LEN + PACKET_MAX);
        memcpy(held->frame, packet->frame, packet->len);
        held->len = packet->len;
        held->packet = *packet;
        held->packet.frame = held->frame;
        return true;
}

/* The same in what the kernel, too, compares before it puts segments together, but for IPv4's number and sum and for the lengths. */
static bool same_headers(const Packet *a, const Packet *b) {
        static const struct { size_t at, len; } fields[2][2] = { { { 0, PACKET_ETH_LEN + 2 }, { PACKET_ETH_LEN + 6, 4 } },
                                                                 { { 0, PACKET_ETH_LEN + 4 }, { PACKET_ETH_LEN + 6, 2 } } };

        for (size_t i = 0; i < 2; i++) {
                size_t at = fields[a->family == AF_INET6][i].at;
                if (memcmp(a->frame + at, b->frame + at, fields[a->family == AF_INET6][i].len) != 0)
                        return false;
        }
        return memcmp(&a->src, &b->src, sizeof a->src) == 0 && memcmp(&a->dst, &b->dst, sizeof a->dst) == 0 && a->sport == b->sport && a->dport == b->dport;
}

bool tap_joins(const TapHeld *held, const Packet *packet) {
        const Packet *first = &held->packet;

        if (held->len == 0 || !is_plain_data(packet) || packet->family != first->family || !same_headers(first, packet))
                return false;
        const uint8_t *a = first->frame + first->l4, *b = packet->frame + packet->l4;
        size_t more = packet->len - headers_len(packet);
        return packet_get32(b + 4) == packet_get32(a + 4) + (uint32_t) (held->len - headers_len(first)) && packet_get32(b + 8) == packet_get32(a + 8) &&
               held->len + more <= PACKET_ETH_LEN + PACKET_MAX;
}

ssize_t tap_write_joined(int tap, TapHeld *held, const Packet *next, size_t mtu) {
        uint8_t *ip = held->frame + PACKET_ETH_LEN, *tcp = held->frame + held->packet.l4;
        size_t skip = headers_len(next), more = next->len - skip, len = held->len;
        Packet both = held->packet;

        both.len += more;
        both.l4_len += more;
        if (both.family == AF_INET) {
                packet_put16(ip + 2, (unsigned) (both.len - PACKET_ETH_LEN));
                packet_put16(ip + 10, 0);
                packet_put16(ip + 10, packet_sum_end(packet_sum(0, ip, IPV4_LEN)));
        } else {
                packet_put16(ip + 4, (unsigned) both.l4_len);
        }
        tcp[TCP_FLAGS] |= next->tcp_flags;
        memcpy(tcp + TCP_WINDOW, next->frame + next->l4 + TCP_WINDOW, 2);
        packet_put16(tcp + TCP_CHECKSUM, pseudo_sum(&both));
        struct virtio_net_hdr h = long_header(&both, mtu);
        if (both.len <= PACKET_ETH_LEN + mtu) {
                h.gso_type = VIRTIO_NET_HDR_GSO_NONE;
                h.gso_size = 0;
        }
        struct iovec iov[] = { { .iov_base = &h, .iov_len = sizeof h },
                               { .iov_base = held->frame, .iov_len = len },
                               { .iov_base = (void *) (next->frame + skip), .iov_len = more } };
        held->len = 0;
        return writev(tap, iov, G_N_ELEMENTS(iov));
}

ssize_t tap_write_held(int tap, TapHeld *held, size_t mtu) {
        size_t len = held->len;

        held->len = 0;
        return tap_write(tap, held->frame, len, mtu);
}

void tap_raise_mss(uint8_t *frame, const Packet *packet) {
        uint8_t *tcp = frame + packet->l4;
        size_t end = (size_t) (tcp[12] >> 4) * 4, at = TCP_LEN;

        while (at + 4 <= end && tcp[at] != TCP_OPTION_MSS && tcp[at] != TCP_OPTION_END) {
                size_t size = tcp[at] == TCP_OPTION_NOP ? 1 : tcp[at + 1];
                if (size == 0)
                        return;
                at += size;
        }
        if (at + 4 > end || tcp[at] != TCP_OPTION_MSS || tcp[at + 1] != 4)
                return;
        packet_put16(tcp + at + 2, MSS_MAX);
        packet_put16(tcp + TCP_CHECKSUM, 0);
        packet_put16(tcp + TCP_CHECKSUM, packet_l4_checksum(packet->family, &packet->src, &packet->dst, IPPROTO_TCP, tcp, packet->l4_len));
}
