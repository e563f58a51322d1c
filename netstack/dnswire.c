/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DNS messages, taken apart and written.
 *
 * Role: usbox-net. Privileges: none. Threads: any; pure functions. Order: under dns.c.
 *
 * Both sides are hostile: the box asks, and whoever owns a name answers. A question is never passed on as it came but written anew, of its
 * name, its type and four flags, so that nothing else of the box's reaches a name server. An answer is passed on as it came, since it may be
 * signed, but only when every record in it has been walked over. Names are read with pointers that must lead backwards, each further than the
 * one before (RFC 1035 4.1.4 means it so), so that reading ends.
 */
#include <string.h>

#include "netstack/address.h"
#include "netstack/dnswire.h"
#include "netstack/packet.h"

#define FLAG_QR 0x8000
#define FLAG_OPCODE 0x7800
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_AD 0x0020 /* in a question: say whether the answer was validated (RFC 6840 5.7); a resolv.conf with "trust-ad" makes libc ask so */
#define FLAG_CD 0x0010
#define EDNS_DO 0x8000

#define NAME_WIRE_MAX 255
#define POINTER_LEN 2

/* More records of these kinds in one answer are not looked at: no honest answer has so many. */
#define CNAMES_MAX 32
#define ADDRESSES_MAX 512

#define NEGATIVE_TTL_MAX 3600
#define TTL_MAX (24 * 3600)

typedef struct {
        const uint8_t *msg;
        size_t len, at;
} Reader;

static bool read16(Reader *r, uint16_t *ret) {
        if (r->len - r->at < 2)
                return false;
        *ret = packet_get16(r->msg + r->at);
        r->at += 2;
        return true;
}

static bool read32(Reader *r, uint32_t *ret) {
        if (r->len - r->at < 4)
                return false;
        *ret = packet_get32(r->msg + r->at);
        r->at += 4;
        return true;
}

static char name_char(uint8_t c) {
        return g_ascii_isalnum(c) || c == '-' || c == '_' ? g_ascii_tolower((char) c) : '?';
}

/* A name from r->at on, as DnsQuery.name has it, and r moved behind it. */
static bool read_name(Reader *r, char text[static DNS_NAME_SIZE]) {
        size_t at = r->at, limit = r->at, used = 0, wire = 0;
        bool jumped = false;

        for (;;) {
                if (at >= r->len)
                        return false;
                uint8_t n = r->msg[at];
                if ((n & 0xc0) == 0xc0) {
                        if (r->len - at < POINTER_LEN)
                                return false;
                        size_t target = packet_get16(r->msg + at) & 0x3fff;
                        if (target >= limit)
                                return false;
                        if (!jumped)
                                r->at = at + POINTER_LEN;
                        jumped = true;
                        at = limit = target;
                        continue;
                }
                wire += 1u + n;
                if (n & 0xc0 || wire > NAME_WIRE_MAX || r->len - at < 1u + n)
                        return false;
                at++;
                if (n == 0)
                        break;
                if (used > 0)
                        text[used++] = '.';
                for (size_t i = 0; i < n; i++)
                        text[used++] = name_char(r->msg[at + i]);
                at += n;
        }
        text[used] = '\0';
        if (!jumped)
                r->at = at;
        return true;
}

/* One question. Its name must stand there whole: nothing comes before it that a pointer could lead to. */
static bool read_question(Reader *r, DnsQuery *ret) {
        size_t start = r->at;

        if (!read_name(r, ret->name) || !read16(r, &ret->type) || !read16(r, &ret->class))
                return false;
        ret->wire_len = r->at - start - 4;
        if (ret->wire_len != strlen(ret->name) + (*ret->name ? 2 : 1)) /* by a pointer */
                return false;
        memcpy(ret->wire, r->msg + start, ret->wire_len);
        return true;
}

typedef struct {
        char owner[DNS_NAME_SIZE];
        uint16_t type, class, len;
        uint32_t ttl;
        size_t ttl_at, data_at;
} Record;

static bool read_record(Reader *r, Record *ret) {
        if (!read_name(r, ret->owner) || !read16(r, &ret->type) || !read16(r, &ret->class))
                return false;
        ret->ttl_at = r->at;
        if (!read32(r, &ret->ttl) || !read16(r, &ret->len) || r->len - r->at < ret->len)
                return false;
        ret->data_at = r->at;
        r->at += ret->len;
        return true;
}

bool dns_query_parse(const uint8_t *msg, size_t len, DnsQuery *ret, int *ret_rcode) {
        Reader r = { .msg = msg, .len = len, .at = DNS_HEADER_LEN };
        Record record;

        *ret = (DnsQuery){ .udp_size = DNS_UDP_MIN };
        *ret_rcode = -1;
        if (len < DNS_HEADER_LEN || packet_get16(msg + 2) & FLAG_QR)
                return false;
        ret->id = packet_get16(msg);
        ret->flags = packet_get16(msg + 2);
        *ret_rcode = ret->flags & FLAG_OPCODE ? DNS_NOTIMP : DNS_FORMERR;
        if (ret->flags & FLAG_OPCODE || packet_get16(msg + 4) != 1)
                return false;
        if (!read_question(&r, ret)) {
                ret->wire_len = 0;
                return false;
        }
        unsigned records = (unsigned) packet_get16(msg + 6) + packet_get16(msg + 8) + packet_get16(msg + 10);
        for (unsigned i = 0; i < records; i++) {
                if (!read_record(&r, &record))
                        return false;
                if (record.type != DNS_TYPE_OPT)
                        continue;
                ret->edns = true;
                ret->dnssec_ok = record.ttl & EDNS_DO;
                ret->udp_size = CLAMP(record.class, DNS_UDP_MIN, DNS_UDP_MAX);
        }
        if (ret->type != DNS_TYPE_AXFR && ret->type != DNS_TYPE_IXFR)
                return true;
        *ret_rcode = DNS_NOTIMP; /* zone transfers are many messages, and nobody's who asks a resolver */
        return false;
}

static size_t write_header(uint8_t *out, uint16_t id, uint16_t flags, bool question) {
        memset(out, 0, DNS_HEADER_LEN);
        packet_put16(out, id);
        packet_put16(out + 2, flags);
        packet_put16(out + 4, question);
        return DNS_HEADER_LEN;
}

static size_t write_question(uint8_t *out, size_t at, const DnsQuery *query) {
        memcpy(out + at, query->wire, query->wire_len);
        at += query->wire_len;
        packet_put16(out + at, query->type);
        packet_put16(out + at + 2, query->class);
        return at + 4;
}

static size_t write_opt(uint8_t *out, size_t at, const DnsQuery *query) {
        if (!query->edns)
                return at;
        memset(out + at, 0, 11);
        packet_put16(out + at + 1, DNS_TYPE_OPT);
        packet_put16(out + at + 3, query->udp_size);
        packet_put16(out + at + 7, query->dnssec_ok ? EDNS_DO : 0);
        packet_put16(out + 10, packet_get16(out + 10) + 1u);
        return at + 11;
}

size_t dns_query_write(const DnsQuery *query, uint16_t id, uint8_t *out) {
        size_t at = write_header(out, id, query->flags & (FLAG_RD | FLAG_AD | FLAG_CD), true);
        at = write_question(out, at, query);
        return write_opt(out, at, query);
}

size_t dns_reply_write(const DnsQuery *query, DnsRcode rcode, bool truncated, uint8_t *out) {
        uint16_t kept = query->flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD);
        size_t at = write_header(out, query->id, (uint16_t) (FLAG_QR | FLAG_RA | kept | (truncated ? FLAG_TC : 0) | rcode), query->wire_len > 0);

        if (query->wire_len > 0)
                at = write_question(out, at, query);
        return write_opt(out, at, query);
}

size_t dns_reply_addresses(const DnsQuery *query, const struct in6_addr *addresses, size_t n, uint32_t ttl, uint8_t *out) {
        uint16_t size = query->type == DNS_TYPE_A ? 4 : 16;
        DnsQuery plain = *query;

        plain.edns = false;
        size_t at = dns_reply_write(&plain, DNS_NOERROR, false, out);
        for (size_t i = 0; i < n; i++) {
                packet_put16(out + at, 0xc000 | DNS_HEADER_LEN); /* the question's name */
                packet_put16(out + at + 2, query->type);
                packet_put16(out + at + 4, DNS_CLASS_IN);
                packet_put32(out + at + 6, ttl);
                packet_put16(out + at + 10, size);
                memcpy(out + at + 12, addresses[i].s6_addr + 16 - size, size);
                at += 12u + size;
        }
        packet_put16(out + 6, (unsigned) n);
        return write_opt(out, at, query);
}

void dns_answer_clear(DnsAnswer *answer) {
        g_clear_pointer(&answer->addresses, g_array_unref);
        g_clear_pointer(&answer->aliases, g_ptr_array_unref);
        g_clear_pointer(&answer->ttl_at, g_array_unref);
}

/* Of the answer section: what leads from the question's name to its addresses. */
typedef struct {
        char owner[DNS_NAME_SIZE], target[DNS_NAME_SIZE];
} Cname;

typedef struct {
        char owner[DNS_NAME_SIZE];
        DnsAddress address;
} Owned;

static bool take_record(const Reader *r, const Record *record, GArray *cnames, GArray *owned) {
        size_t size = record->type == DNS_TYPE_A ? 4 : 16;

        if (record->class != DNS_CLASS_IN)
                return true;
        if (record->type == DNS_TYPE_CNAME && cnames->len < CNAMES_MAX) {
                Reader data = { .msg = r->msg, .len = record->data_at + record->len, .at = record->data_at };
                Cname cname;
                memcpy(cname.owner, record->owner, sizeof cname.owner);
                if (!read_name(&data, cname.target))
                        return false;
                g_array_append_val(cnames, cname);
        } else if ((record->type == DNS_TYPE_A || record->type == DNS_TYPE_AAAA) && owned->len < ADDRESSES_MAX) {
                Owned o = { .address.ttl = record->ttl };
                if (record->len != size)
                        return false;
                memcpy(o.owner, record->owner, sizeof o.owner);
                if (size == 4)
                        o.address.addr = address_mapped(r->msg + record->data_at);
                else
                        memcpy(&o.address.addr, r->msg + record->data_at, size);
                g_array_append_val(owned, o);
        }
        return true;
}

/* From the question's name along the CNAMEs, each of them used once. */
static void follow(const char *name, const GArray *cnames, const GArray *owned, DnsAnswer *ret) {
        const char *current = name;
        guint64 used = 0;

        for (guint i = 0; i < cnames->len;) {
                const Cname *cname = &g_array_index(cnames, Cname, i);
                if (used & (1ULL << i) || !g_str_equal(cname->owner, current)) {
                        i++;
                        continue;
                }
                used |= 1ULL << i;
                current = cname->target;
                g_ptr_array_add(ret->aliases, g_strdup(current));
                i = 0;
        }
        for (guint i = 0; i < owned->len; i++) {
                const Owned *o = &g_array_index(owned, Owned, i);
                if (g_str_equal(o->owner, current))
                        g_array_append_val(ret->addresses, o->address);
        }
}

/* An answer that there is nothing, be it that of an alias, holds as long as its SOA says: the lesser of its TTL and its last field (RFC 2308). */
static uint32_t negative_ttl(const Reader *r, const Record *soa) {
        uint32_t minimum = soa->len >= 22 ? packet_get32(r->msg + soa->data_at + soa->len - 4) : 0;
        return MIN(MIN(soa->ttl, minimum), NEGATIVE_TTL_MAX);
}

static bool walk(Reader *r, const DnsQuery *query, DnsAnswer *ret) {
        unsigned answers = packet_get16(r->msg + 6), authorities = packet_get16(r->msg + 8), more = packet_get16(r->msg + 10);
        g_autoptr(GArray) cnames = g_array_new(false, false, sizeof(Cname)), owned = g_array_new(false, false, sizeof(Owned));
        uint32_t least = TTL_MAX, negative = 0;
        bool denies = answers == 0 || ret->rcode != DNS_NOERROR;
        Record record;

        for (unsigned i = 0; i < answers + authorities + more; i++) {
                if (!read_record(r, &record))
                        return false;
                if (record.type == DNS_TYPE_OPT)
                        continue;
                guint32 at = (guint32) record.ttl_at;
                g_array_append_val(ret->ttl_at, at);
                least = record.ttl > G_MAXINT32 ? 0 : MIN(least, record.ttl); /* RFC 2181: its first bit must be 0 */
                if (i < answers && !take_record(r, &record, cnames, owned))
                        return false;
                if (i >= answers && i < answers + authorities && record.type == DNS_TYPE_SOA) {
                        negative = negative_ttl(r, &record);
                        denies = true;
                }
        }
        follow(query->name, cnames, owned, ret);
        if (!ret->truncated && (ret->rcode == DNS_NOERROR || ret->rcode == DNS_NXDOMAIN))
                ret->ttl = denies ? MIN(negative, least) : least;
        return true;
}

/* The same name but for upper and lower case. */
static bool same_question(const DnsQuery *a, const DnsQuery *b) {
        if (a->type != b->type || a->class != b->class || a->wire_len != b->wire_len)
                return false;
        for (size_t i = 0; i < a->wire_len; i++)
                if (g_ascii_tolower((char) a->wire[i]) != g_ascii_tolower((char) b->wire[i]))
                        return false;
        return true;
}

bool dns_answer_parse(const uint8_t *msg, size_t len, const DnsQuery *query, uint16_t id, DnsAnswer *ret) {
        Reader r = { .msg = msg, .len = len, .at = DNS_HEADER_LEN };
        DnsQuery question;

        *ret = (DnsAnswer){ 0 };
        if (len < DNS_HEADER_LEN || packet_get16(msg) != id)
                return false;
        uint16_t flags = packet_get16(msg + 2);
        if (!(flags & FLAG_QR) || flags & FLAG_OPCODE || packet_get16(msg + 4) != 1 || !read_question(&r, &question) || !same_question(query, &question))
                return false;
        ret->rcode = flags & 0xf;
        ret->truncated = flags & FLAG_TC;
        ret->addresses = g_array_new(false, false, sizeof(DnsAddress));
        ret->aliases = g_ptr_array_new_with_free_func(g_free);
        ret->ttl_at = g_array_new(false, false, sizeof(guint32));
        /* One that is cut short may end in the middle of a record. */
        if (walk(&r, query, ret) || ret->truncated)
                return true;
        dns_answer_clear(ret);
        return false;
}

void dns_answer_adapt(uint8_t *msg, const DnsQuery *query) {
        packet_put16(msg, query->id);
        memcpy(msg + DNS_HEADER_LEN, query->wire, query->wire_len);
}

void dns_answer_age(uint8_t *msg, const GArray *ttl_at, uint32_t age) {
        for (guint i = 0; i < ttl_at->len; i++) {
                uint8_t *at = msg + g_array_index(ttl_at, guint32, i);
                uint32_t ttl = packet_get32(at);
                packet_put32(at, ttl > age ? ttl - age : 0);
        }
}
