/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: DNS messages. The first byte is 'q' before a question of the box's, 'a' before a name server's answer to a question for
 * www.example.org, A, id 7.
 *
 * Role: tests only. Privileges: none. Threads: one. What is taken has names of the one form that rules and the log can have, is bounded, and goes
 * on being taken when it was written anew.
 */
#include <string.h>

#include "fuzz.h"
#include "netstack/dnscache.h"
#include "netstack/dnswire.h"

static void check_name(const char *name) {
        size_t len = strlen(name);
        g_assert_true(len <= 253 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.?") == len);
}

static void check_query(const uint8_t *msg, size_t size) {
        DnsQuery q, again;
        uint8_t out[DNS_QUERY_MAX];
        int rcode;

        if (!dns_query_parse(msg, size, &q, &rcode)) {
                if (rcode >= 0)
                        g_assert_true(dns_reply_write(&q, (DnsRcode) rcode, false, out) <= sizeof out);
                return;
        }
        check_name(q.name);
        size_t n = dns_query_write(&q, 7, out);
        g_assert_true(n <= sizeof out && dns_query_parse(out, n, &again, &rcode));
        g_assert_cmpstr(q.name, ==, again.name);
        n = dns_reply_write(&q, DNS_REFUSED, false, out);
        g_auto(DnsAnswer) answer = { 0 };
        g_assert_true(n <= sizeof out && dns_answer_parse(out, n, &q, q.id, &answer));
}

static void check_answer(uint8_t *msg, size_t size) {
        static const uint8_t asked[] = "\0\7\1\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0";
        g_auto(DnsAnswer) answer = { 0 }, aged = { 0 };
        g_autoptr(DnsCache) cache = dns_cache_new();
        DnsQuery q;
        int rcode;

        uint8_t question[sizeof asked];
        memcpy(question, asked, sizeof asked);
        question[sizeof asked - 1] = 1;
        g_assert_true(dns_query_parse(question, sizeof question, &q, &rcode));
        if (!dns_answer_parse(msg, size, &q, 7, &answer))
                return;
        g_assert_true(answer.addresses->len <= 512 && answer.aliases->len <= 32);
        for (guint i = 0; i < answer.aliases->len; i++)
                check_name(answer.aliases->pdata[i]);
        for (guint i = 0; i < answer.ttl_at->len; i++)
                g_assert_true(g_array_index(answer.ttl_at, guint32, i) + 4 <= size);
        dns_cache_add(cache, &q, msg, size, &answer, 0);
        size_t len;
        g_autofree uint8_t *kept = dns_cache_find(cache, &q, 0, &len);
        g_assert_true((kept != NULL) == (answer.ttl > 0));
        dns_answer_adapt(msg, &q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 1)
                return 0;
        g_autofree uint8_t *msg = g_memdup2(data + 1, size - 1);
        if (data[0] == 'q')
                check_query(msg, size - 1);
        else if (data[0] == 'a')
                check_answer(msg, size - 1);
        return 0;
}
