/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: fragments. Each frame stands behind two bytes of its length.
 *
 * Role: tests only. Privileges: none. Threads: one. What comes out whole is no fragment, of the length that its own header says, and each byte of it stood at
 * its place in a fragment of that datagram: nothing is left out, and nothing is what the memory held before.
 */
#include <netinet/in.h>
#include <string.h>

#include "fuzz.h"
#include "netstack/packet.h"
#include "netstack/reassembly.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define FRAGMENT_LEN 8

/* One of the right form, as reassembly_take() asks for it. */
typedef struct {
        bool v4;
        uint8_t protocol;
        const uint8_t *frame, *addresses, *id, *data;
        size_t addresses_len, id_len, at, len;
} Given;

/* Of what reassembly_is_fragment(). */
static bool parse(const uint8_t *frame, size_t len, Given *ret) {
        const uint8_t *ip = frame + PACKET_ETH_LEN, *fragment = ip + IPV6_LEN;

        if (packet_get16(frame + 12) == PACKET_ETH_IPV4) {
                *ret = (Given){ .v4 = true, .protocol = ip[9], .frame = frame, .addresses = ip + 12, .addresses_len = 8,
                                .id = ip + 4, .id_len = 2, .data = ip + IPV4_LEN, .at = (packet_get16(ip + 6) & 0x1fffU) * 8, .len = packet_get16(ip + 2) };
                if (ret->len < IPV4_LEN || ret->len > len - PACKET_ETH_LEN)
                        return false;
                ret->len -= IPV4_LEN;
                return true;
        }
        if (len < PACKET_ETH_LEN + IPV6_LEN + FRAGMENT_LEN)
                return false;
        *ret = (Given){ .protocol = fragment[0], .frame = frame, .addresses = ip + 8, .addresses_len = 32,
                        .id = fragment + 4, .id_len = 4, .data = fragment + FRAGMENT_LEN,
                        .at = packet_get16(fragment + 2) & 0xfff8, .len = packet_get16(ip + 4) };
        if (ret->len < FRAGMENT_LEN || ret->len > len - PACKET_ETH_LEN - IPV6_LEN)
                return false;
        ret->len -= FRAGMENT_LEN;
        return true;
}

static bool same_datagram(const Given *a, const Given *b) {
        return a->v4 == b->v4 && a->protocol == b->protocol &&
               memcmp(a->addresses, b->addresses, a->addresses_len) == 0 && memcmp(a->id, b->id, a->id_len) == 0;
}

/* The byte at that place of the last one's datagram. */
static bool was_given(const GArray *given, const Given *last, size_t at, uint8_t byte) {
        for (guint i = 0; i < given->len; i++) {
                const Given *g = &g_array_index(given, Given, i);
                if (same_datagram(g, last) && at >= g->at && at < g->at + g->len && g->data[at - g->at] == byte)
                        return true;
        }
        return false;
}

/* All before the length is a first fragment's, too. */
static bool was_first(const GArray *given, const Given *last, const uint8_t *got) {
        for (guint i = 0; i < given->len; i++) {
                const Given *g = &g_array_index(given, Given, i);
                if (same_datagram(g, last) && g->at == 0 && memcmp(g->frame, got, PACKET_ETH_LEN + 2) == 0)
                        return true;
        }
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autoptr(Reassembly) r = reassembly_new();
        g_autoptr(GPtrArray) frames = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GArray) given = g_array_new(FALSE, FALSE, sizeof(Given));
        int64_t now = 0;

        while (size >= 2) {
                size_t len = packet_get16(data), got_len;
                data += 2;
                size -= 2;
                if (len > size)
                        len = size;
                /* A copy of exactly that size, so that a read beyond its end is seen. */
                uint8_t *frame = g_memdup2(data, len);
                g_ptr_array_add(frames, frame);
                if (len > 0 && reassembly_is_fragment(frame, len)) {
                        Given last = { 0 };
                        bool formed = parse(frame, len, &last);
                        if (formed)
                                g_array_append_val(given, last);
                        const uint8_t *got = reassembly_take(r, frame, len, now++, &got_len);
                        Packet p;
                        g_assert_true(!got || !reassembly_is_fragment(got, got_len));
                        g_assert_true(!got || last.protocol == IPPROTO_UDP || last.protocol == (last.v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6));
                        if (got && packet_parse(got, got_len, &p))
                                g_assert_true(p.len == got_len && p.protocol == last.protocol);
                        size_t headers = PACKET_ETH_LEN + (last.v4 ? IPV4_LEN : IPV6_LEN);
                        g_assert_true(!got || (formed && was_first(given, &last, got)));
                        for (size_t i = headers; got && i < got_len; i++)
                                g_assert_true(was_given(given, &last, i - headers, got[i]));
                }
                data += len;
                size -= len;
        }
        return 0;
}
