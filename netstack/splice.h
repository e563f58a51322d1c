/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/events.h"

/*
 * Two connected TCP sockets, of which each gets what the other has: data, half-closes, resets. A slow reader slows the writer, and costs
 * no memory of ours.
 */
typedef struct Splice Splice;

/* What all of them share: pipes that nobody needs just now. */
typedef struct SplicePipes SplicePipes;

typedef enum { SPLICE_BOX, SPLICE_HOST, SPLICE_SIDES } SpliceSideName;

typedef struct {
        EventSource source;
        Splice *splice;
        int fd;                  /* the splice's own; -1: none yet */
        bool readable, writable; /* as far as is known: no EAGAIN since the last event */
        bool urgent;             /* a byte of it was */
        bool ending;             /* an end may stand behind the bytes that are there */
        bool eof;                /* it has said all */
        bool told;               /* ... and the other side knows */
        int pipe[2];             /* what was read from it and the other has not taken; -1: no pipe */
        size_t level;            /* bytes in there */
        guint64 bytes, pieces;   /* read from it since the owner last looked */
} SpliceSide;

/* Member of what carries a connection. */
struct Splice {
        SpliceSide side[SPLICE_SIDES];
        SplicePipes *pipes;
        Events *events;
        EventWork work;
        bool closed;
        /* Something was moved. May be NULL. */
        void (*moved)(Splice *splice);
        /* It is over: both have said all ("closed"), or one was reset or lost ("reset", "timeout"); the sockets are closed. The owner frees. */
        void (*ended)(Splice *splice, const char *how);
};

/* Bounded by the limit of descriptors as it is now; events, which outlives it, knows those of others. */
SplicePipes *splice_pipes_new(const Events *events);
void splice_pipes_free(SplicePipes *pipes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SplicePipes, splice_pipes_free)

/* Is there room for one more, as far as descriptors go? */
bool splice_has_room(const SplicePipes *pipes);

/* Nothing but zeros before; no sockets yet. splice_close() has to follow. */
void splice_init(Splice *splice, Events *events, SplicePipes *pipes);

/* Watch a socket, which is the splice's from now on (closed on failure, too). ready: who gets its events, until splice_start(). False with errno. */
bool splice_watch_take(Splice *splice, SpliceSideName name, int fd, void (*ready)(EventSource *source, uint32_t events));

/* Close one that was no use, as it is; another may follow. */
void splice_unwatch(Splice *splice, SpliceSideName name);

/* Both are watched, and connected: carry. May end it before it returns. */
void splice_start(Splice *splice);

/* Close both; with reset, each peer gets a RST instead of an orderly end. Does not call ended. Harmless where there is nothing to close. */
void splice_close(Splice *splice, bool reset);
