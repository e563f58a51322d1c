/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Answers of name servers, kept for as long as they say that they hold.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: under dns.c.
 *
 * Two questions have the same answer if name, type and class are the same, and what changes an answer's form: EDNS, and the wish for
 * signatures or for no validation.
 */

#include "netstack/dnscache.h"

#define ENTRIES_MAX 1024
#define BYTES_MAX (1024 * 1024)

typedef struct {
        char *key;
        uint8_t *msg;
        size_t len;
        GArray *ttl_at;
        gint64 stored, expires; /* ms */
        GList link;             /* in DnsCache.by_age */
} Entry;

struct DnsCache {
        GHashTable *entries; /* Entry.key → Entry */
        GQueue by_age;       /* the oldest first */
        size_t bytes;
};

DnsCache *dns_cache_new(void) {
        DnsCache *cache = g_new0(DnsCache, 1);
        cache->entries = g_hash_table_new(g_str_hash, g_str_equal);
        g_queue_init(&cache->by_age);
        return cache;
}

static void drop(DnsCache *cache, Entry *entry) {
        g_hash_table_remove(cache->entries, entry->key);
        g_queue_unlink(&cache->by_age, &entry->link);
        cache->bytes -= entry->len;
        g_free(entry->key);
        g_free(entry->msg);
        g_array_unref(entry->ttl_at);
        g_free(entry);
}

void dns_cache_clear(DnsCache *cache) {
        while (cache->by_age.head)
                drop(cache, cache->by_age.head->data);
}

void dns_cache_free(DnsCache *cache) {
        if (!cache)
                return;
        dns_cache_clear(cache);
        g_hash_table_unref(cache->entries);
        g_free(cache);
}

/* The name goes in by its bytes: in a text two different ones can look the same. */
static char *key_of(const DnsQuery *query) {
        GString *key = g_string_new(NULL);

        for (size_t i = 0; i < query->wire_len; i++)
                g_string_append_printf(key, "%02x", (uint8_t) g_ascii_tolower((char) query->wire[i]));
        /* 0x0130: RD, AD and CD */
        g_string_append_printf(key, "/%u/%u/%d%d/%x", query->type, query->class, query->edns, query->dnssec_ok, query->flags & 0x0130);
        return g_string_free(key, false);
}

void dns_cache_add(DnsCache *cache, const DnsQuery *query, const uint8_t *msg, size_t len, const DnsAnswer *parsed, gint64 now_ms) {
        g_autofree char *key = key_of(query);
        Entry *entry = g_hash_table_lookup(cache->entries, key);

        if (entry)
                drop(cache, entry);
        if (parsed->ttl == 0 || len > BYTES_MAX / 8)
                return;
        while (cache->by_age.length >= ENTRIES_MAX || (cache->by_age.head && cache->bytes + len > BYTES_MAX))
                drop(cache, cache->by_age.head->data);
        entry = g_new0(Entry, 1);
        *entry = (Entry){ .key = g_steal_pointer(&key), .msg = g_memdup2(msg, len), .len = len, .ttl_at = g_array_ref(parsed->ttl_at), .stored = now_ms,
                          .expires = now_ms + (gint64) parsed->ttl * 1000 };
        entry->link.data = entry;
        g_hash_table_insert(cache->entries, entry->key, entry);
        g_queue_push_tail_link(&cache->by_age, &entry->link);
        cache->bytes += len;
}

uint8_t *dns_cache_find(DnsCache *cache, const DnsQuery *query, gint64 now_ms, size_t *ret_len) {
        g_autofree char *key = key_of(query);
        Entry *entry = g_hash_table_lookup(cache->entries, key);

        if (!entry)
                return NULL;
        if (entry->expires <= now_ms) {
                drop(cache, entry);
                return NULL;
        }
        uint8_t *msg = g_memdup2(entry->msg, entry->len);
        dns_answer_age(msg, entry->ttl_at, (uint32_t) ((now_ms - entry->stored) / 1000));
        dns_answer_adapt(msg, query);
        *ret_len = entry->len;
        return msg;
}
