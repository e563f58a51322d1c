/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: fragments. Each frame stands behind two bytes of its length.
 *
 * Role: tests only. Privileges: none. Threads: one. What comes out whole is no fragment, and of the length that its own header says.
 */
#include "fuzz.h"
#include "netstack/packet.h"
#include "netstack/reassembly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autoptr(Reassembly) r = reassembly_new();
        int64_t now = 0;

        while (size >= 2) {
                size_t len = packet_get16(data), got_len;
                data += 2;
                size -= 2;
                if (len > size)
                        len = size;
                /* A copy of exactly that size, so that a read beyond its end is seen. */
                g_autofree uint8_t *frame = g_memdup2(data, len);
                if (len > 0 && reassembly_is_fragment(frame, len)) {
                        const uint8_t *got = reassembly_take(r, frame, len, now++, &got_len);
                        Packet p;
                        g_assert_true(!got || !reassembly_is_fragment(got, got_len));
                        if (got && packet_parse(got, got_len, &p))
                                g_assert_true(p.len == got_len && p.protocol == IPPROTO_UDP);
                }
                data += len;
                size -= len;
        }
        return 0;
}
