/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* DNS messages (RFC 1035, RFC 6891): taken apart, and written. All of it pure. */

#define DNS_HEADER_LEN 12
#define DNS_UDP_MIN 512   /* what a datagram may have without EDNS */
#define DNS_UDP_MAX 4096  /* what we let EDNS ask for */
#define DNS_NAME_SIZE 256 /* a name's text and its NUL */
#define DNS_QUERY_MAX (DNS_HEADER_LEN + 255 + 4 + 11)

#define DNS_TYPE_A 1
#define DNS_TYPE_CNAME 5
#define DNS_TYPE_SOA 6
#define DNS_TYPE_AAAA 28
#define DNS_TYPE_OPT 41
#define DNS_TYPE_IXFR 251
#define DNS_TYPE_AXFR 252
#define DNS_CLASS_IN 1

typedef enum { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 } DnsRcode;

/* A question of the box's. */
typedef struct {
        uint16_t id, flags;       /* as it had them */
        char name[DNS_NAME_SIZE]; /* lower case, no final dot, '?' for a byte that is no letter, digit, '-' or '_'; "" is the root */
        uint8_t wire[255];        /* the name as it stood there, letters as they were */
        size_t wire_len;
        uint16_t type, class;
        bool edns, dnssec_ok;
        uint16_t udp_size; /* DNS_UDP_MIN to DNS_UDP_MAX */
} DnsQuery;

/* Take a query apart. False with *ret_rcode: what to answer, -1: nothing (it is no query). ret's id and flags are set unless that is -1. */
bool dns_query_parse(const uint8_t *msg, size_t len, DnsQuery *ret, int *ret_rcode);

/* The same question, with an id of ours, for a name server; out has DNS_QUERY_MAX bytes. Returns its length. */
size_t dns_query_write(const DnsQuery *query, uint16_t id, uint8_t *out);

/* An answer without records; out as above. query may be what dns_query_parse() refused. */
size_t dns_reply_write(const DnsQuery *query, DnsRcode rcode, bool truncated, uint8_t *out);

/* An answer of up to 16 addresses that are of the question's type (A: ::ffff:a.b.c.d); out has DNS_QUERY_MAX + 16 * 28 bytes. */
size_t dns_reply_addresses(const DnsQuery *query, const struct in6_addr *addresses, size_t n, uint32_t ttl, uint8_t *out);

typedef struct {
        struct in6_addr addr;
        uint32_t ttl;
} DnsAddress;

/* What a name server answered. Names are in DnsQuery.name's form. */
typedef struct {
        DnsRcode rcode;
        bool truncated;
        uint32_t ttl;          /* how long it holds, in s; 0: not to be kept */
        GArray *addresses;     /* of DnsAddress: of the name that was asked for, by way of its aliases */
        GPtrArray *aliases;    /* of char *: the names on that way */
        GArray *ttl_at;        /* of guint32: where the TTLs of its records stand, but for OPT */
} DnsAnswer;

void dns_answer_clear(DnsAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DnsAnswer, dns_answer_clear)

/* Is msg the answer to query, as it was sent with this id, and well-formed? Then *ret is it (to be cleared). */
bool dns_answer_parse(const uint8_t *msg, size_t len, const DnsQuery *query, uint16_t id, DnsAnswer *ret);

/* Make an answer that dns_answer_parse() took one for the box: its own id, and the name in its own letters. */
void dns_answer_adapt(uint8_t *msg, const DnsQuery *query);

/* Take age seconds off each TTL. */
void dns_answer_age(uint8_t *msg, const GArray *ttl_at, uint32_t age);
