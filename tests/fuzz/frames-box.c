/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the box sends in fuzz-frames: frames as they stand in the input, or made up so that they are part of a conversation.
 *
 * Role: tests only. Privileges: none. Threads: one.
 */
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#include "frames-check.h"
#include "frames-world.h"
#include "frames.h"
#include "netstack/divert.h"

#define FLOOD_MAX 250

#define FRAME_AS_IT_IS 0x01 /* checksums are not put right */
#define FRAME_LENGTHS 0x02  /* lengths of headers are put right, too */
#define FRAME_HEADER 0x04   /* a virtio_net_hdr stands before it */
#define FRAME_TRACKED 0x08  /* sequence numbers of TCP are relative to where the connection is */

/* What the box knows of a connection of its own, by its port. */
typedef struct {
        bool known;
        uint32_t mine, theirs; /* what each side sends next */
} Track;

static int tap;
static Track tracks[PORTS];
static uint8_t last[HEADER + FRAME_MAX]; /* the last frame, its header before it */
static size_t last_len;
static unsigned flood_left;              /* frames: each may cost libslirp a quarter of a megabyte */

void box_begin(int new_tap) {
        tap = new_tap;
        memset(tracks, 0, sizeof tracks);
        last_len = 0;
        flood_left = FLOOD_MAX;
}

/* What stands behind last + HEADER goes out. A full queue loses it. */
static void send_last(void) {
        (void) send(tap, last, HEADER + last_len, MSG_DONTWAIT);
}

/* Lengths of IP and UDP, as the frame has bytes. */
static void fix_lengths(uint8_t *frame, size_t len) {
        uint8_t *ip = frame + PACKET_ETH_LEN;

        if (packet_get16(frame + 12) == PACKET_ETH_IPV4 && len >= PACKET_ETH_LEN + 20) {
                packet_put16(ip + 2, (unsigned) (len - PACKET_ETH_LEN));
                if (ip[9] == IPPROTO_UDP && len >= PACKET_ETH_LEN + 28)
                        packet_put16(ip + 24, (unsigned) (len - PACKET_ETH_LEN - 20));
        } else if (packet_get16(frame + 12) == PACKET_ETH_IPV6 && len >= PACKET_ETH_LEN + 40) {
                packet_put16(ip + 4, (unsigned) (len - PACKET_ETH_LEN - 40));
                if (ip[6] == IPPROTO_UDP && len >= PACKET_ETH_LEN + 48)
                        packet_put16(ip + 44, (unsigned) (len - PACKET_ETH_LEN - 40));
        }
}

static Track *track_of(uint16_t port) {
        return port >= PORT_BASE && port < PORT_BASE + PORTS ? &tracks[port - PORT_BASE] : NULL;
}

void box_received(const uint8_t *frame, size_t len) {
        Packet p;

        if (!packet_parse(frame, len, &p) || p.family == AF_UNSPEC || p.protocol != IPPROTO_TCP)
                return;
        Track *track = track_of(p.dport);
        if (!track)
                return;
        const uint8_t *tcp = frame + p.l4;
        uint32_t taken = (uint32_t) (p.l4_len - (size_t) (tcp[12] >> 4) * 4) + !!(p.tcp_flags & PACKET_TCP_SYN) + !!(p.tcp_flags & PACKET_TCP_FIN);
        *track = (Track){ .known = true, .mine = packet_get32(tcp + 8), .theirs = packet_get32(tcp + 4) + taken };
}

static void fix_sequence(uint8_t *frame, const Packet *p) {
        uint8_t *tcp = frame + p->l4;
        const Track *track = track_of(p->sport);

        if (p->protocol != IPPROTO_TCP || !track || !track->known)
                return;
        packet_put32(tcp + 4, packet_get32(tcp + 4) + track->mine);
        packet_put32(tcp + 8, packet_get32(tcp + 8) + track->theirs);
}

static void fix_checksums(uint8_t *frame, size_t len) {
        static const size_t at[] = { [IPPROTO_TCP] = 16, [IPPROTO_UDP] = 6, [IPPROTO_ICMP] = 2, [IPPROTO_ICMPV6] = 2 };
        uint8_t *ip = frame + PACKET_ETH_LEN;
        Packet p;

        if (packet_get16(frame + 12) == PACKET_ETH_IPV4 && len >= PACKET_ETH_LEN + 20) {
                packet_put16(ip + 10, 0);
                packet_put16(ip + 10, packet_sum_end(packet_sum(0, ip, 20)));
        }
        if (!packet_parse(frame, len, &p) || p.family == AF_UNSPEC)
                return;
        uint8_t *sum = frame + p.l4 + at[p.protocol];
        packet_put16(sum, 0);
        packet_put16(sum, packet_l4_checksum(p.family, &p.src, &p.dst, p.protocol, frame + p.l4, p.l4_len));
}

void box_frame(Input *in) {
        uint8_t flags = take8(in), *frame = last + HEADER;
        size_t len = take16(in);
        Packet p;

        memset(last, 0, HEADER);
        if (flags & FRAME_HEADER)
                (void) take_into(in, last, HEADER);
        last_len = take_into(in, frame, len);
        if (last_len >= PACKET_ETH_LEN && (flags & FRAME_LENGTHS))
                fix_lengths(frame, last_len);
        if ((flags & FRAME_TRACKED) && packet_parse(frame, last_len, &p))
                fix_sequence(frame, &p);
        if (last_len >= PACKET_ETH_LEN && !(flags & FRAME_AS_IT_IS))
                fix_checksums(frame, last_len);
        send_last();
}

/* Whom frames that are made up go to. */
static const char *const destinations[] = {
        "203.0.113.1", "203.0.113.65", "198.18.0.1", "8.8.8.8", NET_GATEWAY_IPV4, NET_DNS_IPV4, WORLD_UNREACHABLE, WORLD_PROHIBITED,
        WORLD_SILENT, "127.0.0.1", WORLD_HOST_IPV4, "169.254.169.254", "0.0.0.0", "10.1.2.3", WORLD_LATE_ADDRESS, "10.0.2.255",
        "2001:db8:1::1", "2001:db8:2::1", NET_GATEWAY_IPV6, NET_DNS_IPV6, WORLD_UNREACHABLE_IPV6, "::1", WORLD_HOST_IPV6, "fd00:ec2::254",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "2002:7f00:1::1", "ff02::1", "fd00::5", "::", "64:ff9b::cb00:7101",
};
static const uint16_t destination_ports[] = { 443, 80, 7, 53, 81, 8000, 67, 69 };

const char *box_destination(unsigned who) {
        return destinations[who % G_N_ELEMENTS(destinations)];
}

/* Its headers, up to that of the transport, into last; returns where that begins. */
static size_t begin_frame(uint8_t who, uint8_t protocol, size_t l4_len, struct in6_addr *ret_src, struct in6_addr *ret_dst) {
        const char *text = destinations[who % G_N_ELEMENTS(destinations)];
        int family = strchr(text, ':') ? AF_INET6 : AF_INET;
        uint8_t *frame = last + HEADER;
        uint8_t v4[4];

        memset(last, 0, HEADER);
        if (family == AF_INET6) {
                g_assert_cmpint(inet_pton(AF_INET6, text, ret_dst), ==, 1);
                g_assert_cmpint(inet_pton(AF_INET6, NET_BOX_IPV6, ret_src), ==, 1);
        } else {
                g_assert_cmpint(inet_pton(AF_INET, text, v4), ==, 1);
                *ret_dst = address_mapped(v4);
                g_assert_cmpint(inet_pton(AF_INET, NET_BOX_IPV4, v4), ==, 1);
                *ret_src = address_mapped(v4);
        }
        size_t at = packet_write_headers(frame, (const uint8_t[6]){ 0x52, 0x55, 10, 0, 2, 2 }, family, ret_src, ret_dst, protocol, l4_len);
        memcpy(frame + 6, check_mac, sizeof check_mac);
        if (protocol == IPPROTO_TCP && frames_fast && (who & 0x80))
                memcpy(frame, DIVERT_MAC, ETH_ALEN);
        last_len = at + l4_len;
        return at;
}

/* Who; from which port and to which; flags; both numbers, relative; window; options; payload. */
void box_tcp(Input *in) {
        uint8_t who = take8(in), ports = take8(in), flags = take8(in), seq = take8(in), ack = take8(in), window = take8(in), lengths = take8(in);
        uint8_t options_len = (lengths >> 4) % 11 * 4, tcp[60] = { 0 };
        struct in6_addr src, dst;

        uint16_t sport = (uint16_t) (PORT_BASE + ports % PORTS), dport = destination_ports[ports / PORTS % G_N_ELEMENTS(destination_ports)];
        const Track *track = track_of(sport);
        uint32_t mine = track->known && !(flags & PACKET_TCP_SYN) ? track->mine : 1000;
        packet_put16(tcp, sport);
        packet_put16(tcp + 2, dport);
        packet_put32(tcp + 4, mine + (seq == 0x80 ? 0x40000000u : seq == 0x7f ? 65535u : (uint32_t) (int8_t) seq));
        packet_put32(tcp + 8, track->theirs + (ack == 0x80 ? 0x40000000u : ack == 0x7f ? 65535u : (uint32_t) (int8_t) ack));
        tcp[12] = (uint8_t) ((20 + options_len) / 4) << 4;
        tcp[13] = flags;
        packet_put16(tcp + 14, window * 257u);
        packet_put16(tcp + 18, flags & 0x20 ? 1 : 0); /* urgent */
        (void) take_into(in, tcp + 20, options_len);
        bool pattern = lengths & 8;
        size_t len = take_payload(in, frames_buf, pattern, pattern ? (size_t) (lengths & 7) * 1460 : (size_t) (lengths & 7) * 8);
        size_t header = 20u + options_len, at = begin_frame(who, IPPROTO_TCP, header + len, &src, &dst);
        uint8_t *to = last + HEADER + at;
        memcpy(to, tcp, header);
        memcpy(to + header, frames_buf, len);
        packet_put16(to + 16, packet_l4_checksum(at == PACKET_ETH_LEN + 20 ? AF_INET : AF_INET6, &src, &dst, IPPROTO_TCP, to, header + len));
        send_last();
}

/* Who; from which port and to which; length and payload; where the port says so, in how many bytes it is to be cut. */
void box_udp(Input *in) {
        uint8_t who = take8(in), ports = take8(in);
        unsigned lengths = take16(in);
        struct in6_addr src, dst;

        size_t len = take_payload(in, frames_buf, lengths & 0x8000, (lengths & 0x8000 ? lengths & 0x7fff : lengths & 0x1ff));
        size_t at = begin_frame(who, IPPROTO_UDP, 8 + len, &src, &dst);
        uint8_t *udp = last + HEADER + at;
        int family = at == PACKET_ETH_LEN + 20 ? AF_INET : AF_INET6;
        if (ports & 0x80) {
                struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = GSO_UDP_L4, .gso_size = (uint16_t) take16(in),
                                            .csum_start = (uint16_t) at, .csum_offset = 6 };
                memcpy(last, &h, sizeof h);
        }
        memcpy(udp + 8, frames_buf, len);
        packet_put16(udp, ports & 0x40 ? CHECK_BOX_UDP_PORT : PORT_BASE + ports % PORTS);
        packet_put16(udp + 2, destination_ports[ports / PORTS % G_N_ELEMENTS(destination_ports)]);
        packet_put16(udp + 4, (unsigned) (8 + len));
        packet_put16(udp + 6, 0);
        packet_put16(udp + 6, packet_l4_checksum(family, &src, &dst, IPPROTO_UDP, udp, 8 + len));
        send_last();
}

void box_flood(Input *in) {
        unsigned n = take8(in);
        uint8_t *frame = last + HEADER;
        Packet p;

        n = MIN(n, flood_left);
        flood_left -= n;
        if (!packet_parse(frame, last_len, &p) || p.family == AF_UNSPEC)
                return;
        for (unsigned i = 0; i < n; i++) {
                size_t at = p.protocol == IPPROTO_TCP || p.protocol == IPPROTO_UDP ? p.l4 : p.l4 + 4; /* ICMP: who it is */
                packet_put16(frame + at, 1024 + i);
                fix_checksums(frame, last_len);
                send_last();
                if (i % 32 == 31)
                        frames_turn();
        }
}
