/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of a box's first accesses.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any, one lock. Order: from the first request to the last.
 *
 * Theory of operation. Events are known by a 64-bit hash of kind and path alone, under a key that the box cannot know (or it could make names that
 * hide others): a table of 1 million takes 16 MB at most, and two names have the same one once in 30 million such tables. The
 * hash is SipHash-1-3, as tables of hostile keys use it elsewhere.
 */
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "fsoverlay/journal.h"
#include "fsoverlay/jsonbytes.h"

#define BUFFER_SIZE 65536u
#define FLUSH_USEC G_USEC_PER_SEC
#define TABLE_START 1024u

struct Journal {
        int fd;
        guint64 key[2];
        pthread_mutex_t lock; /* for all below */
        guint64 *table; /* open addressing; 0 is free */
        guint32 size, used; /* size is a power of two, used at most half of it */
        guint64 bytes;
        GString *buffer;
        gint64 flushed; /* g_get_monotonic_time() */
        bool ended;     /* overflow or error: nothing more */
};

static guint64 rotate(guint64 x, unsigned by) {
        return x << by | x >> (64 - by);
}

static void sip_round(guint64 v[4]) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
}

static void sip_word(guint64 v[4], guint64 word) {
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
}

/* Of the first letter of what, which is enough to tell the four kinds, and path. */
static guint64 hash_event(const guint64 key[2], char what, const char *path) {
        guint64 v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };
        size_t len = strlen(path);

        for (; len >= 8; path += 8, len -= 8) {
                guint64 word;
                memcpy(&word, path, 8);
                sip_word(v, word);
        }
        guint64 tail = 0;
        memcpy(&tail, path, len);
        sip_word(v, tail);
        sip_word(v, (unsigned char) what | (guint64) len << 8);
        v[2] ^= 0xff;
        for (int i = 0; i < 3; i++)
                sip_round(v);
        guint64 hash = v[0] ^ v[1] ^ v[2] ^ v[3];
        return hash ? hash : 1;
}

static guint64 *table_find(guint64 *table, guint32 size, guint64 hash) {
        guint32 i = (guint32) hash & (size - 1);
        while (table[i] && table[i] != hash)
                i = (i + 1) & (size - 1);
        return &table[i];
}

/* Twice as large; false without memory. */
static bool table_grow(Journal *j) {
        guint64 *larger = g_try_new0(guint64, (gsize) j->size * 2);
        if (!larger)
                return false;
        for (guint32 i = 0; i < j->size; i++)
                if (j->table[i])
                        *table_find(larger, j->size * 2, j->table[i]) = j->table[i];
        g_free(j->table);
        j->table = larger;
        j->size *= 2;
        return true;
}

static void flush(Journal *j) {
        if (j->buffer->len == 0)
                return;
        if (!fd_write_all(j->fd, j->buffer->str, j->buffer->len)) {
                log_note("trace of files: %s; it ends here", err_text(errno));
                j->ended = true;
        }
        g_string_truncate(j->buffer, 0);
        j->flushed = g_get_monotonic_time();
}

static void append_line(Journal *j, const char *what, const char *path) {
        struct timespec now;
        gsize before = j->buffer->len;

        clock_gettime(CLOCK_REALTIME, &now);
        g_string_append_printf(j->buffer, "{\"time\":%lld.%03ld,\"event\":\"%s\"", (long long) now.tv_sec, now.tv_nsec / 1000000, what);
        if (path) {
                g_string_append(j->buffer, ",\"path\":");
                jsonbytes_append(j->buffer, path);
        }
        g_string_append(j->buffer, "}\n");
        j->bytes += j->buffer->len - before;
        if (j->buffer->len >= BUFFER_SIZE || g_get_monotonic_time() - j->flushed >= FLUSH_USEC)
                flush(j);
}

Journal *journal_new(int fd_take) {
        Journal *j = g_new0(Journal, 1);
        j->fd = fd_take;
        j->size = TABLE_START;
        j->table = g_new0(guint64, j->size);
        j->buffer = g_string_sized_new(BUFFER_SIZE + 8192);
        pthread_mutex_init(&j->lock, NULL);
        while (getrandom(j->key, sizeof j->key, 0) != sizeof j->key) /* of 16 bytes only a signal before the pool is ready can fail */
                ;
        return j;
}

void journal_free(Journal *j) {
        if (!j)
                return;
        flush(j);
        fd_closep(&j->fd);
        pthread_mutex_destroy(&j->lock);
        g_string_free(j->buffer, TRUE);
        g_free(j->table);
        g_free(j);
}

/* Under the lock. */
static void add_event(Journal *j, const char *what, const char *path, guint64 hash) {
        guint64 *place = table_find(j->table, j->size, hash);

        if (*place)
                return;
        if (j->used >= JOURNAL_EVENTS_MAX || j->bytes >= JOURNAL_BYTES_MAX || (j->used * 2 >= j->size && !table_grow(j))) {
                append_line(j, "overflow", NULL);
                flush(j);
                j->ended = true;
                return;
        }
        *table_find(j->table, j->size, hash) = hash;
        j->used++;
        append_line(j, what, path);
}

void journal_event(Journal *j, const char *what, const char *path) {
        if (!j)
                return;
        guint64 hash = hash_event(j->key, *what, path);

        pthread_mutex_lock(&j->lock);
        if (!j->ended)
                add_event(j, what, path, hash);
        pthread_mutex_unlock(&j->lock);
}

void journal_flush(Journal *j) {
        if (!j)
                return;
        pthread_mutex_lock(&j->lock);
        if (!j->ended)
                flush(j);
        pthread_mutex_unlock(&j->lock);
}
