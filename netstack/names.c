/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which address the box knows by which name: what its own DNS answers said, for as long as they said it.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: dns.c teaches, the policy asks.
 *
 * Programs keep addresses longer than a TTL says (connection pools, Java, a browser's own cache), so a name holds for a while more. The
 * box decides how many names it asks for, and whoever owns a name how many addresses and aliases an answer has, so the table has an end. Beyond it
 * what one name has more of than others goes first: so the owner of one cannot have the addresses of others forgotten.
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
        g_ref_string_release(entry->name);
        g_clear_pointer(&entry->asked, g_ref_string_release);
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

static guint count_asked(const AddressNames *a, const char *asked) {
        guint n = 0;

        for (const NameEntry *e = a->entries; e; e = e->next)
                n += e->asked == asked ? 1 : 0;
        return n;
}

/* Drop an entry of this address: of the question that has most of them the one that would be forgotten first. False: all are the user's. */
static bool drop_one(Names *names, AddressNames *a) {
        NameEntry **worst = NULL;
        guint most = 0;

        for (NameEntry **e = &a->entries; *e; e = &(*e)->next) {
                guint n = (*e)->asked ? count_asked(a, (*e)->asked) : 0;
                if (n > most || (n > 0 && n == most && (*e)->expires < (*worst)->expires)) {
                        worst = e;
                        most = n;
                }
        }
        if (!worst)
                return false;
        NameEntry *entry = *worst;
        *worst = entry->next;
        entry_free(entry);
        names->n--;
        return true;
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

static void expire_all(Names *names, gint64 now_ms) {
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, names->by_address);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                expire_entries(names, value, now_ms);
                if (!((AddressNames *) value)->entries)
                        g_hash_table_iter_remove(&iter);
        }
}

/* An entry that may go, and how many of its question's would be forgotten later. */
typedef struct {
        NameEntry *entry;
        guint rank;
} Candidate;

/* Those of a question beside each other, the last to be forgotten first. */
static int compare_asked(gconstpointer a, gconstpointer b) {
        const NameEntry *x = ((const Candidate *) a)->entry, *y = ((const Candidate *) b)->entry;

        if (x->asked != y->asked)
                return GPOINTER_TO_SIZE(x->asked) < GPOINTER_TO_SIZE(y->asked) ? -1 : 1;
        return (x->expires < y->expires) - (x->expires > y->expires);
}

/* The first to go first. */
static int compare_loss(gconstpointer a, gconstpointer b) {
        const Candidate *x = a, *y = b;

        if (x->rank != y->rank)
                return x->rank > y->rank ? -1 : 1;
        return (x->entry->expires > y->entry->expires) - (x->entry->expires < y->entry->expires);
}

/* Make room in the whole table: a quarter goes, so that this is not done for each name anew. */
static void make_room(Names *names) {
        g_autoptr(GArray) candidates = g_array_sized_new(false, false, sizeof(Candidate), NAMES_MAX);
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, names->by_address);
        while (g_hash_table_iter_next(&iter, NULL, &value))
                for (NameEntry *e = ((AddressNames *) value)->entries; e; e = e->next)
                        if (e->source != NAME_GIVEN)
                                g_array_append_val(candidates, ((Candidate){ .entry = e }));
        g_array_sort(candidates, compare_asked);
        Candidate *c = (Candidate *) (void *) candidates->data;
        for (guint i = 1; i < candidates->len; i++)
                c[i].rank = c[i].entry->asked == c[i - 1].entry->asked ? c[i - 1].rank + 1 : 0;
        g_array_sort(candidates, compare_loss);
        for (guint i = 0; i < (candidates->len + 3) / 4; i++)
                c[i].entry->expires = G_MININT64;
        expire_all(names, G_MININT64);
}

/* Room for one more entry of this address. */
static bool has_room(Names *names, AddressNames *a) {
        guint n = 0;

        for (const NameEntry *e = a->entries; e; e = e->next)
                n++;
        return (n < NAMES_PER_ADDRESS || drop_one(names, a)) && names->n < NAMES_MAX;
}

static AddressNames *address_names(Names *names, const struct in6_addr *addr) {
        AddressNames *a = g_hash_table_lookup(names->by_address, addr);

        if (!a) {
                a = g_new0(AddressNames, 1);
                a->addr = *addr;
                g_hash_table_insert(names->by_address, &a->addr, a);
        }
        return a;
}

void names_add(Names *names, const struct in6_addr *addr, const char *name, const char *asked, guint32 ttl, gint64 now_ms) {
        NameSource source = !asked ? NAME_GIVEN : g_str_equal(name, asked) ? NAME_ASKED : NAME_ALIAS;
        gint64 expires = now_ms + (gint64) MIN(ttl, TTL_MAX) * 1000 + GRACE_MS;

        if (names->n >= NAMES_MAX)
                make_room(names);
        AddressNames *a = address_names(names, addr);
        NameEntry *e = take_entry(a, name);
        if (!e) {
                if (!has_room(names, a) && source != NAME_GIVEN)
                        return; /* for so many are the user's */
                e = g_new0(NameEntry, 1);
                *e = (NameEntry){ .name = g_ref_string_new_intern(name), .source = NAME_ALIAS, .expires = expires };
                e->asked = asked ? g_ref_string_new_intern(asked) : NULL;
                names->n++;
        }
        /* An alias that is asked for itself is more than an alias, and what the user gave stays so. */
        if (source < e->source) {
                e->source = source;
                g_clear_pointer(&e->asked, g_ref_string_release);
                e->asked = asked ? g_ref_string_acquire(e->name) : NULL;
        }
        e->expires = MAX(e->expires, expires);
        e->next = a->entries;
        a->entries = e;
}

const NameEntry *names_of(const Names *names, const struct in6_addr *addr) {
        const AddressNames *a = g_hash_table_lookup(names->by_address, addr);
        return a ? a->entries : NULL;
}

void names_expire(Names *names, gint64 now_ms) {
        if (now_ms < names->next_sweep)
                return;
        names->next_sweep = now_ms + SWEEP_MS;
        expire_all(names, now_ms);
}
