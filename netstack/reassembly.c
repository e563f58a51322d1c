/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * UDP datagrams and pings in fragments, put together before anyone else sees them: no fragment reaches libslirp, which a lone last one kills (4.7).
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: after the TAP, before the policy.
 *
 * The box's kernel cuts what is longer than the MTU: at the default one only what is near the 64 KiB that a datagram can have. A handful of
 * datagrams can be in the making, so what a hostile box can make us hold is bounded; the oldest goes. Fragments that overlap are an attack and
 * nothing else (RFC 5722): the whole datagram is dropped. TCP is never cut by a sender, and other protocols go nowhere.
 */
#include <netinet/in.h>
#include <string.h>

#include "netstack/packet.h"
#include "netstack/reassembly.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define FRAGMENT_LEN 8

#define DATAGRAMS_MAX 8
#define PATIENCE_MS 3000

/* Offsets are in units of 8 bytes, 13 bits of them. */
#define UNITS 8192
#define DATA_MAX 65535

/* What identifies a datagram. No padding: it is compared as bytes. */
typedef struct {
        uint8_t addresses[32];
        uint32_t id;
        uint32_t family, protocol;
} Key;

typedef struct {
        Key key;
        bool used;
        int64_t since;     /* ms */
        size_t have, reach, total; /* bytes; up to where there are some; total 0: the last fragment has not come */
        uint8_t *frame;    /* room for the headers, and the data */
        uint64_t seen[UNITS / 64];
} Datagram;

struct Reassembly {
        Datagram datagrams[DATAGRAMS_MAX];
};

/* One fragment, taken apart. */
typedef struct {
        Key key;
        bool v4, more;
        size_t headers; /* of the whole frame: Ethernet and IP */
        size_t at, len; /* of its data within the datagram */
        const uint8_t *data;
} Fragment;

Reassembly *reassembly_new(void) {
        return g_new0(Reassembly, 1);
}

static void drop(Datagram *d) {
        g_clear_pointer(&d->frame, g_free);
        d->used = false;
}

void reassembly_free(Reassembly *r) {
        if (!r)
                return;
        for (size_t i = 0; i < DATAGRAMS_MAX; i++)
                drop(&r->datagrams[i]);
        g_free(r);
}

bool reassembly_is_fragment(const uint8_t *frame, size_t len) {
        if (len < PACKET_ETH_LEN + IPV4_LEN)
                return false;
        if (packet_get16(frame + 12) == PACKET_ETH_IPV4)
                return packet_get16(frame + PACKET_ETH_LEN + 6) & 0x3fff; /* more to come, or an offset */
        return packet_get16(frame + 12) == PACKET_ETH_IPV6 && frame[PACKET_ETH_LEN + 6] == IPPROTO_FRAGMENT;
}

static bool is_taken(uint8_t protocol, bool v4) {
        return protocol == IPPROTO_UDP || protocol == (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static bool parse_ipv4(const uint8_t *frame, size_t len, Fragment *ret) {
        const uint8_t *ip = frame + PACKET_ETH_LEN;
        size_t total = packet_get16(ip + 2);

        if (ip[0] != 0x45 || !is_taken(ip[9], true) || total <= IPV4_LEN || total > len - PACKET_ETH_LEN || packet_get16(ip + 6) & 0x8000)
                return false;
        memcpy(ret->key.addresses, ip + 12, 8);
        ret->key.id = packet_get16(ip + 4);
        ret->key.family = AF_INET;
        ret->key.protocol = ip[9];
        ret->v4 = true;
        ret->more = packet_get16(ip + 6) & 0x2000;
        ret->headers = PACKET_ETH_LEN + IPV4_LEN;
        ret->at = (size_t) (packet_get16(ip + 6) & 0x1fff) * 8;
        ret->len = total - IPV4_LEN;
        ret->data = ip + IPV4_LEN;
        return true;
}

static bool parse_ipv6(const uint8_t *frame, size_t len, Fragment *ret) {
        const uint8_t *ip = frame + PACKET_ETH_LEN, *fragment = ip + IPV6_LEN;

        if (len < PACKET_ETH_LEN + IPV6_LEN + FRAGMENT_LEN || ip[0] >> 4 != 6 || !is_taken(fragment[0], false))
                return false;
        size_t payload = packet_get16(ip + 4);
        if (payload <= FRAGMENT_LEN || payload > len - PACKET_ETH_LEN - IPV6_LEN)
                return false;
        memcpy(ret->key.addresses, ip + 8, 32);
        ret->key.id = packet_get32(fragment + 4);
        ret->key.family = AF_INET6;
        ret->key.protocol = fragment[0];
        ret->more = fragment[3] & 1;
        ret->headers = PACKET_ETH_LEN + IPV6_LEN;
        ret->at = packet_get16(fragment + 2) & 0xfff8;
        ret->len = payload - FRAGMENT_LEN;
        ret->data = fragment + FRAGMENT_LEN;
        return true;
}

static bool parse(const uint8_t *frame, size_t len, Fragment *ret) {
        memset(ret, 0, sizeof *ret);
        if (!(packet_get16(frame + 12) == PACKET_ETH_IPV4 ? parse_ipv4(frame, len, ret) : parse_ipv6(frame, len, ret)))
                return false;
        return ret->at + ret->len <= DATA_MAX - (ret->v4 ? IPV4_LEN : 0) && (!ret->more || ret->len % 8 == 0);
}

/* The datagram that the fragment is of: a new one in the place of one that waits no longer, or of the oldest. */
static Datagram *find(Reassembly *r, const Fragment *f, int64_t now_ms) {
        Datagram *place = NULL;

        for (size_t i = 0; i < DATAGRAMS_MAX; i++) {
                Datagram *d = &r->datagrams[i];
                if (d->used && now_ms - d->since > PATIENCE_MS)
                        drop(d);
                if (d->used && memcmp(&d->key, &f->key, sizeof d->key) == 0)
                        return d;
                if (!place || (place->used && (!d->used || d->since < place->since)))
                        place = d;
        }
        drop(place);
        *place = (Datagram){ .key = f->key, .used = true, .since = now_ms, .frame = g_malloc(f->headers + DATA_MAX) };
        return place;
}

/* Mark the fragment's units. False: one of them was there already. */
static bool mark(Datagram *d, const Fragment *f) {
        for (size_t unit = f->at / 8; unit < (f->at + f->len + 7) / 8; unit++) {
                uint64_t bit = 1ULL << (unit % 64);
                if (d->seen[unit / 64] & bit)
                        return false;
                d->seen[unit / 64] |= bit;
        }
        return true;
}

/* False: the datagram makes no sense. */
static bool add(Datagram *d, const Fragment *f, const uint8_t *frame) {
        size_t end = f->at + f->len;

        if (!mark(d, f) || (d->total > 0 && (!f->more || end > d->total)))
                return false;
        d->reach = MAX(d->reach, end);
        if (!f->more)
                d->total = end;
        d->have += f->len;
        if (f->at == 0)
                memcpy(d->frame, frame, f->headers);
        memcpy(d->frame + f->headers + f->at, f->data, f->len);
        /* What came before the last one may have been further behind: it would be counted for bytes that never come. */
        return d->total == 0 || d->reach <= d->total;
}

static void finish_headers(uint8_t *frame, const Fragment *f, size_t total) {
        uint8_t *ip = frame + PACKET_ETH_LEN;

        if (f->v4) {
                packet_put16(ip + 2, (unsigned) (IPV4_LEN + total));
                packet_put16(ip + 6, 0);
                packet_put16(ip + 10, 0);
                packet_put16(ip + 10, packet_sum_end(packet_sum(0, ip, IPV4_LEN)));
        } else {
                packet_put16(ip + 4, (unsigned) total);
                ip[6] = (uint8_t) f->key.protocol;
        }
}

uint8_t *reassembly_take(Reassembly *r, const uint8_t *frame, size_t len, int64_t now_ms, size_t *ret_len) {
        Fragment f;

        if (!parse(frame, len, &f))
                return NULL;
        Datagram *d = find(r, &f, now_ms);
        if (!add(d, &f, frame)) {
                drop(d);
                return NULL;
        }
        if (d->total == 0 || d->have < d->total)
                return NULL;
        /* All of its bytes have come, each once: so the first ones too. */
        finish_headers(d->frame, &f, d->total);
        *ret_len = f.headers + d->total;
        d->used = false; /* its frame goes with the next one in this place */
        return d->frame;
}
