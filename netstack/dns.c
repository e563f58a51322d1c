/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's resolver, at the box's own address for it: questions by UDP here, by TCP in dnstcp.c.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: between the policy and the name servers outside; nothing of a question reaches
 * libslirp.
 *
 * Each question is held against the rules by its name: what no rule could open is refused here, so that nothing leaves the box by the
 * names that it asks for. What the user gave an address, and host.usbox, is answered here; the rest comes from the host's name servers
 * (dnsup.c) or from what they said before (dnscache.c). From every answer the address is learned with its names (names.c), by which the policy
 * then judges flows.
 */
#include <string.h>

#include "netstack/dns.h"
#include "netstack/dnscache.h"
#include "netstack/dnsup.h"
#include "netstack/subnet.h"

/* What is of our own making may change with the next run, not before. */
#define OWN_TTL 60
#define OWN_ADDRESSES_MAX 16

struct DnsQuestion {
        Dns *dns;
        DnsQuery query;
        DnsAsker *asker;
        DnsExchange *exchange;
        guint change; /* Dns.changes when it was asked */
};

/* Who asks by UDP. */
typedef struct {
        DnsAsker asker;
        Dns *dns;
        int family;
        uint8_t mac[6];
        struct in6_addr src, dst; /* of the question */
        uint16_t sport, dport;
} Datagram;

struct Dns {
        Events *events;
        const NetConfig *config;
        Names *names;
        Account *account;
        StackSend send;
        void *send_data;
        DnsUpstream *up;
        DnsCache *cache;
        guint changes; /* of name servers */
};

Dns *dns_new(Events *events, const NetConfig *config, Names *names, Account *account, StackSend send, void *data) {
        Dns *dns = g_new0(Dns, 1);

        *dns = (Dns){ .events = events, .config = config, .names = names, .account = account, .send = send, .send_data = data };
        dns->up = dns_upstream_new(events, config);
        dns->cache = dns_cache_new();
        return dns;
}

void dns_free(Dns *dns) {
        if (!dns)
                return;
        dns_upstream_free(dns->up);
        dns_cache_free(dns->cache);
        g_free(dns);
}

/* What those before still have to say is for who has asked, and for nobody later. */
void dns_resolvers_changed(Dns *dns) {
        dns->changes++;
        dns_cache_clear(dns->cache);
}

static void reply_error(const DnsQuery *query, DnsRcode rcode, DnsAsker *asker) {
        uint8_t out[DNS_QUERY_MAX];
        size_t len = dns_reply_write(query, rcode, false, out);
        asker->reply(asker, out, len);
}

/* A whole answer, or where there is no room in a datagram the word that TCP has more. */
static void reply_answer(const DnsQuery *query, const uint8_t *msg, size_t len, DnsAsker *asker) {
        uint8_t out[DNS_QUERY_MAX];

        if (asker->tcp || len <= query->udp_size) {
                asker->reply(asker, msg, len);
                return;
        }
        size_t n = dns_reply_write(query, DNS_NOERROR, true, out);
        asker->reply(asker, out, n);
}

/* The addresses of an answer become known by the names that led to them. */
static void learn(Dns *dns, const DnsQuery *query, const DnsAnswer *answer) {
        g_autoptr(GArray) addresses = g_array_new(false, false, sizeof(struct in6_addr));
        int64_t now = events_now(dns->events);

        /* A name that the rules' text cannot have is no name for them. */
        if (strchr(query->name, '?') || query->class != DNS_CLASS_IN)
                return;
        for (guint i = 0; i < answer->addresses->len; i++) {
                const DnsAddress *a = &g_array_index(answer->addresses, DnsAddress, i);
                names_add(dns->names, &a->addr, query->name, query->name, a->ttl, now);
                for (guint j = 0; j < answer->aliases->len; j++)
                        if (!g_str_equal(answer->aliases->pdata[j], query->name))
                                names_add(dns->names, &a->addr, answer->aliases->pdata[j], query->name, a->ttl, now);
                g_array_append_val(addresses, a->addr);
        }
        account_answered(dns->account, query->name, addresses);
}

/* DnsDone */
static void on_answer(uint8_t *msg, size_t len, const DnsAnswer *answer, void *data) {
        DnsQuestion *question = data;
        Dns *dns = question->dns;

        if (msg) {
                learn(dns, &question->query, answer);
                if (question->change == dns->changes)
                        dns_cache_add(dns->cache, &question->query, msg, len, answer, events_now(dns->events));
                dns_answer_adapt(msg, &question->query);
                reply_answer(&question->query, msg, len, question->asker);
        } else {
                reply_error(&question->query, DNS_SERVFAIL, question->asker);
        }
        g_free(question);
}

/* What the user gave this name, as addresses of the question's type. False: nothing of any type, so it is others' to answer. */
static bool own_addresses(const Dns *dns, const DnsQuery *query, struct in6_addr ret[static OWN_ADDRESSES_MAX], size_t *ret_n) {
        bool known = g_str_equal(query->name, RULES_HOST_NAME);
        AddressPrefix prefix;

        *ret_n = 0;
        if (known && (query->type == DNS_TYPE_A || (query->type == DNS_TYPE_AAAA && dns->config->ipv6)) &&
            address_prefix_parse(query->type == DNS_TYPE_A ? subnet_ipv4()->gateway_text : NET_GATEWAY_IPV6, &prefix))
                ret[(*ret_n)++] = prefix.addr;
        for (guint i = 0; i < dns->config->hosts->len; i++) {
                const NetHost *host = dns->config->hosts->pdata[i];
                if (!g_str_equal(host->name, query->name) || !address_prefix_parse(host->address, &prefix))
                        continue;
                known = true;
                if (*ret_n < OWN_ADDRESSES_MAX && query->type == (address_is_mapped(&prefix.addr) ? DNS_TYPE_A : DNS_TYPE_AAAA))
                        ret[(*ret_n)++] = prefix.addr;
        }
        return known;
}

static bool answer_own(const Dns *dns, const DnsQuery *query, DnsAsker *asker) {
        struct in6_addr addresses[OWN_ADDRESSES_MAX];
        uint8_t out[DNS_QUERY_MAX + OWN_ADDRESSES_MAX * 28];
        size_t n;

        if (query->class != DNS_CLASS_IN || !own_addresses(dns, query, addresses, &n))
                return false;
        reply_answer(query, out, dns_reply_addresses(query, addresses, n, OWN_TTL, out), asker);
        return true;
}

static bool answer_cached(Dns *dns, const DnsQuery *query, DnsAsker *asker) {
        g_auto(DnsAnswer) answer = { 0 };
        size_t len;

        g_autofree uint8_t *msg = dns_cache_find(dns->cache, query, events_now(dns->events), &len);
        if (!msg)
                return false;
        if (dns_answer_parse(msg, len, query, query->id, &answer))
                learn(dns, query, &answer);
        reply_answer(query, msg, len, asker);
        return true;
}

DnsQuestion *dns_ask(Dns *dns, const uint8_t *msg, size_t len, DnsAsker *asker) {
        const NetRule *rule;
        DnsQuery query;
        int rcode;

        if (!dns_query_parse(msg, len, &query, &rcode)) {
                if (rcode < 0)
                        asker->reply(asker, NULL, 0);
                else
                        reply_error(&query, (DnsRcode) rcode, asker);
                return NULL;
        }
        if (answer_own(dns, &query, asker))
                return NULL;
        if (!net_rules_name_asked(dns->config->rules, query.name, &rule)) {
                account_denied_name(dns->account, query.name, rule);
                reply_error(&query, DNS_REFUSED, asker);
                return NULL;
        }
        if (answer_cached(dns, &query, asker))
                return NULL;

        DnsQuestion *question = g_new0(DnsQuestion, 1);
        *question = (DnsQuestion){ .dns = dns, .query = query, .asker = asker, .change = dns->changes };
        question->exchange = dns_upstream_ask(dns->up, &query, asker->tcp, on_answer, question);
        if (question->exchange)
                return question;
        g_free(question);
        reply_error(&query, DNS_SERVFAIL, asker);
        return NULL;
}

void dns_cancel(DnsQuestion *question) {
        dns_exchange_cancel(question->exchange);
        g_free(question);
}

static void reply_datagram(DnsAsker *asker, const uint8_t *msg, size_t len) {
        Datagram *d = (Datagram *) asker;
        size_t at = packet_udp_payload(d->family);

        if (len > 0) {
                g_autofree uint8_t *frame = g_malloc(at + len);
                memcpy(frame + at, msg, len);
                size_t n = packet_write_udp(frame, d->mac, d->family, &d->dst, d->dport, &d->src, d->sport, len);
                d->dns->send(frame, n, d->dns->send_data);
        }
        g_free(d);
}

static void take_question(Dns *dns, const Packet *packet, const uint8_t *msg, size_t len) {
        Datagram *d = g_new0(Datagram, 1);

        *d = (Datagram){ .asker = { .reply = reply_datagram }, .dns = dns, .family = packet->family, .src = packet->src, .dst = packet->dst,
                         .sport = packet->sport, .dport = packet->dport };
        memcpy(d->mac, packet->frame + 6, sizeof d->mac);
        (void) dns_ask(dns, msg, len, &d->asker);
}

void dns_input(Dns *dns, const Packet *packet) {
        size_t at = 0, len = packet_udp_len(packet);

        do {
                size_t part = packet_datagram_len(packet, at);
                take_question(dns, packet, packet->frame + packet->l4 + 8 + at, part);
                at += part;
        } while (at < len);
}
