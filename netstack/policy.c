/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The policy: what of the box's frames reaches libslirp.
 *
 * Role: usbox-net. Privileges: none. Threads: any; pure functions. Order: between the TAP and libslirp, for each frame.
 *
 * libslirp opens a flow for whatever it is given, in the host's network namespace and to whatever address the frame names.
 * Its own disable_host_loopback only stops what is addressed to the gateway: a raw frame to 127.0.0.1, 0.0.0.0 or the host's
 * address on its LAN goes through. So what counts as the host is decided here, before libslirp, in every spelling:
 * loopback, the unspecified address, IPv4 inside IPv6, and all that the host's kernel calls local (hostaddr.c).
 *
 * Fragments do not pass at all (packet.c): one lone last fragment kills libslirp 4.7. The MTU is large enough that only UDP
 * datagrams near the 64 KiB limit, or of a box with a smaller MTU, are ever cut into any.
 *
 * TCP is judged by the segment that would open a flow, a SYN without ACK; libslirp opens none by any other. Later segments
 * must pass whatever their address: the peer of a published port may well be one of the host's own.
 *
 * DHCPv6 and TFTP never pass, since nobody needs libslirp's: the former writes past its buffer when a request is long.
 */
#include <arpa/inet.h>
#include <string.h>

#include "netstack/policy.h"

#define PORT_DNS 53
#define PORT_DHCP_SERVER 67
#define PORT_DHCP_CLIENT 68

#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define NDP_ROUTER_SOLICIT 133
#define NDP_NEIGHBOUR_SOLICIT 135
#define NDP_NEIGHBOUR_ADVERT 136

/* ::ffff:a.b.c.d and a spelled-out IPv6 address as initialisers. */
#define V4(a, b, c, d) { .s6_addr = { [10] = 0xff, 0xff, a, b, c, d } }
#define V6(...) { .s6_addr = { __VA_ARGS__ } }

/* The box's own network: NET_*_IPV4 and NET_*_IPV6 of config.h; a unit test holds the two together. */
static const PolicyPrefix subnet_ipv4 = { V4(10, 0, 2, 0), 96 + 24 }, subnet_ipv6 = { V6(0xfd), 64 };
static const struct in6_addr gateway_ipv4 = V4(10, 0, 2, 2), dns_ipv4 = V4(10, 0, 2, 3), broadcast_ipv4 = V4(10, 0, 2, 255);
static const struct in6_addr gateway_ipv6 = V6(0xfd, [15] = 2), dns_ipv6 = V6(0xfd, [15] = 3);
static const struct in6_addr any_broadcast_ipv4 = V4(255, 255, 255, 255), any_ipv4 = V4(0, 0, 0, 0);
static const PolicyPrefix link_local_ipv6 = { V6(0xfe, 0x80), 10 }, multicast_ipv6 = { V6(0xff), 8 },
                          multicast_ipv4 = { V4(224, 0, 0, 0), 96 + 4 };

/* Denied to an IPv4 packet, and to an IPv6 packet that has such an IPv4 address inside its own. */
static const PolicyPrefix denied_ipv4[] = {
        { V4(0, 0, 0, 0), 96 + 8 },          /* "this host": connect(2) to 0.0.0.0 is to the loopback */
        { V4(127, 0, 0, 0), 96 + 8 },        /* loopback */
        { V4(240, 0, 0, 0), 96 + 4 },        /* reserved, and the broadcast address */
        { V4(169, 254, 169, 254), 128 },     /* metadata: AWS, GCP, Azure, OpenStack and more */
        { V4(169, 254, 170, 2), 128 },       /* metadata: credentials of ECS tasks */
        { V4(169, 254, 170, 23), 128 },      /* metadata: credentials of EKS pods */
        { V4(100, 100, 100, 200), 128 },     /* metadata: Alibaba */
        { V4(168, 63, 129, 16), 128 },       /* metadata: Azure's wire server */
        { V4(192, 0, 0, 192), 128 },         /* metadata: Oracle */
};

static const PolicyPrefix denied_ipv6[] = {
        { V6(0), 96 },                                          /* ::, ::1, and IPv4-compatible ::a.b.c.d */
        { V6([10] = 0xff, 0xff), 96 },                          /* IPv4-mapped: the kernel makes IPv4 of it */
        { V6([8] = 0xff, 0xff), 96 },                           /* IPv4-translated (RFC 2765) */
        { V6(0xfe, 0x80), 10 },                                 /* link-local: there is no link that it would be of */
        { V6(0xfd, 0, 0x0e, 0xc2, [14] = 0x02, 0x54), 128 },    /* metadata: AWS, fd00:ec2::254 */
        { V6(0xfd, 0, 0x0e, 0xc2, [15] = 0x23), 128 },          /* metadata: EKS pods, fd00:ec2::23 */
        { V6(0xfd, 0x20, 0, 0xce, [14] = 0x02, 0x54), 128 },    /* metadata: GCP, fd20:ce::254 */
};

/* IPv6 addresses with an IPv4 address inside, and the byte where that begins. */
static const struct {
        PolicyPrefix prefix;
        size_t at;
} embedding_ipv6[] = {
        { { V6(0x20, 0x02), 16 }, 2 },                  /* 6to4 (RFC 3056) */
        { { V6(0, 0x64, 0xff, 0x9b), 96 }, 12 },        /* NAT64 (RFC 6052) */
};

static bool prefix_has(const PolicyPrefix *prefix, const struct in6_addr *addr) {
        size_t bytes = prefix->len / 8, bits = prefix->len % 8;

        if (memcmp(prefix->addr.s6_addr, addr->s6_addr, bytes) != 0)
                return false;
        return bits == 0 || ((prefix->addr.s6_addr[bytes] ^ addr->s6_addr[bytes]) & (0xff << (8 - bits)) & 0xff) == 0;
}

static bool any_prefix_has(const PolicyPrefix *prefixes, size_t n, const struct in6_addr *addr) {
        for (size_t i = 0; i < n; i++)
                if (prefix_has(&prefixes[i], addr))
                        return true;
        return false;
}

static bool same(const struct in6_addr *a, const struct in6_addr *b) {
        return memcmp(a, b, sizeof *a) == 0;
}

bool policy_is_subnet(int family, const struct in6_addr *addr) {
        return prefix_has(family == AF_INET ? &subnet_ipv4 : &subnet_ipv6, addr);
}

bool policy_address(const Policy *policy, int family, const struct in6_addr *addr) {
        if (policy->host && any_prefix_has((const PolicyPrefix *) (void *) policy->host->data, policy->host->len, addr))
                return false;
        if (family == AF_INET)
                return !any_prefix_has(denied_ipv4, G_N_ELEMENTS(denied_ipv4), addr);

        for (size_t i = 0; i < G_N_ELEMENTS(embedding_ipv6); i++)
                if (prefix_has(&embedding_ipv6[i].prefix, addr)) {
                        struct in6_addr inner = packet_mapped(addr->s6_addr + embedding_ipv6[i].at);
                        if (!policy_address(policy, AF_INET, &inner))
                                return false;
                }
        return !any_prefix_has(denied_ipv6, G_N_ELEMENTS(denied_ipv6), addr);
}

static bool is_gateway(const Packet *p) {
        return same(&p->dst, p->family == AF_INET ? &gateway_ipv4 : &gateway_ipv6);
}

static bool is_dns(const Packet *p) {
        return same(&p->dst, p->family == AF_INET ? &dns_ipv4 : &dns_ipv6);
}

static bool is_multicast(const Packet *p) {
        if (p->family == AF_INET)
                return prefix_has(&multicast_ipv4, &p->dst) || same(&p->dst, &any_broadcast_ipv4) ||
                       same(&p->dst, &broadcast_ipv4);
        return prefix_has(&multicast_ipv6, &p->dst);
}

/* An address that one of the box's interfaces can have. */
static bool is_box_source(const Packet *p) {
        if (!policy_is_subnet(p->family, &p->src))
                return false;
        if (p->family == AF_INET)
                return !same(&p->src, &subnet_ipv4.addr) && !same(&p->src, &gateway_ipv4) && !same(&p->src, &dns_ipv4) &&
                       !same(&p->src, &broadcast_ipv4);
        return !same(&p->src, &subnet_ipv6.addr) && !same(&p->src, &gateway_ipv6) && !same(&p->src, &dns_ipv6);
}

/* Neighbour discovery (RFC 4861), the only ICMPv6 besides echo that libslirp needs. Hop limit 255: of this link. */
static bool is_neighbour_discovery(const Packet *p) {
        if (p->protocol != IPPROTO_ICMPV6 || p->hops != 255 || p->icmp_code != 0)
                return false;
        size_t minimum = p->icmp_type == NDP_ROUTER_SOLICIT ? 8 : 24;
        return (p->icmp_type == NDP_ROUTER_SOLICIT || p->icmp_type == NDP_NEIGHBOUR_SOLICIT ||
                p->icmp_type == NDP_NEIGHBOUR_ADVERT) &&
               p->l4_len >= minimum &&
               (policy_is_subnet(AF_INET6, &p->src) || prefix_has(&link_local_ipv6, &p->src) ||
                IN6_IS_ADDR_UNSPECIFIED(&p->src));
}

static bool is_dhcp(const Packet *p) {
        return p->family == AF_INET && p->protocol == IPPROTO_UDP && p->sport == PORT_DHCP_CLIENT &&
               p->dport == PORT_DHCP_SERVER && (same(&p->src, &any_ipv4) || is_box_source(p)) &&
               (same(&p->dst, &any_broadcast_ipv4) || is_gateway(p));
}

static PolicyVerdict judge_icmp(const Policy *policy, const Packet *p) {
        if (p->icmp_type != (p->protocol == IPPROTO_ICMP ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST) || p->icmp_code != 0)
                return POLICY_DROP;
        if (is_gateway(p) || is_dns(p))
                return POLICY_PASS; /* libslirp answers itself */
        /* libslirp has no echo to the outside in IPv6; where ping sockets are forbidden it would send UDP to port 7 instead. */
        if (p->family == AF_INET6 || !policy->ping || policy_is_subnet(p->family, &p->dst))
                return POLICY_REFUSE;
        return policy_address(policy, p->family, &p->dst) ? POLICY_PASS : POLICY_REFUSE;
}

PolicyVerdict policy_frame(const Policy *policy, const uint8_t *frame, size_t len, Packet *ret_packet) {
        Packet *p = ret_packet;

        if (!packet_parse(frame, len, p))
                return POLICY_DROP;
        if (p->family == AF_UNSPEC)
                return POLICY_PASS; /* ARP: libslirp's tables know the box's network alone */
        if (p->family == AF_INET6 && !policy->ipv6)
                return POLICY_DROP;
        if (is_neighbour_discovery(p) || is_dhcp(p))
                return POLICY_PASS;
        if (p->hops == 0 || !is_box_source(p) || is_multicast(p))
                return POLICY_DROP;
        if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6)
                return judge_icmp(policy, p);

        if (p->protocol == IPPROTO_TCP && (p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) != PACKET_TCP_SYN)
                return POLICY_PASS;
        /* Before the host's own addresses: the host may have the same ones. */
        if (policy_is_subnet(p->family, &p->dst))
                return is_dns(p) && p->dport == PORT_DNS ? POLICY_PASS : POLICY_REFUSE;
        return policy_address(policy, p->family, &p->dst) ? POLICY_PASS : POLICY_REFUSE;
}
