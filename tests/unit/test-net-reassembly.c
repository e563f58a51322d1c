/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams in fragments: whole in whatever order they come, nothing of what overlaps or never ends.
 */
#include <string.h>

#include "netstack/packet.h"
#include "netstack/reassembly.h"

typedef struct {
        uint8_t bytes[66000];
        size_t len;
} Frame;

static const struct in6_addr box4 = { .s6_addr = { [10] = 0xff, 0xff, 10, 0, 2, 100 } }, peer4 = { .s6_addr = { [10] = 0xff, 0xff, 192, 0, 2, 1 } };
static const struct in6_addr box6 = { .s6_addr = { 0xfd, [14] = 1 } }, peer6 = { .s6_addr = { 0x20, 1, 0xd, 0xb8, [15] = 1 } };
static const uint8_t mac[6] = { 2 };

/* A datagram of so many bytes, as one frame. */
static void make_whole(Frame *f, int family, size_t data) {
        for (size_t i = 0; i < data; i++)
                f->bytes[packet_udp_payload(family) + i] = (uint8_t) (i * 7 + i / 251);
        f->len = packet_write_udp(f->bytes, mac, family, family == AF_INET ? &box4 : &box6, 1000, family == AF_INET ? &peer4 : &peer6, 2000, data);
        if (family == AF_INET) /* may be cut */
                packet_put16(f->bytes + PACKET_ETH_LEN + 6, 0);
}

/* len bytes from at on of its transport packet, as a fragment. */
static void cut(const Frame *whole, int family, uint16_t id, size_t at, size_t len, bool more, Frame *ret) {
        size_t headers = PACKET_ETH_LEN + (family == AF_INET ? 20 : 40), skip = family == AF_INET ? 0 : 8;
        uint8_t *ip = ret->bytes + PACKET_ETH_LEN;

        memcpy(ret->bytes, whole->bytes, headers);
        memcpy(ret->bytes + headers + skip, whole->bytes + headers + at, len);
        ret->len = headers + skip + len;
        if (family == AF_INET) {
                packet_put16(ip + 2, (unsigned) (20 + len));
                packet_put16(ip + 4, id);
                packet_put16(ip + 6, (unsigned) (at / 8) | (more ? 0x2000 : 0));
        } else {
                packet_put16(ip + 4, (unsigned) (8 + len));
                ip[6] = 44;
                memset(ip + 40, 0, 8);
                ip[40] = IPPROTO_UDP;
                packet_put16(ip + 42, (unsigned) (at | more));
                packet_put32(ip + 44, id);
        }
}

static uint8_t *give(Reassembly *r, const Frame *f, int64_t now, size_t *ret_len) {
        /* A copy of its very size, so that a read beyond it is seen by the sanitizer. */
        g_autofree uint8_t *copy = g_memdup2(f->bytes, f->len);
        g_assert_true(reassembly_is_fragment(copy, f->len));
        return reassembly_take(r, copy, f->len, now, ret_len);
}

static void test_orders(void) {
        static const size_t sizes[] = { 1500, 9000, 65507 };
        g_autofree Frame *whole = g_new(Frame, 1), *part = g_new(Frame, 1);
        g_autoptr(Reassembly) r = reassembly_new();
        uint16_t id = 1;

        for (int v = 0; v < 2; v++)
                for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++)
                        for (int order = 0; order < 3; order++, id++) {
                                int family = v == 0 ? AF_INET : AF_INET6;
                                make_whole(whole, family, sizes[s]);
                                size_t l4 = 8 + sizes[s], step = 1232, n = (l4 + step - 1) / step, len = 0;
                                uint8_t *got = NULL;
                                for (size_t i = 0; i < n; i++) {
                                        size_t k = order == 0 ? i : order == 1 ? n - 1 - i : (i * 7 + 3) % n;
                                        if (order == 2 && n % 7 == 0)
                                                k = i;
                                        g_assert_null(got);
                                        cut(whole, family, id, k * step, MIN(step, l4 - k * step), (k + 1) * step < l4, part);
                                        got = give(r, part, 0, &len);
                                }
                                g_assert_nonnull(got);
                                g_assert_cmpuint(len, ==, whole->len);
                                g_assert_false(reassembly_is_fragment(got, len));
                                Packet p;
                                g_assert_true(packet_parse(got, len, &p));
                                g_assert_cmpuint(p.dport, ==, 2000);
                                g_assert_cmpmem(got + p.l4, p.l4_len, whole->bytes + p.l4, l4);
                        }
}

static void test_bad(void) {
        g_autofree Frame *whole = g_new(Frame, 1), *part = g_new(Frame, 1);
        size_t len;

        for (int v = 0; v < 2; v++) {
                int family = v == 0 ? AF_INET : AF_INET6;
                g_autoptr(Reassembly) r = reassembly_new();
                make_whole(whole, family, 3000);
                /* An overlap drops all, what is right of it too. */
                cut(whole, family, 1, 0, 1400, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 1, 1392, 1400, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 1, 1400, 1608, false, part);
                g_assert_null(give(r, part, 0, &len));
                /* A lone last one; two last ones; data behind the last one. */
                cut(whole, family, 2, 1400, 1608, false, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 3, 800, 200, false, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 3, 1600, 200, false, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 4, 1600, 200, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 4, 800, 200, false, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 4, 0, 800, true, part);
                g_assert_null(give(r, part, 0, &len));
                /* Data behind the last one, of which there is as much as is missing before it: in the middle, and the headers with it. */
                cut(whole, family, 9, 1600, 104, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 9, 200, 104, false, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 9, 0, 96, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 10, 1600, 200, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 10, 200, 200, false, part);
                g_assert_null(give(r, part, 0, &len));
                /* One in the middle whose length is no multiple of 8; one that ends behind 64 KiB. */
                cut(whole, family, 5, 0, 1401, true, part);
                g_assert_null(give(r, part, 0, &len));
                cut(whole, family, 6, 0, 1400, false, part);
                packet_put16(part->bytes + PACKET_ETH_LEN + (family == AF_INET ? 6 : 42), family == AF_INET ? 0x1fff : 0xfff8);
                g_assert_null(give(r, part, 0, &len));
                /* TCP. */
                cut(whole, family, 7, 0, 1400, false, part);
                part->bytes[PACKET_ETH_LEN + (family == AF_INET ? 9 : 40)] = IPPROTO_TCP;
                packet_put16(part->bytes + PACKET_ETH_LEN + (family == AF_INET ? 6 : 42), family == AF_INET ? 0x2000 : 1);
                g_assert_null(give(r, part, 0, &len));
                /* Every length that is cut short. */
                cut(whole, family, 8, 0, 64, true, part);
                for (size_t n = PACKET_ETH_LEN + 20; n < part->len; n++) {
                        g_autofree uint8_t *copy = g_memdup2(part->bytes, n);
                        if (reassembly_is_fragment(copy, n))
                                g_assert_null(reassembly_take(r, copy, n, 0, &len));
                }
        }
}

/* Two halves, of so many datagrams at once: the first ones are gone by then. And a half that came too long ago. */
static void test_bounds(void) {
        g_autofree Frame *whole = g_new(Frame, 1), *part = g_new(Frame, 1);
        g_autoptr(Reassembly) r = reassembly_new();
        size_t len, done = 0;

        make_whole(whole, AF_INET, 2000);
        for (uint16_t id = 0; id < 1000; id++) {
                cut(whole, AF_INET, id, 0, 1000, true, part);
                g_assert_null(give(r, part, id, &len));
        }
        for (uint16_t id = 0; id < 1000; id++) {
                cut(whole, AF_INET, id, 1000, 1008, false, part);
                done += give(r, part, 1000, &len) != NULL;
        }
        g_assert_cmpuint(done, <=, 8);
        cut(whole, AF_INET, 1, 0, 1000, true, part);
        g_assert_null(give(r, part, 5000, &len));
        cut(whole, AF_INET, 1, 1000, 1008, false, part);
        g_assert_null(give(r, part, 9000, &len));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-reassembly/orders", test_orders);
        g_test_add_func("/net-reassembly/bad", test_bad);
        g_test_add_func("/net-reassembly/bounds", test_bounds);
        return g_test_run();
}
