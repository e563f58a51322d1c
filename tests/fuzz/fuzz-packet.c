/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a frame from the box, as usbox-net takes it apart.
 *
 * Role: tests only. Privileges: none. Threads: one. Whatever is accepted must lie within the frame and be of what is spoken.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "netstack/packet.h"
#include "netstack/tap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Packet p;
        /* A copy of exactly that size, so that a read beyond its end is seen. */
        uint8_t *frame = g_memdup2(data, size);

        if (packet_parse(frame, size, &p)) {
                g_assert_true(p.len <= size);
                if (p.family != AF_UNSPEC) {
                        g_assert_true(p.family == AF_INET || p.family == AF_INET6);
                        g_assert_true(p.l4 >= PACKET_ETH_LEN && p.l4 + p.l4_len <= p.len);
                        g_assert_true(p.protocol == IPPROTO_TCP || p.protocol == IPPROTO_UDP || p.protocol == IPPROTO_ICMP || p.protocol == IPPROTO_ICMPV6);
                        (void) packet_l4_checksum(p.family, &p.src, &p.dst, p.protocol, frame + p.l4, p.l4_len);
                        if (p.protocol == IPPROTO_TCP)
                                tap_raise_mss(frame, &p);
                }
        }
        g_free(frame);
        return 0;
}
