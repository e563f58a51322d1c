/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ethernet frames: taking apart what comes from the box, and headers and checksums for what goes to it.
 *
 * Role: usbox-net. Privileges: none. Threads: any. Order: before the policy, which judges what stands here.
 *
 * Every byte of a frame is the box's to choose. libslirp checks less than it should (4.7: a UDP length below 8 makes a
 * length of its own negative, a lone last fragment makes it follow a pointer out of the packet, bytes after an IPv6
 * packet count as its payload), so what is let through has been checked here in full, and is cut to its true length.
 */
#include <arpa/inet.h>
#include <string.h>

#include "netstack/packet.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define TCP_LEN 20
#define UDP_LEN 8
#define ICMP_LEN 8
#define IPV4_DONT_FRAGMENT 0x4000

/* What stands in the Ethernet header of frames from usbox-net; the form is libslirp's, for the gateway's address. */
static const uint8_t gateway_mac[6] = { 0x52, 0x55, 10, 0, 2, 2 };

static bool parse_arp(size_t len, Packet *p) {
        const uint8_t *arp = p->frame + PACKET_ETH_LEN;

        /* Ethernet and IPv4 (RFC 826): libslirp looks at neither. */
        if (len < PACKET_ETH_LEN + 28 || packet_get16(arp) != 1 || packet_get16(arp + 2) != PACKET_ETH_IPV4 ||
            arp[4] != 6 || arp[5] != 4)
                return false;
        p->family = AF_UNSPEC;
        p->len = PACKET_ETH_LEN + 28;
        return true;
}

/* The transport header: l4 and l4_len are set. */
static bool parse_l4(Packet *p) {
        const uint8_t *l4 = p->frame + p->l4;

        switch (p->protocol) {
        case IPPROTO_TCP: {
                if (p->l4_len < TCP_LEN)
                        return false;
                size_t header = (size_t) (l4[12] >> 4) * 4;
                if (header < TCP_LEN || header > p->l4_len)
                        return false;
                p->tcp_flags = l4[13];
                break;
        }
        case IPPROTO_UDP: {
                if (p->l4_len < UDP_LEN)
                        return false;
                size_t length = packet_get16(l4 + 4);
                if (length < UDP_LEN || length > p->l4_len)
                        return false;
                break;
        }
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
                if (p->l4_len < ICMP_LEN || (p->protocol == IPPROTO_ICMP) != (p->family == AF_INET))
                        return false;
                p->icmp_type = l4[0];
                p->icmp_code = l4[1];
                return true;
        default:
                return false;
        }
        p->sport = packet_get16(l4);
        p->dport = packet_get16(l4 + 2);
        return true;
}

static bool parse_ipv4(size_t len, Packet *p) {
        const uint8_t *ip = p->frame + PACKET_ETH_LEN;

        /* No options: libslirp would strip them, and what they ask for (source routes) is not to be had here. */
        if (len < PACKET_ETH_LEN + IPV4_LEN || ip[0] != 0x45)
                return false;
        size_t total = packet_get16(ip + 2);
        if (total < IPV4_LEN || total > len - PACKET_ETH_LEN)
                return false;
        /* No fragment, first, middle or last, and not the reserved bit, which libslirp takes for one. */
        if (packet_get16(ip + 6) & ~IPV4_DONT_FRAGMENT)
                return false;

        p->family = AF_INET;
        p->hops = ip[8];
        p->protocol = ip[9];
        p->src = address_mapped(ip + 12);
        p->dst = address_mapped(ip + 16);
        p->len = PACKET_ETH_LEN + total;
        p->l4 = PACKET_ETH_LEN + IPV4_LEN;
        p->l4_len = total - IPV4_LEN;
        return parse_l4(p);
}

static bool parse_ipv6(size_t len, Packet *p) {
        const uint8_t *ip = p->frame + PACKET_ETH_LEN;

        if (len < PACKET_ETH_LEN + IPV6_LEN || ip[0] >> 4 != 6)
                return false;
        size_t payload = packet_get16(ip + 4);
        if (payload > len - PACKET_ETH_LEN - IPV6_LEN)
                return false;

        p->family = AF_INET6;
        /* An extension header, a fragment's too, stands here as its own number, which parse_l4() does not take. */
        p->protocol = ip[6];
        p->hops = ip[7];
        memcpy(&p->src, ip + 8, 16);
        memcpy(&p->dst, ip + 24, 16);
        p->len = PACKET_ETH_LEN + IPV6_LEN + payload;
        p->l4 = PACKET_ETH_LEN + IPV6_LEN;
        p->l4_len = payload;
        return parse_l4(p);
}

bool packet_parse(const uint8_t *frame, size_t len, Packet *ret) {
        *ret = (Packet){ .frame = frame };
        if (len < PACKET_ETH_LEN)
                return false;

        switch (packet_get16(frame + 12)) {
        case PACKET_ETH_ARP:
                return parse_arp(len, ret);
        case PACKET_ETH_IPV4:
                return parse_ipv4(len, ret);
        case PACKET_ETH_IPV6:
                return parse_ipv6(len, ret);
        default:
                return false;
        }
}

/* Added up as the machine reads words, eight bytes at a time: the sum of swapped bytes is the swapped sum (RFC 1071, 2). */
uint32_t packet_sum(uint32_t sum, const void *data, size_t len) {
        const uint8_t *p = data;
        uint64_t wide = 0;

        for (; len >= 8; p += 8, len -= 8) {
                uint32_t words[2];
                memcpy(words, p, sizeof words);
                wide += (uint64_t) words[0] + words[1];
        }
        while (wide >> 16)
                wide = (wide & 0xffff) + (wide >> 16);
        wide = ntohs((uint16_t) wide) + (uint64_t) sum;
        for (; len >= 2; p += 2, len -= 2)
                wide += packet_get16(p);
        if (len)
                wide += (uint64_t) *p << 8;
        while (wide >> 32)
                wide = (wide & 0xffffffff) + (wide >> 32);
        return (uint32_t) wide;
}

uint16_t packet_sum_end(uint32_t sum) {
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return (uint16_t) ~sum;
}

static uint32_t sum_pseudo(int family, const struct in6_addr *src, const struct in6_addr *dst, uint8_t protocol, size_t len) {
        size_t skip = family == AF_INET ? 12 : 0;
        uint32_t sum = packet_sum(0, src->s6_addr + skip, 16 - skip);

        return packet_sum(sum, dst->s6_addr + skip, 16 - skip) + protocol + (uint32_t) len;
}

uint16_t packet_pseudo_sum(int family, const struct in6_addr *src, const struct in6_addr *dst, uint8_t protocol, size_t len) {
        return (uint16_t) ~packet_sum_end(sum_pseudo(family, src, dst, protocol, len));
}

uint16_t packet_l4_checksum(int family, const struct in6_addr *src, const struct in6_addr *dst, uint8_t protocol,
                            const void *l4, size_t len) {
        uint32_t sum = protocol == IPPROTO_ICMP ? 0 : sum_pseudo(family, src, dst, protocol, len); /* which has no pseudo header */

        uint16_t checksum = packet_sum_end(packet_sum(sum, l4, len));
        /* In UDP 0 says that there is none (RFC 768). */
        return checksum == 0 && protocol == IPPROTO_UDP ? 0xffff : checksum;
}

size_t packet_write_headers(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src,
                            const struct in6_addr *dst, uint8_t protocol, size_t l4_len) {
        uint8_t *ip = frame + PACKET_ETH_LEN;

        memcpy(frame, eth_dst, 6);
        memcpy(frame + 6, gateway_mac, 6);
        packet_put16(frame + 12, family == AF_INET ? PACKET_ETH_IPV4 : PACKET_ETH_IPV6);

        if (family == AF_INET) {
                memset(ip, 0, IPV4_LEN);
                ip[0] = 0x45;
                packet_put16(ip + 2, (unsigned) (IPV4_LEN + l4_len));
                packet_put16(ip + 6, IPV4_DONT_FRAGMENT);
                ip[8] = 64;
                ip[9] = protocol;
                memcpy(ip + 12, src->s6_addr + 12, 4);
                memcpy(ip + 16, dst->s6_addr + 12, 4);
                packet_put16(ip + 10, packet_sum_end(packet_sum(0, ip, IPV4_LEN)));
                return PACKET_ETH_LEN + IPV4_LEN;
        }

        memset(ip, 0, 8);
        ip[0] = 0x60;
        packet_put16(ip + 4, (unsigned) l4_len);
        ip[6] = protocol;
        ip[7] = 64;
        memcpy(ip + 8, src, 16);
        memcpy(ip + 24, dst, 16);
        return PACKET_ETH_LEN + IPV6_LEN;
}

size_t packet_write_udp_unsummed(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src, uint16_t sport,
                                 const struct in6_addr *dst, uint16_t dport, size_t len) {
        uint8_t *udp = frame + packet_write_headers(frame, eth_dst, family, src, dst, IPPROTO_UDP, UDP_LEN + len);

        packet_put16(udp, sport);
        packet_put16(udp + 2, dport);
        packet_put16(udp + 4, (unsigned) (UDP_LEN + len));
        packet_put16(udp + 6, packet_pseudo_sum(family, src, dst, IPPROTO_UDP, UDP_LEN + len));
        return packet_udp_payload(family) + len;
}

size_t packet_write_udp(uint8_t *frame, const uint8_t eth_dst[6], int family, const struct in6_addr *src, uint16_t sport,
                        const struct in6_addr *dst, uint16_t dport, size_t len) {
        size_t n = packet_write_udp_unsummed(frame, eth_dst, family, src, sport, dst, dport, len);
        uint8_t *udp = frame + packet_udp_payload(family) - UDP_LEN;

        packet_put16(udp + 6, 0);
        packet_put16(udp + 6, packet_l4_checksum(family, src, dst, IPPROTO_UDP, udp, UDP_LEN + len));
        return n;
}
