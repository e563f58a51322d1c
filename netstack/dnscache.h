/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/dnswire.h"

/* Answers of name servers, for as long as they hold. */
typedef struct DnsCache DnsCache;

DnsCache *dns_cache_new(void);
void dns_cache_free(DnsCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DnsCache, dns_cache_free)

/* Keep an answer to query, which parsed is; one that holds for no time is not kept. Bounded: the oldest goes. */
void dns_cache_add(DnsCache *cache, const DnsQuery *query, const uint8_t *msg, size_t len, const DnsAnswer *parsed, gint64 now_ms);

/* The answer to such a query, made for this one, TTLs as they are now; the caller's. NULL: none. */
uint8_t *dns_cache_find(DnsCache *cache, const DnsQuery *query, gint64 now_ms, size_t *ret_len);

/* Forget all: name servers have changed, and with them what names mean. */
void dns_cache_clear(DnsCache *cache);
