/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The event loop: what waits for what, and in which order it is served.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: made first; one turn after the other until the launcher is gone.
 *
 * A turn: wait; serve the descriptors that are ready; fire timers that are due; run what was put off. One epoll set holds them all, so
 * what a turn costs depends on how many are ready and not on how many there are.
 *
 * Most of the time that a short message takes is waking up who waits for it. Where one soon follows the other, as questions and answers do,
 * the wait looks for a moment whether the next is there before it lies down (as KVM does, halt_poll_ns). That is so only as long as it mostly
 * was there: a peer that takes its time, and a box that does nothing, are waited for asleep.
 */
#include <errno.h>
#include <sched.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/events.h"

#define BATCH_MAX 256

#define NS_PER_MS 1000000
#define LOOK_NS 50000   /* how long is looked for what comes next */
#define SOON_NS 100000  /* a wait that was no longer would have been as good as none, but for the waking up in it */
#define LOOK_FROM 16    /* so many waits, each of which was short, make it worth looking */
#define LOOK_MAX 32
#define LATE 4          /* a long one counts against so many short ones */

struct Events {
        int epoll;
        int64_t now;       /* ns */
        bool may_look;     /* there is more than one processor */
        bool expects;      /* events_expect() in this turn */
        int soon;          /* how many of the last waits that something was expected in were short */
        GPtrArray *timers; /* of EventTimer *, borrowed */
        GQueue works;
        struct epoll_event batch[BATCH_MAX];
        int at, n; /* of the batch: being served, and all */
        guint watched;
};

static int64_t clock_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t) now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

Events *events_new(GError **error) {
        g_autoptr(Events) events = g_new0(Events, 1);
        cpu_set_t cpus;

        events->epoll = epoll_create1(EPOLL_CLOEXEC);
        events->timers = g_ptr_array_new();
        events->now = clock_ns();
        events->may_look = sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
        g_queue_init(&events->works);
        if (events->epoll < 0) {
                err_set(error, errno, "epoll_create1");
                return NULL;
        }
        return g_steal_pointer(&events);
}

void events_free(Events *events) {
        if (!events)
                return;
        fd_closep(&events->epoll);
        g_ptr_array_unref(events->timers);
        g_free(events);
}

bool events_add(Events *events, EventSource *source, int fd, uint32_t mask) {
        struct epoll_event event = { .events = mask, .data.ptr = source };

        source->fd = fd;
        if (epoll_ctl(events->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
                source->fd = -1;
                return false;
        }
        events->watched++;
        return true;
}

bool events_change(Events *events, EventSource *source, uint32_t mask) {
        struct epoll_event event = { .events = mask, .data.ptr = source };
        return epoll_ctl(events->epoll, EPOLL_CTL_MOD, source->fd, &event) == 0;
}

void events_remove(Events *events, EventSource *source) {
        if (source->fd < 0)
                return;
        (void) epoll_ctl(events->epoll, EPOLL_CTL_DEL, source->fd, NULL);
        source->fd = -1;
        events->watched--;
        for (int i = events->at; i < events->n; i++)
                if (events->batch[i].data.ptr == source)
                        events->batch[i].data.ptr = NULL;
}

guint events_watched(const Events *events) {
        return events->watched;
}

void events_add_timer(Events *events, EventTimer *timer) {
        g_ptr_array_add(events->timers, timer);
}

void events_later(Events *events, EventWork *work) {
        if (work->link.data)
                return;
        work->link.data = work;
        g_queue_push_tail_link(&events->works, &work->link);
}

void events_cancel(Events *events, EventWork *work) {
        if (!work->link.data)
                return;
        g_queue_unlink(&events->works, &work->link);
        work->link.data = NULL;
}

int64_t events_now(const Events *events) {
        return events->now / NS_PER_MS;
}

/* ms until the first timer; -1: none is set. */
static int wait_time(const Events *events) {
        int64_t first = G_MAXINT64;

        if (events->works.length > 0)
                return 0;
        for (guint i = 0; i < events->timers->len; i++) {
                const EventTimer *timer = events->timers->pdata[i];
                if (timer->at >= 0 && timer->at < first)
                        first = timer->at;
        }
        if (first == G_MAXINT64)
                return -1;
        int64_t now = clock_ns() / NS_PER_MS;
        return first <= now ? 0 : (int) MIN(first - now, G_MAXINT);
}

static void fire_timers(Events *events) {
        for (guint i = 0; i < events->timers->len; i++) {
                EventTimer *timer = events->timers->pdata[i];
                if (timer->at >= 0 && timer->at <= events_now(events)) {
                        timer->at = -1;
                        timer->fire(timer);
                }
        }
}

/* Only what was queued before: who queues itself again has its turn in the next one. */
static void run_works(Events *events) {
        for (guint n = events->works.length; n > 0 && events->works.length > 0; n--) {
                GList *link = g_queue_pop_head_link(&events->works);
                EventWork *work = link->data;
                link->data = NULL;
                work->run(work);
        }
}

void events_expect(Events *events) {
        events->expects = true;
}

/* Is there something, without a wait? Others who want this processor have it meanwhile. */
static int look(Events *events, int64_t end) {
        int n;

        while ((n = epoll_wait(events->epoll, events->batch, BATCH_MAX, 0)) == 0 && clock_ns() < end)
                (void) sched_yield();
        return n;
}

static int wait_for_events(Events *events) {
        bool expects = events->expects && events->may_look && events->works.length == 0;
        int64_t start = expects ? clock_ns() : 0;
        int n = 0;

        events->expects = false;
        if (expects && events->soon >= LOOK_FROM)
                n = look(events, start + LOOK_NS);
        if (n == 0)
                n = epoll_wait(events->epoll, events->batch, BATCH_MAX, wait_time(events));
        events->now = clock_ns();
        if (expects)
                events->soon = CLAMP(events->soon + (events->now - start < SOON_NS ? 1 : -LATE), 0, LOOK_MAX);
        return n;
}

bool events_turn(Events *events, GError **error) {
        events->n = wait_for_events(events);
        if (events->n < 0 && errno != EINTR)
                return err_set(error, errno, "epoll_wait");

        for (events->at = 0; events->at < events->n; events->at++) {
                EventSource *source = events->batch[events->at].data.ptr;
                if (source)
                        source->ready(source, events->batch[events->at].events);
        }
        events->n = 0;
        fire_timers(events);
        run_works(events);
        return true;
}
