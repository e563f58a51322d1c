/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a frame from the box before the policy, and the answer to what is refused. The first byte is the policy: bit 0 IPv6,
 * bit 1 ping.
 *
 * Role: tests only. Privileges: none. Threads: one. What passes opens no flow to an address that is denied; an answer is a frame
 * of its own, to who sent.
 */
#include <string.h>

#include "fuzz.h"
#include "netstack/policy.h"
#include "netstack/reply.h"

/* What the host answers to: 192.0.2.1, 2001:db8::/64. */
static const AddressPrefix host[] = {
        { { .s6_addr = { [10] = 0xff, 0xff, 192, 0, 2, 1 } }, 128 },
        { { .s6_addr = { 0x20, 0x01, 0x0d, 0xb8 } }, 64 },
};

/* May the packet open a flow to the outside? A TCP segment that is no SYN opens none. */
static bool opens_flow(const Packet *p) {
        if (p->family == AF_UNSPEC || policy_is_subnet(p->family, &p->dst))
                return false;
        return p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_ICMP ||
               (p->protocol == IPPROTO_TCP && (p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN);
}

/* DHCP's first words go to everybody, from nobody. */
static bool is_dhcp(const Packet *p) {
        return p->protocol == IPPROTO_UDP && p->sport == 68 && p->dport == 67;
}

static void check_answer(const Packet *packet) {
        uint8_t *out = g_malloc(REPLY_MAX);
        size_t len = reply_refuse(packet, out);
        Packet answer;

        g_assert_true(len <= REPLY_MAX && len <= packet->len + PACKET_ETH_LEN + 48);
        if (len > 0) {
                g_assert_true(packet_parse(out, len, &answer));
                g_assert_true(answer.family == packet->family && answer.len == len);
                g_assert_true(memcmp(&answer.dst, &packet->src, sizeof answer.dst) == 0);
                if (packet->protocol == IPPROTO_TCP)
                        g_assert_true(answer.sport == packet->dport && answer.dport == packet->sport);
                g_assert_true(packet->protocol == IPPROTO_TCP ? answer.protocol == IPPROTO_TCP && (answer.tcp_flags & PACKET_TCP_RST)
                                                              : answer.protocol == (packet->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6));
                if (answer.protocol != IPPROTO_ICMPV6) /* a sum with its own field in it is 0, or UDP's other 0 */
                        g_assert_true(packet_l4_checksum(answer.family, &answer.src, &answer.dst, answer.protocol, out + answer.l4, answer.l4_len) == 0);
        }
        g_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 1)
                return 0;

        g_autoptr(GArray) prefixes = g_array_new(FALSE, FALSE, sizeof(AddressPrefix));
        g_array_append_vals(prefixes, host, G_N_ELEMENTS(host));
        const Policy policy = { .ipv6 = data[0] & 1, .ping = data[0] & 2, .host = prefixes };
        /* A copy of exactly that size, so that a read beyond its end is seen. */
        uint8_t *frame = g_memdup2(data + 1, size - 1);
        Packet p;

        PolicyDecision decision;
        bool judged;
        PolicyVerdict verdict = policy_frame(&policy, frame, size - 1, &p, &decision, &judged);
        if (verdict != POLICY_DROP && p.family == AF_INET6)
                g_assert_true(policy.ipv6);
        if (verdict == POLICY_PASS && opens_flow(&p) && !is_dhcp(&p))
                g_assert_true(judged && policy_decide(&policy, p.protocol, p.family, &p.dst, p.dport).verdict == POLICY_PASS &&
                              !(address_classes(p.family, &p.dst) & (ADDRESS_HOST | ADDRESS_METADATA | ADDRESS_INVALID)));
        if (verdict == POLICY_REFUSE)
                check_answer(&p);
        g_free(frame);
        return 0;
}
