/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The policy of usbox-net: every class of frame that must not reach libslirp, and those that must.
 */
#include <arpa/inet.h>
#include <string.h>

#include "netstack/config.h"
#include "netstack/policy.h"
#include "netstack/reply.h"

#define SYN PACKET_TCP_SYN
#define ACK PACKET_TCP_ACK

/* A frame under construction, with what a test may want to bend. */
typedef struct {
        uint8_t bytes[2048];
        size_t len;
} Frame;

static const uint8_t host_mac[6] = { 0x52, 0x55, 10, 0, 2, 2 };

static struct in6_addr address(const char *text, int *ret_family) {
        struct in6_addr addr;
        uint8_t v4[4];

        if (inet_pton(AF_INET, text, v4) == 1) {
                *ret_family = AF_INET;
                return address_mapped(v4);
        }
        *ret_family = AF_INET6;
        g_assert_cmpint(inet_pton(AF_INET6, text, &addr), ==, 1);
        return addr;
}

/* An IP packet with l4_len bytes of transport header and data, checksums in order. */
static Frame make_ip(const char *src, const char *dst, uint8_t protocol, const uint8_t *l4, size_t l4_len) {
        Frame f = { 0 };
        int family, dst_family;
        struct in6_addr s = address(src, &family), d = address(dst, &dst_family);
        g_assert_cmpint(family, ==, dst_family);

        size_t at = packet_write_headers(f.bytes, host_mac, family, &s, &d, protocol, l4_len);
        memcpy(f.bytes + at, l4, l4_len);
        f.len = at + l4_len;
        return f;
}

static Frame make_tcp(const char *src, const char *dst, uint16_t dport, uint8_t flags) {
        uint8_t tcp[20] = { 0x9c, 0x40, (uint8_t) (dport >> 8), (uint8_t) dport, 1, 2, 3, 4, 5, 6, 7, 8, 5 << 4, flags,
                            0xff, 0xff };
        return make_ip(src, dst, IPPROTO_TCP, tcp, sizeof tcp);
}

static Frame make_udp(const char *src, uint16_t sport, const char *dst, uint16_t dport) {
        uint8_t udp[12] = { (uint8_t) (sport >> 8),
                            (uint8_t) sport,
                            (uint8_t) (dport >> 8),
                            (uint8_t) dport,
                            0,
                            12,
                            0,
                            0,
                            'd',
                            'a',
                            't',
                            'a' };
        return make_ip(src, dst, IPPROTO_UDP, udp, sizeof udp);
}

static Frame make_icmp(const char *src, const char *dst, uint8_t protocol, uint8_t type, size_t len) {
        uint8_t icmp[64] = { type };
        return make_ip(src, dst, protocol, icmp, len);
}

static PolicyVerdict judge(const Frame *f) {
        g_autoptr(GArray) host = g_array_new(false, false, sizeof(AddressPrefix));
        int family;
        /* As a host would have them that is not on the Internet: its own address, a prefix on lo, IPv6, and the gateway's. */
        const AddressPrefix prefixes[] = { { address("192.0.2.2", &family), 128 },
                                          { address("198.51.100.0", &family), 96 + 24 },
                                          { address("2001:db8::2", &family), 128 },
                                          { address("2001:db8:5::", &family), 61 },
                                          { address("fd00::2", &family), 128 } };
        g_array_append_vals(host, prefixes, G_N_ELEMENTS(prefixes));
        Policy policy = { .ipv6 = true, .ping = true, .host = host };
        PolicyDecision decision;
        bool judged;
        Packet packet;

        /* A copy of its very size, so that a read beyond it is seen by the sanitizer. */
        g_autofree uint8_t *copy = g_memdup2(f->bytes, f->len);
        return policy_frame(&policy, copy, f->len, &packet, &decision, &judged);
}

#define assert_frame(frame, verdict)                                  \
        do {                                                          \
                Frame frame_ = (frame);                               \
                g_assert_cmpint(judge(&frame_), ==, POLICY_##verdict); \
        } while (0)

static void test_destinations(void) {
        static const char *const open[] = { "1.1.1.1",         "192.0.2.3",       "198.51.101.1",    "10.0.3.1",
                                            "192.168.1.1",     "169.254.1.1",     "126.255.255.255", "128.0.0.1",
                                            "1.0.0.0",         "223.255.255.255", "2606:4700::1111", "2001:db8::3",
                                            "2001:db8:5:8::1", "fd01::1",         "2002:101:101::1", "64:ff9b::1.1.1.1",
                                            "fec0::1",         "64:ff9b:1:fffe::1.1.1.1", "2001:0:101:101:0:ffff:fefe:fefe", "2001:db8::5efe:1.1.1.1",
                                            "2001:1::127.0.0.1", "2001:db8::127.0.0.1" };
        static const char *const closed[] = { "127.0.0.1",
                                              "127.255.255.254",
                                              "0.0.0.0",
                                              "0.1.2.3",
                                              "10.0.2.2",
                                              "10.0.2.7",
                                              "192.0.2.2",
                                              "198.51.100.77",
                                              "169.254.169.254",
                                              "169.254.170.2",
                                              "100.100.100.200",
                                              "240.0.0.1",
                                              "255.255.255.254",
                                              "::1",
                                              "::",
                                              "::7f00:1",
                                              "::ffff:127.0.0.1",
                                              "::ffff:1.1.1.1",
                                              "::ffff:0:127.0.0.1",
                                              "fd00::2",
                                              "fd00::7",
                                              "2001:db8::2",
                                              "2001:db8:5:7::1",
                                              "fe80::1",
                                              "febf::1",
                                              "fd00:ec2::254",
                                              "fd20:ce::254",
                                              "169.254.0.23",
                                              "169.254.42.42",
                                              "fd00:42::42",
                                              "fd00:c1::a9fe:a9fe",
                                              "fd00:a9fe:a9fe::1",
                                              "fd00:100::100:200",
                                              "2002:7f00:1::1",
                                              "2002:c000:202::",
                                              "64:ff9b::127.0.0.1",
                                              "64:ff9b::192.0.2.2",
                                              "64:ff9b::169.254.169.254",
                                              "64:ff9b:1::127.0.0.1",
                                              "64:ff9b:1::192.0.2.2",
                                              "64:ff9b:1::169.254.169.254",
                                              "64:ff9b:1:fffe::169.254.169.254", /* a NAT64 of a network's own, by each form of its prefix */
                                              "64:ff9b:1:1:a9:fea9:fe00::",
                                              "64:ff9b:1:1a9:fe:a9fe::",
                                              "64:ff9b:1:a9fe:a9:fe00::",
                                              "64:ff9b:1:c000:2:200::",
                                              "2001:0:101:101:0:ffff:5601:5601", /* Teredo: a client, a server */
                                              "2001:0:a9fe:a9fe:0:ffff:fefe:fefe",
                                              "2001:0:101:101:0:ffff:3fff:fdfd",
                                              "2001:db8::5efe:169.254.169.254", /* ISATAP */
                                              "2001:db8::200:5efe:192.0.2.2",
                                              "2001:db8:1:2:0:5efe:127.0.0.1" };

        for (size_t i = 0; i < G_N_ELEMENTS(open); i++) {
                const char *box = strchr(open[i], ':') ? NET_BOX_IPV6 : NET_BOX_IPV4;
                g_test_message("open: %s", open[i]);
                assert_frame(make_tcp(box, open[i], 80, SYN), PASS);
                assert_frame(make_udp(box, 40000, open[i], 53), PASS);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(closed); i++) {
                const char *box = strchr(closed[i], ':') ? NET_BOX_IPV6 : NET_BOX_IPV4;
                g_test_message("closed: %s", closed[i]);
                assert_frame(make_tcp(box, closed[i], 80, SYN), REFUSE);
                assert_frame(make_tcp(box, closed[i], 80, SYN | 0xc0), REFUSE);
                assert_frame(make_udp(box, 40000, closed[i], 53), REFUSE);
                /* No flow begins with these; those of published ports go on with them. */
                assert_frame(make_tcp(box, closed[i], 80, SYN | ACK), PASS);
                assert_frame(make_tcp(box, closed[i], 80, ACK), PASS);
        }
}

static void test_multicast(void) {
        static const char *const dropped[] = { "224.0.0.1",  "224.0.0.251", "239.255.255.250", "255.255.255.255",
                                               "10.0.2.255", "ff02::1",     "ff02::fb",        "ff0e::1" };

        for (size_t i = 0; i < G_N_ELEMENTS(dropped); i++) {
                const char *box = strchr(dropped[i], ':') ? NET_BOX_IPV6 : NET_BOX_IPV4;
                assert_frame(make_udp(box, 40000, dropped[i], 5353), DROP);
                assert_frame(make_tcp(box, dropped[i], 80, SYN), DROP);
        }
}

static void test_services(void) {
        assert_frame(make_udp(NET_BOX_IPV4, 40000, NET_DNS_IPV4, 53), DNS);
        assert_frame(make_udp(NET_BOX_IPV6, 40000, NET_DNS_IPV6, 53), DNS);
        assert_frame(make_tcp(NET_BOX_IPV4, NET_DNS_IPV4, 53, SYN), DNS);
        assert_frame(make_tcp(NET_BOX_IPV6, NET_DNS_IPV6, 53, SYN), DNS);
        assert_frame(make_udp(NET_BOX_IPV4, 40000, NET_DNS_IPV4, 54), REFUSE);
        assert_frame(make_tcp(NET_BOX_IPV6, NET_DNS_IPV6, 80, SYN), REFUSE);
        assert_frame(make_udp(NET_BOX_IPV4, 40000, NET_GATEWAY_IPV4, 53), REFUSE);
        assert_frame(make_udp(NET_BOX_IPV4, 40000, NET_GATEWAY_IPV4, 69), REFUSE); /* TFTP */
        assert_frame(make_udp("0.0.0.0", 68, "255.255.255.255", 67), PASS);        /* DHCP */
        assert_frame(make_udp(NET_BOX_IPV4, 68, NET_GATEWAY_IPV4, 67), PASS);
        assert_frame(make_udp(NET_BOX_IPV4, 68, "1.1.1.1", 67), PASS); /* only a port */
        assert_frame(make_udp("0.0.0.0", 68, "255.255.255.255", 69), DROP);
        assert_frame(make_udp("0.0.0.0", 68, "1.1.1.1", 67), DROP);
        assert_frame(make_udp("fd00::100", 546, "ff02::1:2", 547), DROP); /* DHCPv6 */
        assert_frame(make_udp("fd00::100", 546, NET_GATEWAY_IPV6, 547), REFUSE);
}

static void test_sources(void) {
        static const char *const bad[] = {
                "0.0.0.0",    "127.0.0.1",   "10.0.2.0", "10.0.2.2",         "10.0.2.3",
                "10.0.2.255", "192.0.2.2",   "1.1.1.1",  "224.0.0.1",        "255.255.255.255",
                "::",         "::1",         "fd00::",   "fd00::2",          "fd00::3",
                "fe80::1",    "2001:db8::2", "ff02::1",  "::ffff:10.0.2.100"
        };
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                const char *dst = strchr(bad[i], ':') ? "2606:4700::1111" : "1.1.1.1";
                g_test_message("source %s", bad[i]);
                assert_frame(make_udp(bad[i], 40000, dst, 53), DROP);
                assert_frame(make_tcp(bad[i], dst, 53, SYN), DROP);
                assert_frame(make_tcp(bad[i], dst, 53, ACK), DROP);
        }
        assert_frame(make_udp("10.0.2.15", 40000, "1.1.1.1", 53), PASS);
        assert_frame(make_udp("fd00::1:2:3:4", 40000, "2606:4700::1111", 53), PASS);
}

static void test_icmp(void) {
        assert_frame(make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMP, 8, 64), PASS);
        assert_frame(make_icmp(NET_BOX_IPV4, NET_GATEWAY_IPV4, IPPROTO_ICMP, 8, 64), PASS);
        assert_frame(make_icmp(NET_BOX_IPV4, "127.0.0.1", IPPROTO_ICMP, 8, 64), REFUSE);
        assert_frame(make_icmp(NET_BOX_IPV4, "10.0.2.7", IPPROTO_ICMP, 8, 64), REFUSE);
        assert_frame(make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMP, 3, 64), DROP);
        assert_frame(make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMP, 13, 64), DROP);
        assert_frame(make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMP, 8, 7), DROP);
        assert_frame(make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMPV6, 128, 64), DROP);
        assert_frame(make_icmp(NET_BOX_IPV6, NET_GATEWAY_IPV6, IPPROTO_ICMPV6, 128, 64), PASS);
        assert_frame(make_icmp(NET_BOX_IPV6, "2606:4700::1111", IPPROTO_ICMPV6, 128, 64), PASS);
        assert_frame(make_icmp(NET_BOX_IPV6, "::1", IPPROTO_ICMPV6, 128, 64), REFUSE);
        assert_frame(make_icmp(NET_BOX_IPV6, NET_GATEWAY_IPV6, IPPROTO_ICMP, 8, 64), DROP);

        /* Neighbour discovery, which needs hop limit 255. */
        for (uint8_t type = 133; type <= 137; type++) {
                Frame f = make_icmp("fe80::1", "ff02::1", IPPROTO_ICMPV6, type, 24);
                assert_frame(f, DROP);
                f.bytes[PACKET_ETH_LEN + 7] = 255;
                if (type == 134 || type == 137) /* router advertisement and redirect are not the box's to send */
                        assert_frame(f, DROP);
                else
                        assert_frame(f, PASS);
        }
        Frame solicit = make_icmp("fd00::100", "fd00::2", IPPROTO_ICMPV6, 135, 24);
        solicit.bytes[PACKET_ETH_LEN + 7] = 255;
        assert_frame(solicit, PASS); /* although the host has that address */
        Frame cut = make_icmp("fd00::100", "fd00::2", IPPROTO_ICMPV6, 135, 23);
        cut.bytes[PACKET_ETH_LEN + 7] = 255;
        assert_frame(cut, DROP);
}

static void test_fragments(void) {
        static const uint16_t fields[] = { 0x2000, 0x2001, 0x0001, 0x1fff, 0x8000, 0xa000, 0x6000, 0x4001 };

        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
                Frame f = make_udp(NET_BOX_IPV4, 40000, "1.1.1.1", 53);
                packet_put16(f.bytes + PACKET_ETH_LEN + 6, fields[i]);
                assert_frame(f, DROP);
        }
        Frame whole = make_udp(NET_BOX_IPV4, 40000, "1.1.1.1", 53);
        packet_put16(whole.bytes + PACKET_ETH_LEN + 6, 0);
        assert_frame(whole, PASS);

        /* IPv6: the fragment header, behind others too, and every other extension header. */
        static const uint8_t extensions[] = { 0, 43, 44, 50, 51, 59, 60, 135, 139, 140, 253, 254 };
        static const uint8_t udp_in_fragment[20] = { IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 7, 0x9c, 0x40, 0, 53, 0, 12 };
        for (size_t i = 0; i < G_N_ELEMENTS(extensions); i++)
                assert_frame(make_ip(NET_BOX_IPV6, "2606:4700::1111", extensions[i], udp_in_fragment,
                                     sizeof udp_in_fragment),
                             DROP);
}

static void test_malformed(void) {
        Frame good4 = make_udp(NET_BOX_IPV4, 40000, "1.1.1.1", 53),
              good6 = make_udp(NET_BOX_IPV6, 40000, "2606:4700::1111", 53), f;
        Frame tcp4 = make_tcp(NET_BOX_IPV4, "1.1.1.1", 53, SYN);

        for (size_t len = 0; len < good4.len; len++) {
                f = good4;
                f.len = len;
                assert_frame(f, DROP);
        }
        for (size_t len = 0; len < good6.len; len++) {
                f = good6;
                f.len = len;
                assert_frame(f, DROP);
        }
        for (unsigned first = 0; first < 256; first++) {
                f = good4;
                f.bytes[PACKET_ETH_LEN] = (uint8_t) first;
                if (first == 0x45)
                        assert_frame(f, PASS);
                else
                        assert_frame(f, DROP);
                f = good6;
                f.bytes[PACKET_ETH_LEN] = (uint8_t) first;
                if (first >> 4 == 6)
                        assert_frame(f, PASS);
                else
                        assert_frame(f, DROP);
        }
        for (unsigned total = 0; total < 80; total++) {
                f = good4;
                packet_put16(f.bytes + PACKET_ETH_LEN + 2, total);
                if (total == 32)
                        assert_frame(f, PASS);
                else
                        assert_frame(f, DROP);
        }
        for (unsigned length = 0; length < 30; length++) {
                f = good4;
                packet_put16(f.bytes + PACKET_ETH_LEN + 20 + 4, length);
                if (length >= 8 && length <= 12)
                        assert_frame(f, PASS);
                else
                        assert_frame(f, DROP);
        }
        for (unsigned offset = 0; offset < 16; offset++) {
                f = tcp4;
                f.bytes[PACKET_ETH_LEN + 20 + 12] = (uint8_t) (offset << 4);
                if (offset == 5)
                        assert_frame(f, PASS);
                else
                        assert_frame(f, DROP);
        }
        for (unsigned protocol = 0; protocol < 256; protocol++) {
                if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP)
                        continue;
                f = good4;
                f.bytes[PACKET_ETH_LEN + 9] = (uint8_t) protocol;
                assert_frame(f, DROP);
        }
        f = good4;
        f.bytes[PACKET_ETH_LEN + 8] = 0;
        assert_frame(f, DROP); /* TTL */
        for (unsigned type = 0; type < 65536; type++) {
                f = good4;
                packet_put16(f.bytes + 12, type);
                if (type != PACKET_ETH_IPV4)
                        assert_frame(f, DROP);
        }
}

static void test_trailing(void) {
        Frame f = make_udp(NET_BOX_IPV6, 40000, "2606:4700::1111", 53);
        Policy policy = { .ipv6 = true };
        PolicyDecision decision;
        bool judged;
        Packet packet;

        g_assert_cmpint(policy_frame(&policy, f.bytes, f.len + 100, &packet, &decision, &judged), ==, POLICY_PASS);
        g_assert_cmpuint(packet.len, ==, f.len);
}

static void test_arp(void) {
        Frame f = { .bytes = { [12] = 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1 }, .len = 42 };
        assert_frame(f, PASS);
        f.len = 41;
        assert_frame(f, DROP);
        f.len = 42;
        f.bytes[18] = 8;
        assert_frame(f, DROP);
}

static void test_switches(void) {
        Frame f = make_udp(NET_BOX_IPV6, 40000, "2606:4700::1111", 53),
              ping = make_icmp(NET_BOX_IPV4, "1.1.1.1", IPPROTO_ICMP, 8, 64);
        Policy policy = { 0 };
        PolicyDecision decision;
        bool judged;
        Packet packet;

        g_assert_cmpint(policy_frame(&policy, f.bytes, f.len, &packet, &decision, &judged), ==, POLICY_DROP);
        g_assert_cmpint(policy_frame(&policy, ping.bytes, ping.len, &packet, &decision, &judged), ==, POLICY_REFUSE);
}

/* policy.c spells the box's network out; it must be that of config.h. */
static void test_constants(void) {
        static const char *const inside[] = { NET_BOX_IPV4, NET_GATEWAY_IPV4, NET_DNS_IPV4, NET_SUBNET_IPV4,
                                              NET_BOX_IPV6, NET_GATEWAY_IPV6, NET_DNS_IPV6, NET_SUBNET_IPV6 };

        for (size_t i = 0; i < G_N_ELEMENTS(inside); i++) {
                int family;
                struct in6_addr addr = address(inside[i], &family);
                g_assert_true(policy_is_subnet(family, &addr));
                size_t last = (size_t) (family == AF_INET ? 12 + NET_PREFIX_IPV4 / 8 : NET_PREFIX_IPV6 / 8) - 1;
                addr.s6_addr[last] ^= 1;
                g_assert_false(policy_is_subnet(family, &addr));
        }
}

static size_t refuse(const Frame *f, uint8_t *out, Packet *ret) {
        Policy policy = { .ipv6 = true };
        PolicyDecision decision;
        bool judged;
        Packet packet;

        g_assert_cmpint(policy_frame(&policy, f->bytes, f->len, &packet, &decision, &judged), ==, POLICY_REFUSE);
        size_t n = reply_refuse(&packet, out);
        g_assert_cmpuint(n, <=, REPLY_MAX);
        g_assert_true(packet_parse(out, n, ret));
        g_assert_cmpuint(ret->len, ==, n);
        g_assert_cmpmem(&ret->dst, 16, &packet.src, 16);
        uint8_t *l4 = out + ret->l4;
        uint8_t *field = l4 + (ret->protocol == IPPROTO_TCP ? 16 : 2);
        uint16_t checksum = packet_get16(field);
        packet_put16(field, 0);
        g_assert_cmpuint(packet_l4_checksum(ret->family, &ret->src, &ret->dst, ret->protocol, l4, ret->l4_len), ==,
                         checksum);
        return n;
}

static void test_reply(void) {
        static const char *const targets[] = { "127.0.0.1", "::1" };
        uint8_t out[REPLY_MAX];
        Packet reply;

        for (size_t i = 0; i < 2; i++) {
                bool v4 = i == 0;
                Frame tcp = make_tcp(v4 ? NET_BOX_IPV4 : NET_BOX_IPV6, targets[i], 80, SYN);
                refuse(&tcp, out, &reply);
                g_assert_cmpuint(reply.tcp_flags, ==, PACKET_TCP_RST | PACKET_TCP_ACK);
                g_assert_cmpuint(packet_get32(out + reply.l4 + 8), ==, 0x01020305); /* the SYN counts as one byte */
                g_assert_cmpuint(reply.sport, ==, 80);
                g_assert_cmpuint(reply.dport, ==, 40000);

                Frame udp = make_udp(v4 ? NET_BOX_IPV4 : NET_BOX_IPV6, 40000, targets[i], 80);
                refuse(&udp, out, &reply);
                g_assert_cmpuint(reply.icmp_type, ==, v4 ? 3 : 1);
                g_assert_cmpuint(reply.icmp_code, ==, v4 ? 13 : 1);
                g_assert_cmpmem(out + reply.l4 + 8, reply.l4_len - 8, udp.bytes + PACKET_ETH_LEN, udp.len - PACKET_ETH_LEN);

                /* What is long is quoted as far as the smallest MTU reaches. */
                uint8_t large[1900] = { 0x9c, 0x40, 0, 80, sizeof large >> 8, sizeof large & 0xff };
                Frame big = make_ip(v4 ? NET_BOX_IPV4 : NET_BOX_IPV6, targets[i], IPPROTO_UDP, large, sizeof large);
                g_assert_cmpuint(refuse(&big, out, &reply), ==, PACKET_ETH_LEN + (v4 ? 576 : 1280));
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-policy/destinations", test_destinations);
        g_test_add_func("/net-policy/multicast", test_multicast);
        g_test_add_func("/net-policy/services", test_services);
        g_test_add_func("/net-policy/sources", test_sources);
        g_test_add_func("/net-policy/icmp", test_icmp);
        g_test_add_func("/net-policy/fragments", test_fragments);
        g_test_add_func("/net-policy/malformed", test_malformed);
        g_test_add_func("/net-policy/trailing", test_trailing);
        g_test_add_func("/net-policy/arp", test_arp);
        g_test_add_func("/net-policy/switches", test_switches);
        g_test_add_func("/net-policy/constants", test_constants);
        g_test_add_func("/net-policy/reply", test_reply);
        return g_test_run();
}
