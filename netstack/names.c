/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which address the box knows by which name: what its own DNS answers said, for as long as they said it.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: dns.c teaches, the policy asks.
 *
 * Programs keep addresses longer than a TTL says (connection pools, Java, a browser's own cache), so a name holds for a while more. The
 * box decides how many names it asks for, so the table has an end: beyond it the entry that would be forgotten first goes.
 */
#include <string.h>

#include "netstack/names.h"

#define NAMES_MAX 8192          /* entries in all */
#define NAMES_PER_ADDRESS 32
#define GRACE_MS (5 * 60 * 1000)
#define TTL_MAX (24 * 3600)
#define SWEEP_MS 10000

typedef struct {
        struct in6_addr addr; /* the key */
        NameEntry *entries;
} AddressNames;

struct Names {
        GHashTable *by_address; /* AddressNames *, which is its own key */
        guint n;
        gint64 next_sweep;
};

static guint address_hash(gconstpointer p) {
        const uint8_t *bytes = ((const struct in6_addr *) p)->s6_addr;
        guint hash = 5381;
        for (size_t i = 0; i < 16; i++)
                hash = hash * 33 + bytes[i];
        return hash;
}

static gboolean address_equal(gconstpointer a, gconstpointer b) {
        return memcmp(a, b, sizeof(struct in6_addr)) == 0;
}

static void entry_free(NameEntry *entry) {
        g_free(entry->name);
        g_free(entry);
}

static void address_names_free(gpointer p) {
        AddressNames *a = p;
        for (NameEntry *e = a->entries, *next; e; e = next) {
                next = e->next;
                entry_free(e);
        }
        g_free(a);
}

Names *names_new(void) {
        Names *names = g_new0(Names, 1);
        names->by_address = g_hash_table_new_full(address_hash, address_equal, NULL, address_names_free);
        return names;
}

void names_free(Names *names) {
        if (!names)
                return;
        g_hash_table_unref(names->by_address);
        g_free(names);
}

/* Take out the entry of this name, if there is one. */
static NameEntry *take_entry(AddressNames *a, const char *name) {
        for (NameEntry **e = &a->entries; *e; e = &(*e)->next)
                if (g_str_equal((*e)->name, name)) {
                        NameEntry *found = *e;
                        *e = found->next;
                        return found;
                }
        return NULL;
}

/* Drop the entry of this address that would be forgotten first. False: all are the user's. */
static bool drop_oldest(Names *names, AddressNames *a) {
        NameEntry **oldest = NULL;

        for (NameEntry **e = &a->entries; *e; e = &(*e)->next)
                if ((*e)->source != NAME_GIVEN && (!oldest || (*e)->expires < (*oldest)->expires))
                        oldest = e;
        if (!oldest)
                return false;
        NameEntry *entry = *oldest;
        *oldest = entry->next;
        entry_free(entry);
        names->n--;
        return true;
}

/* Make room in the whole table: a quarter goes, so that this is not done for each name anew. */
static void make_room(Names *names) {
        g_autoptr(GArray) times = g_array_new(false, false, sizeof(gint64));
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, names->by_address);
        while (g_hash_table_iter_next(&iter, NULL, &value))
                for (const NameEntry *e = ((AddressNames *) value)->entries; e; e = e->next)
                        if (e->source != NAME_GIVEN)
                                g_array_append_val(times, e->expires);
        if (times->len == 0)
                return;
        gint64 first = G_MAXINT64, last = G_MININT64;
        for (guint i = 0; i < times->len; i++) {
                first = MIN(first, g_array_index(times, gint64, i));
                last = MAX(last, g_array_index(times, gint64, i));
        }
        names->next_sweep = 0;
        names_expire(names, first + (last - first) / 4 + 1);
        names->next_sweep = 0;
}

void names_add(Names *names, const struct in6_addr *addr, const char *name, NameSource source, guint32 ttl, gint64 now_ms) {
        AddressNames *a = g_hash_table_lookup(names->by_address, addr);
        gint64 expires = now_ms + (gint64) MIN(ttl, TTL_MAX) * 1000 + GRACE_MS;

        if (!a) {
                if (names->n >= NAMES_MAX)
                        make_room(names);
                a = g_new0(AddressNames, 1);
                a->addr = *addr;
                g_hash_table_insert(names->by_address, &a->addr, a);
        }
        NameEntry *e = take_entry(a, name);
        if (e) {
                /* An alias that is asked for itself is more than an alias, and what the user gave stays so. */
                e->source = MIN(e->source, source);
                e->expires = MAX(e->expires, expires);
        } else {
                guint count = 0;
                for (const NameEntry *other = a->entries; other; other = other->next)
                        count++;
                if ((count >= NAMES_PER_ADDRESS || names->n >= NAMES_MAX) && !drop_oldest(names, a) && source != NAME_GIVEN)
                        return;
                e = g_new0(NameEntry, 1);
                *e = (NameEntry){ .name = g_strdup(name), .source = source, .expires = expires };
                names->n++;
        }
        e->next = a->entries;
        a->entries = e;
}

const NameEntry *names_of(const Names *names, const struct in6_addr *addr) {
        const AddressNames *a = g_hash_table_lookup(names->by_address, addr);
        return a ? a->entries : NULL;
}

static void expire_entries(Names *names, AddressNames *a, gint64 now_ms) {
        for (NameEntry **e = &a->entries; *e;) {
                NameEntry *entry = *e;
                if (entry->source == NAME_GIVEN || entry->expires > now_ms) {
                        e = &entry->next;
                        continue;
                }
                *e = entry->next;
                entry_free(entry);
                names->n--;
        }
}

void names_expire(Names *names, gint64 now_ms) {
        GHashTableIter iter;
        gpointer value;

        if (now_ms < names->next_sweep)
                return;
        names->next_sweep = now_ms + SWEEP_MS;
        g_hash_table_iter_init(&iter, names->by_address);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                expire_entries(names, value, now_ms);
                if (!((AddressNames *) value)->entries)
                        g_hash_table_iter_remove(&iter);
        }
}
