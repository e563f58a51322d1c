/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What fuzz-frames holds the stack against: whom it may speak to, and what a frame looks like.
 *
 * Role: tests only. Privileges: none. Threads: one.
 *
 * Written without a look at the policy, which would make the same mistake twice. Addresses that are of no use to an input are not told apart.
 */
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <string.h>

#include "frames-check.h"
#include "frames-world.h"
#include "frames.h"
#include "netstack/divert.h"
#include "netstack/subnet.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define CLIENTS_MAX 64

const uint8_t check_mac[6] = { 2, 0, 0, 0, 0, 1 };

bool check_answered, check_published, check_late_deny, check_late_allow, check_late_host;
static CheckRules rules;
static bool shaped;
static uint16_t listeners[CLIENTS_MAX], clients[CLIENTS_MAX]; /* the resolver's for TCP; ports */
static unsigned n_listeners, n_clients;

void check_begin(CheckRules new_rules, bool new_shaped) {
        check_answered = check_published = check_late_deny = check_late_allow = check_late_host = false;
        rules = new_rules;
        shaped = new_shaped;
        n_listeners = n_clients = 0;
}

static void add(NetRules *to, bool allow, const char *text) {
        NetRule *rule = net_rule_parse(allow, text, NULL);
        g_assert_nonnull(rule);
        net_rules_append(to, rule);
}

void check_add_rules(CheckRules wanted, NetRules *to) {
        if (wanted == CHECK_RULES_OPEN) {
                net_rules_append(to, net_rule_expose(CHECK_EXPOSED));
                add(to, false, "198.18.0.0/15");
        } else if (wanted == CHECK_RULES_CLOSED) {
                add(to, true, "203.0.113.0/26");
                add(to, true, "2001:db8:1::/48");
        }
        if (wanted >= CHECK_RULES_CLOSED)
                add(to, true, "*.example");
}

static bool has(const uint16_t *list, unsigned n, uint16_t port) {
        for (unsigned i = 0; i < n; i++)
                if (list[i] == port)
                        return true;
        return false;
}

/* One more address of a socket's own. */
static void remember(uint16_t *list, unsigned *n, int fd, bool loopback_alone) {
        struct sockaddr_storage own = { 0 };
        socklen_t len = sizeof own;
        struct in6_addr addr;
        uint16_t port;

        g_assert_no_errno(getsockname(fd, (struct sockaddr *) &own, &len));
        if (!address_of_socket((const struct sockaddr *) &own, &addr, &port))
                return;
        bool loopback = IN6_IS_ADDR_LOOPBACK(&addr) || (address_is_mapped(&addr) && addr.s6_addr[12] == 127);
        if ((loopback || !loopback_alone) && *n < CLIENTS_MAX)
                list[(*n)++] = port;
}

void check_listens(int fd) {
        remember(listeners, &n_listeners, fd, true);
}

void check_client(int fd) {
        remember(clients, &n_clients, fd, false);
}

static bool is_in(const uint8_t a[4], const char *network, unsigned len) {
        uint8_t n[4];

        g_assert_cmpint(inet_pton(AF_INET, network, n), ==, 1);
        return len == 0 || (packet_get32(a) ^ packet_get32(n)) >> (32 - len) == 0;
}

/* The machine itself, what only routers and clouds have, or nothing at all. */
static bool is_closed_v4(const uint8_t a[4]) {
        return is_in(a, "0.0.0.0", 8) || is_in(a, "127.0.0.0", 8) || is_in(a, "224.0.0.0", 3) || is_in(a, WORLD_HOST_IPV4, 32) ||
               is_in(a, "169.254.169.254", 32) || (check_late_host && is_in(a, WORLD_LATE_ADDRESS, 32)) ||
               (rules == CHECK_RULES_OPEN && is_in(a, "198.18.0.0", 15));
}

static bool is_private_v4(const uint8_t a[4]) {
        return is_in(a, "10.0.0.0", 8) || is_in(a, "172.16.0.0", 12) || is_in(a, "192.168.0.0", 16) || is_in(a, "100.64.0.0", 10) ||
               is_in(a, "169.254.0.0", 16);
}

static bool may_v4(const uint8_t a[4], uint16_t port) {
        if (check_late_allow && is_in(a, WORLD_HOST_IPV4, 32) && port == 80)
                return true;
        if (is_closed_v4(a) || is_in(a, NET_SUBNET_IPV4, 24))
                return false;
        if (rules < CHECK_RULES_CLOSED || (rules == CHECK_RULES_CLOSED && is_in(a, "203.0.113.0", 26)) || is_in(a, CHECK_GIVEN, 32) ||
            is_in(a, CHECK_LATE_GIVEN, 32))
                return true;
        return check_answered && !is_private_v4(a);
}

static bool starts(const struct in6_addr *addr, const char *with, size_t bytes) {
        struct in6_addr prefix;

        g_assert_cmpint(inet_pton(AF_INET6, with, &prefix), ==, 1);
        return memcmp(addr, &prefix, bytes) == 0;
}

static bool may_v6(const struct in6_addr *addr) {
        const uint8_t *a = addr->s6_addr;

        if (starts(addr, "::", 12) || starts(addr, "::ffff:0:0", 12) || starts(addr, WORLD_HOST_IPV6, 16) || starts(addr, NET_SUBNET_IPV6, 8) || a[0] == 0xff ||
            (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || starts(addr, "fd00:ec2::254", 16) || (starts(addr, "64:ff9b::", 12) && is_closed_v4(a + 12)) ||
            (starts(addr, "2002::", 2) && is_closed_v4(a + 2)))
                return false;
        return rules < CHECK_RULES_CLOSED || (rules == CHECK_RULES_CLOSED && starts(addr, "2001:db8:1::", 6)) || check_answered;
}

static bool may(const struct in6_addr *addr, int family, uint16_t port) {
        return family == AF_INET ? may_v4(addr->s6_addr + 12, port) : may_v6(addr);
}

void check_connect(const struct sockaddr *to) {
        struct in6_addr addr;
        uint16_t port;

        g_assert_true(address_of_socket(to, &addr, &port));
        bool v4 = address_is_mapped(&addr), loopback = v4 ? is_in(addr.s6_addr + 12, "127.0.0.1", 32) : IN6_IS_ADDR_LOOPBACK(&addr);
        g_assert_true(v4 == (to->sa_family == AF_INET)); /* an IPv6 socket that goes by IPv4 */
        if (loopback && (has(listeners, n_listeners, port) || (rules == CHECK_RULES_OPEN && port == CHECK_EXPOSED)))
                return;
        if (v4 && port == 53 && (is_in(addr.s6_addr + 12, WORLD_LOCAL_RESOLVER, 32) || is_in(addr.s6_addr + 12, WORLD_HOST_IPV4, 32)))
                return;
        g_assert_true(may(&addr, to->sa_family, port));
}

void check_sendto(const struct sockaddr *to) {
        struct in6_addr addr;
        uint16_t port;

        g_assert_true(address_of_socket(to, &addr, &port));
        g_assert_true(check_published && has(clients, n_clients, port));
}

/* --- frames for the box ------------------------------------------------------------------------------------------- */

static uint32_t pseudo_header(const Packet *p) {
        size_t skip = p->family == AF_INET ? 12 : 0;
        uint32_t sum = packet_sum(0, p->src.s6_addr + skip, 16 - skip);

        return packet_sum(sum, p->dst.s6_addr + skip, 16 - skip) + p->protocol + (uint32_t) p->l4_len;
}

static void check_sums(const struct virtio_net_hdr *h, const Packet *p) {
        const uint8_t *l4 = p->frame + p->l4;

        if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
                unsigned at = p->protocol == IPPROTO_UDP ? 6 : 16;
                g_assert_true(p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP);
                g_assert_false(shaped);
                g_assert_cmpuint(h->csum_start, ==, p->l4);
                g_assert_cmpuint(h->csum_offset, ==, at);
                g_assert_cmpuint(packet_get16(l4 + at), ==, (uint16_t) ~packet_sum_end(pseudo_header(p)));
                return;
        }
        if (p->protocol == IPPROTO_UDP && packet_get16(l4 + 6) == 0) { /* there is none */
                g_assert_cmpint(p->family, ==, AF_INET);
                return;
        }
        g_assert_cmpuint(packet_sum_end(packet_sum(p->protocol == IPPROTO_ICMP ? 0 : pseudo_header(p), l4, p->l4_len)), ==, 0);
}

static void check_lengths(const struct virtio_net_hdr *h, const Packet *p, const Net *net) {
        size_t headers = p->l4 + (p->protocol == IPPROTO_TCP ? (size_t) (p->frame[p->l4 + 12] >> 4) * 4 : 8);

        if (h->gso_type == GSO_UDP_L4) {
                g_assert_cmpuint(p->protocol, ==, IPPROTO_UDP);
                g_assert_true(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
                g_assert_cmpuint(h->hdr_len, ==, headers);
                g_assert_cmpuint(h->gso_size, >, 0);
                g_assert_cmpuint(packet_udp_len(p), >, h->gso_size);
                g_assert_cmpuint(packet_udp_len(p), <=, h->gso_size * 64u);
        } else if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
                g_assert_cmpuint(p->protocol, ==, IPPROTO_TCP);
                g_assert_cmpuint(h->gso_type, ==, p->family == AF_INET ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6);
                g_assert_true(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
                g_assert_cmpuint(h->hdr_len, ==, headers);
                g_assert_cmpuint(h->gso_size + headers, ==, PACKET_ETH_LEN + net->config->mtu);
                g_assert_cmpuint(p->len, >, PACKET_ETH_LEN + net->config->mtu);
        } else if (p->protocol == IPPROTO_TCP) {
                g_assert_cmpuint(p->len, <=, PACKET_ETH_LEN + net->config->mtu);
        }
}

static bool is_echo_reply(const Packet *p) {
        return (p->protocol == IPPROTO_ICMP && p->icmp_type == 0) || (p->protocol == IPPROTO_ICMPV6 && p->icmp_type == 129);
}

/* What is more than a refusal comes only from where the box may go to. */
static void check_source(const Packet *p) {
        bool tcp = p->protocol == IPPROTO_TCP, udp = p->protocol == IPPROTO_UDP;
        size_t header = tcp ? (size_t) (p->frame[p->l4 + 12] >> 4) * 4 : 0;
        bool gateway = policy_is_gateway(p->family, &p->src), resolver = policy_is_resolver(p->family, &p->src);

        if (check_published && ((udp && p->dport == CHECK_BOX_UDP_PORT) || (tcp && p->dport == CHECK_BOX_TCP_PORT)))
                return;
        if (is_echo_reply(p)) {
                g_assert_true(gateway || resolver || may(&p->src, p->family, 0));
                return;
        }
        if (!udp && (!tcp || p->tcp_flags & PACKET_TCP_RST || (p->l4_len == header && !(p->tcp_flags & PACKET_TCP_SYN))))
                return;
        if (gateway) {
                g_assert_true((rules == CHECK_RULES_OPEN && p->sport == CHECK_EXPOSED) || (udp && p->family == AF_INET && p->sport == 67 && p->dport == 68));
                return;
        }
        if (resolver) {
                g_assert_cmpuint(p->sport, ==, 53);
                return;
        }
        g_assert_true(may(&p->src, p->family, p->sport));
        if (udp && check_late_deny && !shaped && p->family == AF_INET)
                g_assert_false(is_in(p->src.s6_addr + 12, "203.0.113.64", 26));
}

static void check_destination(const Packet *p) {
        const uint8_t *dst = p->dst.s6_addr;

        if (policy_is_subnet(p->family, &p->dst))
                return;
        if (p->family == AF_INET) /* DHCP */
                g_assert_true(p->protocol == IPPROTO_UDP && is_in(dst + 12, "255.255.255.255", 32));
        else /* neighbour discovery */
                g_assert_true(p->protocol == IPPROTO_ICMPV6 && (dst[0] == 0xfe || dst[0] == 0xff));
}

void check_frame(const uint8_t *bytes, size_t n, const Net *net) {
        struct virtio_net_hdr h;
        Packet p;

        g_assert_cmpuint(n, >=, HEADER + PACKET_ETH_LEN);
        memcpy(&h, bytes, HEADER);
        const uint8_t *frame = bytes + HEADER;
        size_t len = n - HEADER;
        /* The box's own, turned back as it was. */
        if (net->fast_path && memcmp(frame + ETH_ALEN, DIVERT_MAC, ETH_ALEN) == 0)
                return;
        g_assert_true(packet_parse(frame, len, &p));
        if (p.family == AF_UNSPEC) {
                g_assert_cmpuint(h.flags, ==, 0);
                return;
        }
        g_assert_cmpuint(p.len, ==, len);
        if (p.family == AF_INET)
                g_assert_cmpuint(packet_sum_end(packet_sum(0, frame + PACKET_ETH_LEN, IPV4_LEN)), ==, 0);
        check_sums(&h, &p);
        check_lengths(&h, &p, net);
        check_destination(&p);
        check_source(&p);
}
