/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/*
 * The event loop: descriptors (epoll), timers, and work that is put off to the end of a turn. Sources, timers and works are
 * members of what they belong to; nothing is allocated for one, and the owner is found by their offset (EVENTS_OWNER).
 */
typedef struct Events Events;
typedef struct EventSource EventSource;
typedef struct EventTimer EventTimer;
typedef struct EventWork EventWork;

struct EventSource {
        void (*ready)(EventSource *source, uint32_t events); /* EPOLLIN, ... */
        int fd;                                              /* borrowed; -1: not in the loop */
};

struct EventTimer {
        void (*fire)(EventTimer *timer);
        int64_t at; /* ms as events_now() counts; -1: not set. The loop looks at it before each wait. */
};

struct EventWork {
        void (*run)(EventWork *work);
        GList link; /* link.data: NULL while it is not queued */
};

#define EVENTS_OWNER(pointer, Type, member) ((Type *) (void *) ((char *) (pointer) - offsetof(Type, member)))

Events *events_new(GError **error);
void events_free(Events *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Events, events_free)

/* Watch fd (borrowed) for mask, EPOLLET among it where the owner wants edges. False with errno: no memory, or the limit of watches. */
bool events_add(Events *events, EventSource *source, int fd, uint32_t mask);
bool events_change(Events *events, EventSource *source, uint32_t mask);

/* Watch it no more: before its fd is closed. What has come for it in this turn is forgotten, so the owner may be freed at once. */
void events_remove(Events *events, EventSource *source);

/* How many descriptors are watched: all that there are for flows, names and ports. */
guint events_watched(const Events *events);

/* Timers are few and live as long as the loop: one for each module, not one for each flow. */
void events_add_timer(Events *events, EventTimer *timer);

/* Run it once, after all that is ready in this turn; the next wait does not wait. Harmless while it is queued. */
void events_later(Events *events, EventWork *work);
void events_cancel(Events *events, EventWork *work);

/* What was done in this turn is likely to be answered in a moment. Once for each turn. */
void events_expect(Events *events);

/* ms of the monotonic clock, as of the last wait's end. */
int64_t events_now(const Events *events);

/* Wait for something, and serve it. */
bool events_turn(Events *events, GError **error);
