/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DNS messages of usbox-net: questions, answers by way of aliases, what is malformed, and the cache.
 */
#include <string.h>

#include "netstack/dnscache.h"
#include "netstack/dnswire.h"
#include "netstack/packet.h"

/* A message under construction. */
typedef struct {
        uint8_t bytes[4096];
        size_t len;
} Message;

static void put16(Message *m, unsigned v) {
        packet_put16(m->bytes + m->len, v);
        m->len += 2;
}

static void put32(Message *m, uint32_t v) {
        packet_put32(m->bytes + m->len, v);
        m->len += 4;
}

static void put_name(Message *m, const char *name) {
        g_auto(GStrv) labels = g_strsplit(name, ".", -1);
        for (char **l = labels; *l; l++) {
                if (!**l)
                        continue;
                m->bytes[m->len++] = (uint8_t) strlen(*l);
                memcpy(m->bytes + m->len, *l, strlen(*l));
                m->len += strlen(*l);
        }
        m->bytes[m->len++] = 0;
}

static Message make(unsigned id, unsigned flags, const char *name, unsigned type) {
        Message m = { 0 };
        put16(&m, id);
        put16(&m, flags);
        put16(&m, 1);
        put16(&m, 0);
        put16(&m, 0);
        put16(&m, 0);
        put_name(&m, name);
        put16(&m, type);
        put16(&m, 1);
        return m;
}

/* A record with such data; count_at: of which section (6, 8, 10). */
static void put_record(Message *m, size_t count_at, const char *owner, unsigned type, uint32_t ttl, const void *data, size_t len) {
        packet_put16(m->bytes + count_at, packet_get16(m->bytes + count_at) + 1u);
        put_name(m, owner);
        put16(m, type);
        put16(m, 1);
        put32(m, ttl);
        put16(m, (unsigned) len);
        memcpy(m->bytes + m->len, data, len);
        m->len += len;
}

static void put_cname(Message *m, const char *owner, const char *target) {
        Message data = { 0 };
        put_name(&data, target);
        put_record(m, 6, owner, DNS_TYPE_CNAME, 300, data.bytes, data.len);
}

static void put_a(Message *m, const char *owner, uint8_t last, uint32_t ttl) {
        put_record(m, 6, owner, DNS_TYPE_A, ttl, ((uint8_t[]){ 192, 0, 2, last }), 4);
}

static bool parse_query(const Message *m, DnsQuery *ret, int *rcode) {
        /* A copy of its very size, so that a read beyond it is seen by the sanitizer. */
        g_autofree uint8_t *copy = g_memdup2(m->bytes, m->len);
        return dns_query_parse(copy, m->len, ret, rcode);
}

static bool parse_answer(const Message *m, const DnsQuery *query, DnsAnswer *ret) {
        g_autofree uint8_t *copy = g_memdup2(m->bytes, m->len);
        return dns_answer_parse(copy, m->len, query, 7, ret);
}

static DnsQuery question(const char *name, unsigned type) {
        Message m = make(7, 0x0100, name, type);
        DnsQuery query;
        int rcode;
        g_assert_true(parse_query(&m, &query, &rcode));
        return query;
}

static void test_query(void) {
        Message m = make(0x1234, 0x0110, "WwW.Example.ORG", DNS_TYPE_AAAA);
        uint8_t out[DNS_QUERY_MAX];
        DnsQuery q, again;
        int rcode;

        g_assert_true(parse_query(&m, &q, &rcode));
        g_assert_cmpstr(q.name, ==, "www.example.org");
        g_assert_true(q.id == 0x1234 && q.type == DNS_TYPE_AAAA && !q.edns && q.udp_size == 512);
        put_record(&m, 10, ".", DNS_TYPE_OPT, 0x8000, "", 0);
        packet_put16(m.bytes + m.len - 8, 1232); /* the class: the size */
        g_assert_true(parse_query(&m, &q, &rcode));
        g_assert_true(q.edns && q.dnssec_ok && q.udp_size == 1232);

        /* What goes out: our id, the name in its letters, RD, AD and CD, EDNS, and nothing else of the box's. */
        put_record(&m, 10, "secret.example", 16, 0, "exfiltrate", 10);
        packet_put16(m.bytes + 2, 0x0130 | 0x06c0);
        g_assert_true(parse_query(&m, &q, &rcode));
        size_t n = dns_query_write(&q, 0x4321, out);
        g_assert_true(dns_query_parse(out, n, &again, &rcode));
        g_assert_true(again.id == 0x4321 && again.flags == 0x0130 && again.edns && again.dnssec_ok);
        g_assert_cmpmem(again.wire, again.wire_len, q.wire, q.wire_len);
        g_assert_null(memmem(out, n, "exfiltrate", 10));

        m = make(1, 0x0100, "a b.ex\x07mple", 1);
        g_assert_true(parse_query(&m, &q, &rcode));
        g_assert_cmpstr(q.name, ==, "a?b.ex?mple");
        m = make(1, 0x0100, "", 1);
        g_assert_true(parse_query(&m, &q, &rcode));
        g_assert_cmpstr(q.name, ==, "");
}

static void assert_rejected(const Message *m, int want) {
        DnsQuery q;
        int rcode;
        g_assert_false(parse_query(m, &q, &rcode));
        g_assert_cmpint(rcode, ==, want);
}

static void test_bad_queries(void) {
        Message good = make(1, 0x0100, "www.example.org", 1), m;

        for (size_t len = 0; len < good.len; len++) {
                m = good;
                m.len = len;
                assert_rejected(&m, len < DNS_HEADER_LEN ? -1 : DNS_FORMERR);
        }
        m = make(1, 0x8000, "a.b", 1);
        assert_rejected(&m, -1); /* an answer */
        m = make(1, 0x2800, "a.b", 1);
        assert_rejected(&m, DNS_NOTIMP); /* UPDATE */
        m = make(1, 0, "a.b", DNS_TYPE_AXFR);
        assert_rejected(&m, DNS_NOTIMP);
        for (unsigned count = 0; count < 4; count += 2) {
                m = good;
                packet_put16(m.bytes + 4, count);
                assert_rejected(&m, DNS_FORMERR);
        }
        /* A name by a pointer: into the header, to itself, forwards. */
        for (unsigned target = 0; target < 40; target++) {
                m = make(1, 0, "", 1);
                m.len = DNS_HEADER_LEN;
                put16(&m, 0xc000 | target);
                put16(&m, 1);
                put16(&m, 1);
                assert_rejected(&m, DNS_FORMERR);
        }
        m = good;
        m.bytes[DNS_HEADER_LEN] = 0x43; /* neither a length nor a pointer */
        assert_rejected(&m, DNS_FORMERR);
        /* 255 bytes are a name, 256 none. */
        g_autofree char *label = g_strnfill(63, 'a');
        g_autofree char *longest = g_strdup_printf("%s.%s.%s.%.61s", label, label, label, label);
        g_autofree char *longer = g_strdup_printf("%s.%s.%s.%.62s", label, label, label, label);
        m = make(1, 0, longest, 1);
        DnsQuery q;
        int rcode;
        g_assert_true(parse_query(&m, &q, &rcode));
        g_assert_cmpuint(strlen(q.name), ==, 253);
        m = make(1, 0, longer, 1);
        assert_rejected(&m, DNS_FORMERR);
        /* Records that are announced and not there. */
        m = good;
        packet_put16(m.bytes + 10, 1);
        assert_rejected(&m, DNS_FORMERR);
}

static void test_answer(void) {
        DnsQuery q = question("www.Example.org", 1);
        Message m = make(7, 0x8180, "wWw.example.org", 1);
        g_auto(DnsAnswer) answer = { 0 };

        /* In any order; what does not belong to the name is of no use. */
        put_a(&m, "host.cdn.example", 1, 60);
        put_a(&m, "github.com", 2, 60);
        put_cname(&m, "edge.example", "HOST.cdn.example");
        put_cname(&m, "www.example.org", "edge.example");
        put_a(&m, "www.example.org", 3, 60);
        put_a(&m, "host.cdn.example", 4, 30);
        put_record(&m, 10, "host.cdn.example", DNS_TYPE_A, 20, ((uint8_t[]){ 192, 0, 2, 5 }), 4);
        g_assert_true(parse_answer(&m, &q, &answer));
        g_assert_cmpuint(answer.addresses->len, ==, 2);
        g_assert_cmpuint(g_array_index(answer.addresses, DnsAddress, 0).addr.s6_addr[15], ==, 1);
        g_assert_cmpuint(g_array_index(answer.addresses, DnsAddress, 1).addr.s6_addr[15], ==, 4);
        g_assert_cmpuint(g_array_index(answer.addresses, DnsAddress, 1).ttl, ==, 30);
        g_assert_cmpuint(answer.aliases->len, ==, 2);
        g_assert_cmpstr(answer.aliases->pdata[0], ==, "edge.example");
        g_assert_cmpstr(answer.aliases->pdata[1], ==, "host.cdn.example");
        g_assert_cmpuint(answer.ttl, ==, 20);
        g_assert_cmpuint(answer.ttl_at->len, ==, 7);

        dns_answer_age(m.bytes, answer.ttl_at, 25);
        dns_answer_adapt(m.bytes, &(DnsQuery){ .id = 99, .wire_len = q.wire_len });
        g_assert_cmpuint(packet_get16(m.bytes), ==, 99);
        memcpy(m.bytes + DNS_HEADER_LEN, q.wire, q.wire_len);
        packet_put16(m.bytes, 7);
        g_auto(DnsAnswer) aged = { 0 };
        g_assert_true(parse_answer(&m, &q, &aged));
        g_assert_cmpuint(g_array_index(aged.addresses, DnsAddress, 0).ttl, ==, 35);
        g_assert_cmpuint(aged.ttl, ==, 0);

        /* Aliases in a circle end. */
        Message circle = make(7, 0x8180, "www.example.org", 1);
        put_cname(&circle, "www.example.org", "a.example");
        put_cname(&circle, "a.example", "www.example.org");
        g_auto(DnsAnswer) round = { 0 };
        g_assert_true(parse_answer(&circle, &q, &round));
        g_assert_cmpuint(round.addresses->len, ==, 0);
        g_assert_cmpuint(round.aliases->len, ==, 2);
}

static void test_negative(void) {
        DnsQuery q = question("no.example.org", 1);
        Message m = make(7, 0x8183, "no.example.org", 1), soa = { 0 };
        g_auto(DnsAnswer) a = { 0 }, b = { 0 }, c = { 0 };

        g_assert_true(parse_answer(&m, &q, &a));
        g_assert_true(a.rcode == DNS_NXDOMAIN && a.ttl == 0); /* for how long nobody said */
        put_name(&soa, "ns.example.org");
        put_name(&soa, "root.example.org");
        for (int i = 0; i < 4; i++)
                put32(&soa, 100000);
        put32(&soa, 90);
        put_record(&m, 8, "example.org", DNS_TYPE_SOA, 3000, soa.bytes, soa.len);
        g_assert_true(parse_answer(&m, &q, &b));
        g_assert_cmpuint(b.ttl, ==, 90);
        packet_put16(m.bytes + 2, 0x8182); /* SERVFAIL is not kept */
        g_assert_true(parse_answer(&m, &q, &c));
        g_assert_true(c.rcode == DNS_SERVFAIL && c.ttl == 0);

        /* An alias of a name that has no such address: the alias may hold for longer. */
        g_auto(DnsAnswer) d = { 0 };
        Message alias = make(7, 0x8180, "no.example.org", 1);
        put_cname(&alias, "no.example.org", "other.example.org");
        put_record(&alias, 8, "example.org", DNS_TYPE_SOA, 3000, soa.bytes, soa.len);
        g_assert_true(parse_answer(&alias, &q, &d));
        g_assert_cmpuint(d.ttl, ==, 90);
}

static void test_bad_answers(void) {
        DnsQuery q = question("www.example.org", 1);
        Message good = make(7, 0x8180, "www.example.org", 1), m;
        put_a(&good, "www.example.org", 1, 60);
        g_auto(DnsAnswer) ok = { 0 };
        g_assert_true(parse_answer(&good, &q, &ok));

        for (size_t len = 0; len < good.len; len++) {
                g_auto(DnsAnswer) a = { 0 };
                m = good;
                m.len = len;
                g_assert_false(parse_answer(&m, &q, &a));
        }
        static const struct {
                size_t at;
                uint8_t byte;
        } changes[] = { { 1, 8 },     /* id */
                        { 2, 0x01 },  /* a question */
                        { 2, 0x91 },  /* opcode */
                        { 5, 2 },     /* two questions */
                        { 13, 'x' },  /* name */
                        { 30, 28 },   /* type */
                        { 32, 3 } };  /* class */
        for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
                g_auto(DnsAnswer) a = { 0 };
                m = good;
                g_assert_cmpuint(m.bytes[changes[i].at], !=, changes[i].byte);
                m.bytes[changes[i].at] = changes[i].byte;
                g_assert_false(parse_answer(&m, &q, &a));
        }
        /* An A of 5 bytes; a CNAME that points forwards, at itself, out of the message. */
        m = make(7, 0x8180, "www.example.org", 1);
        put_record(&m, 6, "www.example.org", DNS_TYPE_A, 60, "12345", 5);
        g_auto(DnsAnswer) long_a = { 0 };
        g_assert_false(parse_answer(&m, &q, &long_a));
        for (unsigned target = 0; target < 0x4000; target += 7) {
                g_auto(DnsAnswer) a = { 0 };
                m = make(7, 0x8180, "www.example.org", 1);
                uint8_t pointer[2] = { (uint8_t) (0xc0 | target >> 8), (uint8_t) target };
                put_record(&m, 6, "www.example.org", DNS_TYPE_CNAME, 60, pointer, 2);
                bool taken = parse_answer(&m, &q, &a);
                g_assert_true(!taken || target < m.len);
        }
}

static void test_replies(void) {
        DnsQuery q = question("Db.Lan", 28), plain;
        struct in6_addr addresses[2] = { { .s6_addr = { 0xfd, [15] = 1 } }, { .s6_addr = { 0xfd, [15] = 2 } } };
        uint8_t out[DNS_QUERY_MAX + 16 * 28];
        g_auto(DnsAnswer) answer = { 0 }, refused = { 0 }, cut = { 0 };

        size_t n = dns_reply_addresses(&q, addresses, 2, 60, out);
        g_assert_true(dns_answer_parse(out, n, &q, q.id, &answer));
        g_assert_cmpuint(answer.addresses->len, ==, 2);
        g_assert_cmpmem(&g_array_index(answer.addresses, DnsAddress, 1).addr, 16, &addresses[1], 16);
        n = dns_reply_write(&q, DNS_REFUSED, false, out);
        g_assert_true(dns_answer_parse(out, n, &q, q.id, &refused));
        g_assert_cmpint(refused.rcode, ==, DNS_REFUSED);
        n = dns_reply_write(&q, DNS_NOERROR, true, out);
        g_assert_true(dns_answer_parse(out, n, &q, q.id, &cut));
        g_assert_true(cut.truncated && cut.ttl == 0);
        /* To what could not be read as a question there is an answer too. */
        Message m = make(5, 0x0100, "a.b", 1);
        int rcode;
        m.len -= 2;
        g_assert_false(parse_query(&m, &plain, &rcode));
        n = dns_reply_write(&plain, (DnsRcode) rcode, false, out);
        g_assert_cmpuint(n, ==, DNS_HEADER_LEN);
        g_assert_cmpuint(packet_get16(out), ==, 5);
}

static void add(DnsCache *cache, const DnsQuery *q, const Message *m, gint64 now) {
        g_auto(DnsAnswer) a = { 0 };
        g_assert_true(parse_answer(m, q, &a));
        dns_cache_add(cache, q, m->bytes, m->len, &a, now);
}

static void test_cache(void) {
        g_autoptr(DnsCache) cache = dns_cache_new();
        DnsQuery q = question("www.example.org", 1), other = question("www.example.org", 28), upper = question("WWW.example.ORG", 1);
        Message m = make(7, 0x8180, "www.example.org", 1);
        size_t len;

        put_a(&m, "www.example.org", 1, 60);
        add(cache, &q, &m, 1000);
        g_assert_null(dns_cache_find(cache, &other, 1000, &len));
        upper.id = 77;
        g_autofree uint8_t *found = dns_cache_find(cache, &upper, 11000, &len);
        g_auto(DnsAnswer) a = { 0 };
        g_assert_true(dns_answer_parse(found, len, &upper, 77, &a));
        g_assert_cmpmem(found + DNS_HEADER_LEN, upper.wire_len, upper.wire, upper.wire_len);
        g_assert_cmpuint(g_array_index(a.addresses, DnsAddress, 0).ttl, ==, 50);
        g_assert_null(dns_cache_find(cache, &q, 61000, &len));

        /* An answer with signatures is none to a question without. */
        add(cache, &q, &m, 1000);
        DnsQuery with = q;
        with.edns = with.dnssec_ok = true;
        g_assert_null(dns_cache_find(cache, &with, 1000, &len));

        /* Nor is one that does not say whether it was validated one to who asks for that. */
        with = q;
        with.flags |= 0x0020;
        g_assert_null(dns_cache_find(cache, &with, 1000, &len));

        /* It has an end, whatever is asked. */
        for (unsigned i = 0; i < 3000; i++) {
                g_autofree char *name = g_strdup_printf("n%u.example", i);
                DnsQuery query = question(name, 1);
                Message message = make(7, 0x8180, name, 1);
                put_a(&message, name, 1, 60);
                add(cache, &query, &message, 1000);
        }
        DnsQuery first = question("n0.example", 1), last = question("n2999.example", 1);
        g_assert_null(dns_cache_find(cache, &first, 1000, &len));
        g_autofree uint8_t *latest = dns_cache_find(cache, &last, 1000, &len);
        g_assert_nonnull(latest);
        dns_cache_clear(cache);
        g_assert_null(dns_cache_find(cache, &last, 1000, &len));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-dns/query", test_query);
        g_test_add_func("/net-dns/bad-queries", test_bad_queries);
        g_test_add_func("/net-dns/answer", test_answer);
        g_test_add_func("/net-dns/negative", test_negative);
        g_test_add_func("/net-dns/bad-answers", test_bad_answers);
        g_test_add_func("/net-dns/replies", test_replies);
        g_test_add_func("/net-dns/cache", test_cache);
        return g_test_run();
}
