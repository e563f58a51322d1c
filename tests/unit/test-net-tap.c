/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames behind a virtio_net_hdr, by a socket pair in a TAP's stead: checksums are made whole, long TCP says what it would have been, a SYN's MSS
 * is raised, and what the header claims is not believed. Two frames of a stream become one, and others do not.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netstack/tap.h"

#define FRAME_MAX 66000
#define MTU 1500
#define GSO_UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4 of headers from Linux 6.2 on */

typedef struct {
        struct virtio_net_hdr h;
        uint8_t frame[FRAME_MAX];
} Wire; /* as it stands on the TAP */

static const struct in6_addr box4 = { .s6_addr = { [10] = 0xff, 0xff, 10, 0, 2, 100 } }, peer4 = { .s6_addr = { [10] = 0xff, 0xff, 192, 0, 2, 1 } };
static const struct in6_addr box6 = { .s6_addr = { 0xfd, [14] = 1 } }, peer6 = { .s6_addr = { 0x20, 1, 0xd, 0xb8, [15] = 1 } };
static const uint8_t mac[6] = { 2 };

static TapLeft left; /* of what was read last */

static const struct in6_addr *box_of(int family) {
        return family == AF_INET ? &box4 : &box6;
}

static const struct in6_addr *peer_of(int family) {
        return family == AF_INET ? &peer4 : &peer6;
}

/* Room for it and not a byte more, so that what is read beyond it is seen. */
static ssize_t read_frame(int fd, uint8_t *frame, size_t size) {
        g_autofree uint8_t *buf = g_malloc(TAP_ROOM + size);

        ssize_t n = tap_read(fd, buf, TAP_ROOM + size, &left);
        if (n > 0)
                memcpy(frame, buf + TAP_ROOM, (size_t) n);
        return n;
}

/* The sum over a whole transport packet is 0. */
static uint16_t sum_of(const uint8_t *frame, const Packet *p) {
        return packet_l4_checksum(p->family, &p->src, &p->dst, p->protocol, frame + p->l4, p->l4_len);
}

/* TCP with these options and so many bytes; its checksum is whole. */
static size_t make_tcp(uint8_t *frame, int family, uint8_t flags, const uint8_t *options, size_t options_len, size_t data) {
        size_t len = 20 + options_len + data;
        size_t at = packet_write_headers(frame, mac, family, box_of(family), peer_of(family), IPPROTO_TCP, len);
        uint8_t *tcp = frame + at;

        memset(tcp, 0, 20);
        packet_put16(tcp, 1000);
        packet_put16(tcp + 2, 2000);
        tcp[12] = (uint8_t) ((20 + options_len) / 4 << 4);
        tcp[13] = flags;
        if (options_len > 0)
                memcpy(tcp + 20, options, options_len);
        for (size_t i = 0; i < data; i++)
                tcp[20 + options_len + i] = (uint8_t) (i * 7 + i / 251);
        packet_put16(tcp + 16, packet_l4_checksum(family, box_of(family), peer_of(family), IPPROTO_TCP, tcp, len));
        return at + len;
}

static void make_pair(int fds[2]) {
        int size = 1 << 20;
        g_assert_no_errno(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        g_assert_no_errno(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
        g_assert_no_errno(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
}

static void test_short(gconstpointer data) {
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *frame = g_malloc(FRAME_MAX), *got = g_malloc(FRAME_MAX);

        make_pair(fds);
        size_t len = make_tcp(frame, family, PACKET_TCP_ACK, NULL, 0, MTU - (family == AF_INET ? 40 : 60));
        g_assert_cmpint(len, ==, PACKET_ETH_LEN + MTU);
        g_assert_cmpint(tap_write(fds[0], frame, len, MTU), ==, len + sizeof(struct virtio_net_hdr));
        g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, len);
        g_assert_cmpmem(got, len, frame, len);
        g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, -1);
        g_assert_cmpint(errno, ==, EAGAIN);
        close(fds[0]);
        close(fds[1]);
}

/* As the box's kernel reads it: the segments' size is the MTU's, and the checksum is the pseudo header's part. */
static void test_long(gconstpointer data) {
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *frame = g_malloc(FRAME_MAX), *back = g_malloc(FRAME_MAX);
        g_autofree Wire *w = g_new0(Wire, 1);
        size_t headers = family == AF_INET ? 40 : 60;
        static const uint8_t options[4] = { 1, 1, 1, 1 };

        make_pair(fds);
        for (size_t n_options = 0; n_options <= 4; n_options += 4) {
                size_t len = make_tcp(frame, family, PACKET_TCP_ACK, options, n_options, 60001);
                g_assert_cmpint(tap_write(fds[0], frame, len, MTU), ==, len + sizeof w->h);
                g_assert_cmpint(read(fds[1], w, sizeof *w), ==, len + sizeof w->h);
                g_assert_cmpint(w->h.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
                g_assert_cmpint(w->h.gso_type, ==, family == AF_INET ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6);
                g_assert_cmpint(w->h.gso_size, ==, MTU - headers - n_options);
                g_assert_cmpint(w->h.hdr_len, ==, PACKET_ETH_LEN + headers + n_options);
                /* The other way: whole again, and the same. */
                g_assert_cmpint(write(fds[0], w, sizeof w->h + len), ==, sizeof w->h + len);
                g_assert_cmpint(read_frame(fds[1], back, FRAME_MAX), ==, len);
                g_assert_cmpmem(back, len, frame, len);
        }
        close(fds[0]);
        close(fds[1]);
}

/* What is long and not TCP is written as it is. */
static void test_long_datagram(void) {
        int fds[2];
        g_autofree uint8_t *frame = g_malloc0(FRAME_MAX);
        g_autofree Wire *w = g_new0(Wire, 1);

        make_pair(fds);
        size_t len = packet_write_udp(frame, mac, AF_INET, &peer4, 2000, &box4, 1000, 9000);
        g_assert_cmpint(tap_write(fds[0], frame, len, MTU), ==, len + sizeof w->h);
        g_assert_cmpint(read(fds[1], w, sizeof *w), ==, len + sizeof w->h);
        g_assert_cmpint(w->h.gso_type, ==, VIRTIO_NET_HDR_GSO_NONE);
        g_assert_cmpint(w->h.flags, ==, 0);
        g_assert_cmpmem(w->frame, len, frame, len);
        close(fds[0]);
        close(fds[1]);
}

/* Its sum stays what the box's kernel has put there, and is made when it is asked for. */
static void test_unsummed(gconstpointer data) {
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *got = g_malloc(FRAME_MAX);
        g_autofree Wire *w = g_new0(Wire, 1);
        Packet p;

        make_pair(fds);
        for (size_t n = 0; n < 1000; n += 333) {
                size_t len = packet_write_udp(w->frame, mac, family, peer_of(family), 2000, box_of(family), 1000, n);
                g_autofree uint8_t *whole = g_memdup2(w->frame, len);
                g_assert_true(packet_parse(w->frame, len, &p));
                w->h = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t) p.l4, .csum_offset = 6 };
                packet_put16(w->frame + p.l4 + 6, 0xabcd);
                g_assert_cmpint(write(fds[0], w, sizeof w->h + len), ==, sizeof w->h + len);
                g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, len);
                g_assert_true(left.unsummed);
                g_assert_cmpmem(got, len, w->frame, len);
                g_assert_true(packet_parse(got, len, &p));
                tap_sum_udp(got, &p);
                g_assert_cmpmem(got, len, whole, len);
                w->h.flags = 0;
                g_assert_cmpint(write(fds[0], w, sizeof w->h + len), ==, sizeof w->h + len);
                g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, len);
                g_assert_false(left.unsummed);
        }
        close(fds[0]);
        close(fds[1]);
}

/* Datagrams that are one frame: as it is written, and read; and what cannot be. */
static void test_datagrams(gconstpointer data) {
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *buf = g_malloc0(TAP_ROOM + FRAME_MAX), *got = g_malloc(FRAME_MAX);
        g_autofree Wire *w = g_new0(Wire, 1);
        uint8_t *frame = buf + TAP_ROOM;
        size_t headers = packet_udp_payload(family);
        static const struct { size_t len, segment; bool is_long, taken; } cases[] = {
                { 0, 1, false, true },       { 1000, 1000, false, true },  { 1000, 1001, false, true }, { 1001, 1000, true, true },
                { 64000, 1000, true, true }, { 12800, 100, true, true },   { 12900, 100, true, false }, { 50000, 1, true, false },
        };

        make_pair(fds);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                size_t len = packet_write_udp_unsummed(frame, mac, family, peer_of(family), 2000, box_of(family), 1000, cases[i].len);
                g_assert_cmpint(tap_write_udp(fds[0], frame, len, (uint16_t) cases[i].segment), ==, len + sizeof w->h);
                g_assert_cmpint(read(fds[1], w, sizeof *w), ==, len + sizeof w->h);
                g_assert_cmpmem(w->frame, len, frame, len);
                g_assert_cmpint(w->h.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
                g_assert_cmpint(w->h.csum_start, ==, headers - 8);
                g_assert_cmpint(w->h.csum_offset, ==, 6);
                g_assert_cmpint(w->h.gso_type, ==, cases[i].is_long ? GSO_UDP_L4 : VIRTIO_NET_HDR_GSO_NONE);
                g_assert_cmpint(w->h.gso_size, ==, cases[i].is_long ? cases[i].segment : 0);
                g_assert_cmpint(write(fds[0], w, sizeof w->h + len), ==, sizeof w->h + len);
                g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, cases[i].taken ? len : 0);
                if (!cases[i].taken)
                        continue;
                g_assert_true(left.unsummed);
                g_assert_cmpint(left.segment, ==, cases[i].is_long ? cases[i].segment : 0);
                Packet p;
                g_assert_true(packet_parse(got, len, &p));
                p.segment = left.segment;
                g_assert_cmpint(packet_udp_len(&p), ==, cases[i].len);
                g_assert_cmpint(packet_datagram_len(&p, 0), ==, MIN(cases[i].len, cases[i].segment));
                if (cases[i].is_long)
                        g_assert_cmpint(packet_datagram_len(&p, cases[i].len - 1), ==, 1);
        }
        /* Of no bytes each; and those whose sum is made, or is not UDP's. */
        for (int i = 0; i < 3; i++) {
                w->h = (struct virtio_net_hdr){ .flags = i == 1 ? 0 : VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = GSO_UDP_L4, .gso_size = i == 0 ? 0 : 1000,
                                                .csum_start = (uint16_t) (headers - 8), .csum_offset = i == 2 ? 16 : 6 };
                g_assert_cmpint(write(fds[0], w, sizeof w->h + 3000), ==, sizeof w->h + 3000);
                g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, 0);
        }
        close(fds[0]);
        close(fds[1]);
}

static void test_header_that_lies(void) {
        static const struct { uint16_t start, offset; } places[] = { { 34, 100 }, { 34, 65535 }, { 65535, 65535 }, { 53, 0 }, { 54, 0 }, { 0, 53 } };
        int fds[2];
        uint8_t got[100];
        Wire *w = g_new0(Wire, 1);

        make_pair(fds);
        for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
                w->h = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = places[i].start, .csum_offset = places[i].offset };
                g_assert_cmpint(write(fds[0], w, sizeof w->h + 54), ==, sizeof w->h + 54);
                g_assert_cmpint(read_frame(fds[1], got, sizeof got), ==, 0);
        }
        /* No more than a header, or a part of one. */
        for (size_t len = 1; len <= sizeof w->h; len++) {
                g_assert_cmpint(write(fds[0], w, len), ==, len);
                g_assert_cmpint(read_frame(fds[1], got, sizeof got), ==, 0);
        }
        close(fds[0]);
        close(fds[1]);
        g_free(w);
}

static void test_mss(gconstpointer data) {
        int family = GPOINTER_TO_INT(data);
        static const uint8_t with[] = { 1, 1, 2, 4, 5, 0xb4, 0, 0 }, first[] = { 2, 4, 5, 0xb4 };
        static const uint8_t without[] = { 1, 1, 1, 0 }, endless[] = { 3, 0, 2, 4, 5, 0xb4, 0, 0 }, beyond[] = { 1, 1, 1, 2 }, behind[] = { 3, 200, 2, 4 },
                             after_end[] = { 0, 2, 4, 5, 0xb4, 0, 0, 0 }, wrong[] = { 2, 3, 5, 1 };
        const struct { const uint8_t *options; size_t len, at; } cases[] = {
                { with, sizeof with, 24 },       { first, sizeof first, 22 },   { without, sizeof without, 0 },     { endless, sizeof endless, 0 },
                { beyond, sizeof beyond, 0 },    { behind, sizeof behind, 0 },  { after_end, sizeof after_end, 0 }, { wrong, sizeof wrong, 0 },
                { NULL, 0, 0 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree uint8_t *frame = g_malloc(FRAME_MAX);
                Packet p;
                size_t len = make_tcp(frame, family, PACKET_TCP_SYN, cases[i].options, cases[i].len, 0);
                /* Of its very size, so that what is read beyond it is seen. */
                g_autofree uint8_t *copy = g_memdup2(frame, len);
                g_assert_true(packet_parse(copy, len, &p));
                tap_raise_mss(copy, &p);
                if (cases[i].at)
                        g_assert_cmpint(packet_get16(copy + p.l4 + cases[i].at), ==, 65475);
                else
                        g_assert_cmpmem(copy, len, frame, len);
                g_assert_cmpint(sum_of(copy, &p), ==, 0);
        }
}

/* The data of both as make_tcp() has it for one: number of the first byte, payload. */
static size_t make_part(uint8_t *frame, int family, size_t from, size_t to, uint8_t flags, uint16_t window) {
        g_autofree uint8_t *all = g_malloc(FRAME_MAX);
        Packet p;

        size_t len = make_tcp(all, family, PACKET_TCP_ACK, NULL, 0, to), headers = len - to;
        size_t part = make_tcp(frame, family, flags, NULL, 0, to - from);
        memcpy(frame + headers, all + headers + from, to - from);
        packet_put32(frame + headers - 16, (uint32_t) (0xffffff00u + from)); /* the numbers begin again on the way */
        packet_put16(frame + headers - 6, window);
        packet_put16(frame + headers - 4, 0);
        g_assert_true(packet_parse(frame, part, &p));
        packet_put16(frame + headers - 4, packet_l4_checksum(family, &p.src, &p.dst, IPPROTO_TCP, frame + p.l4, p.l4_len));
        return part;
}

#define PSH 8

static Packet parsed(const uint8_t *frame, size_t len) {
        Packet p;
        g_assert_true(packet_parse(frame, len, &p));
        return p;
}

/* Two as one: what the box's kernel reads is what one segment of that length would have been. */
static void test_join(gconstpointer data) {
        static const size_t mtus[] = { MTU, 65520 }, ends[] = { 20001, 65475 };
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *first = g_malloc(FRAME_MAX), *second = g_malloc(FRAME_MAX), *whole = g_malloc(FRAME_MAX), *got = g_malloc(FRAME_MAX);
        g_autofree Wire *w = g_new0(Wire, 1);
        TapHeld held = { 0 };
        size_t headers = family == AF_INET ? 40 : 60;

        make_pair(fds);
        for (size_t i = 0; i < G_N_ELEMENTS(mtus); i++)
                for (size_t k = 0; k < G_N_ELEMENTS(ends); k++) {
                        size_t end = ends[k], first_len = make_part(first, family, 0, 10000, PACKET_TCP_ACK, 100);
                        size_t second_len = make_part(second, family, 10000, end, PACKET_TCP_ACK | PSH, 200);
                        size_t whole_len = make_part(whole, family, 0, end, PACKET_TCP_ACK | PSH, 200);
                        Packet a = parsed(first, first_len), b = parsed(second, second_len);

                        g_assert_false(tap_joins(&held, &a));
                        g_assert_true(tap_hold(&held, &a));
                        memset(first, 0xee, first_len); /* it is a copy that is kept */
                        g_assert_true(tap_joins(&held, &b));
                        g_assert_cmpint(tap_write_joined(fds[0], &held, &b, mtus[i]), ==, whole_len + sizeof w->h);
                        g_assert_cmpint(held.len, ==, 0);
                        g_assert_cmpint(read(fds[1], w, sizeof *w), ==, whole_len + sizeof w->h);
                        g_assert_cmpint(w->h.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
                        bool is_long = whole_len > PACKET_ETH_LEN + mtus[i];
                        int type = family == AF_INET ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
                        g_assert_cmpint(w->h.gso_type, ==, is_long ? type : VIRTIO_NET_HDR_GSO_NONE);
                        g_assert_cmpint(w->h.gso_size, ==, is_long ? mtus[i] - headers : 0);
                        g_assert_cmpint(write(fds[0], w, sizeof w->h + whole_len), ==, sizeof w->h + whole_len);
                        g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, whole_len);
                        g_assert_cmpmem(got, whole_len, whole, whole_len);
                        Packet p = parsed(got, whole_len);
                        g_assert_cmpint(sum_of(got, &p), ==, 0);
                        if (family == AF_INET)
                                g_assert_cmpint(packet_sum_end(packet_sum(0, got + PACKET_ETH_LEN, 20)), ==, 0);
                }
        g_free(held.frame);
        close(fds[0]);
        close(fds[1]);
}

/* Alone it goes as it came. */
static void test_held_alone(gconstpointer data) {
        int family = GPOINTER_TO_INT(data), fds[2];
        g_autofree uint8_t *frame = g_malloc(FRAME_MAX), *copy = NULL, *got = g_malloc(FRAME_MAX);
        TapHeld held = { 0 };

        make_pair(fds);
        size_t len = make_part(frame, family, 0, 30000, PACKET_TCP_ACK, 100);
        copy = g_memdup2(frame, len);
        Packet p = parsed(frame, len);
        g_assert_true(tap_hold(&held, &p));
        g_assert_false(tap_hold(&held, &p)); /* there is one already */
        memset(frame, 0, len);
        g_assert_cmpint(tap_write_held(fds[0], &held, MTU), ==, len + sizeof(struct virtio_net_hdr));
        g_assert_cmpint(held.len, ==, 0);
        g_assert_cmpint(read_frame(fds[1], got, FRAME_MAX), ==, len);
        g_assert_cmpmem(got, len, copy, len);
        g_free(held.frame);
        close(fds[0]);
        close(fds[1]);
}

/* How the second differs so that both cannot be one; the place is of the frame, or of its TCP header. */
static void test_no_join(gconstpointer data) {
        static const struct { bool tcp; size_t at; } others[] = {
                { false, 0 }, { false, 7 }, { false, 15 }, { true, 0 }, { true, 2 }, { true, 7 }, { true, 4 }, { true, 11 },
        };
        static const uint8_t flags[] = { PACKET_TCP_ACK | PACKET_TCP_FIN, PACKET_TCP_ACK | PACKET_TCP_RST, PACKET_TCP_ACK | PACKET_TCP_SYN,
                                         PACKET_TCP_ACK | 0x20, 0 };
        static const uint8_t options[4] = { 1, 1, 1, 1 };
        int family = GPOINTER_TO_INT(data), other = family == AF_INET ? AF_INET6 : AF_INET;
        g_autofree uint8_t *first = g_malloc(FRAME_MAX), *second = g_malloc(FRAME_MAX);
        TapHeld held = { 0 };

        size_t len = make_part(first, family, 0, 20000, PACKET_TCP_ACK, 100);
        Packet a = parsed(first, len);
        /* Not worth it, or of another kind. */
        size_t n = make_part(second, family, 0, 1000, PACKET_TCP_ACK, 100);
        Packet p = parsed(second, n);
        g_assert_false(tap_hold(&held, &p));
        n = make_part(second, family, 0, 20000, PACKET_TCP_ACK | PACKET_TCP_FIN, 100);
        p = parsed(second, n);
        g_assert_false(tap_hold(&held, &p));
        n = make_tcp(second, family, PACKET_TCP_ACK, options, sizeof options, 20000);
        p = parsed(second, n);
        g_assert_false(tap_hold(&held, &p));
        n = packet_write_udp(second, mac, family, peer_of(family), 2000, box_of(family), 1000, 20000);
        p = parsed(second, n);
        g_assert_false(tap_hold(&held, &p));
        g_assert_false(tap_joins(&held, &a)); /* and so there is none */

        g_assert_true(tap_hold(&held, &a));
        n = make_part(second, family, 20000, 30000, PACKET_TCP_ACK, 100);
        p = parsed(second, n);
        g_assert_true(tap_joins(&held, &p));
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
                uint8_t *byte = second + (others[i].tcp ? p.l4 : 0) + others[i].at;
                *byte ^= 1;
                p = parsed(second, n);
                g_assert_false(tap_joins(&held, &p));
                *byte ^= 1;
        }
        for (size_t i = 0; i < 16; i++) { /* both addresses; of IPv4's 8 bytes each is twice here */
                uint8_t *byte = second + p.l4 - (family == AF_INET ? 8 : 32) + (family == AF_INET ? i / 2 : i * 2);
                *byte ^= 1;
                p = parsed(second, n);
                g_assert_false(tap_joins(&held, &p));
                *byte ^= 1;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
                second[p.l4 + 13] = flags[i];
                p = parsed(second, n);
                g_assert_false(tap_joins(&held, &p));
        }
        /* The same again, an empty one, one with options, the other family, one that is too long. */
        g_assert_false(tap_joins(&held, &a));
        n = make_part(second, family, 20000, 20000, PACKET_TCP_ACK, 100);
        p = parsed(second, n);
        g_assert_false(tap_joins(&held, &p));
        n = make_tcp(second, family, PACKET_TCP_ACK, options, sizeof options, 100);
        memcpy(second + n - 100 - sizeof options - 16, first + a.l4 + 4, 4);
        p = parsed(second, n);
        g_assert_false(tap_joins(&held, &p));
        n = make_part(second, other, 20000, 30000, PACKET_TCP_ACK, 100);
        p = parsed(second, n);
        g_assert_false(tap_joins(&held, &p));
        size_t room = 65535 - (family == AF_INET ? 40 : 60);
        n = make_part(second, family, 20000, room, PACKET_TCP_ACK, 100);
        p = parsed(second, n);
        g_assert_true(tap_joins(&held, &p));
        n = make_part(second, family, 20000, room + 1, PACKET_TCP_ACK, 100);
        p = parsed(second, n);
        g_assert_false(tap_joins(&held, &p));
        g_free(held.frame);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_data_func("/tap/short/ipv4", GINT_TO_POINTER(AF_INET), test_short);
        g_test_add_data_func("/tap/short/ipv6", GINT_TO_POINTER(AF_INET6), test_short);
        g_test_add_data_func("/tap/long/ipv4", GINT_TO_POINTER(AF_INET), test_long);
        g_test_add_data_func("/tap/long/ipv6", GINT_TO_POINTER(AF_INET6), test_long);
        g_test_add_func("/tap/long-datagram", test_long_datagram);
        g_test_add_data_func("/tap/unsummed/ipv4", GINT_TO_POINTER(AF_INET), test_unsummed);
        g_test_add_data_func("/tap/unsummed/ipv6", GINT_TO_POINTER(AF_INET6), test_unsummed);
        g_test_add_data_func("/tap/datagrams/ipv4", GINT_TO_POINTER(AF_INET), test_datagrams);
        g_test_add_data_func("/tap/datagrams/ipv6", GINT_TO_POINTER(AF_INET6), test_datagrams);
        g_test_add_func("/tap/header-that-lies", test_header_that_lies);
        g_test_add_data_func("/tap/mss/ipv4", GINT_TO_POINTER(AF_INET), test_mss);
        g_test_add_data_func("/tap/mss/ipv6", GINT_TO_POINTER(AF_INET6), test_mss);
        g_test_add_data_func("/tap/join/ipv4", GINT_TO_POINTER(AF_INET), test_join);
        g_test_add_data_func("/tap/join/ipv6", GINT_TO_POINTER(AF_INET6), test_join);
        g_test_add_data_func("/tap/held-alone/ipv4", GINT_TO_POINTER(AF_INET), test_held_alone);
        g_test_add_data_func("/tap/held-alone/ipv6", GINT_TO_POINTER(AF_INET6), test_held_alone);
        g_test_add_data_func("/tap/no-join/ipv4", GINT_TO_POINTER(AF_INET), test_no_join);
        g_test_add_data_func("/tap/no-join/ipv6", GINT_TO_POINTER(AF_INET6), test_no_join);
        return g_test_run();
}
