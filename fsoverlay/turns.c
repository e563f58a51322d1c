/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which threads wait for requests, and how.
 *
 * Role: usbox-fs. Privileges: none. Threads: all that answer requests; what they share is atomic, who stays away waits for a condition.
 *
 * Most of a request's time is waking up: the server when it comes, the client when it is answered, each mostly on a processor that
 * slept meanwhile. While one process asks one thing after the other, and each soon after the answer to the last one, one thread is enough. The
 * others stay away, so that it is always the same one, and that one looks for a while whether the next request is there before it lies
 * down (as KVM does, halt_poll_ns): nobody has to wake it. That ends with whatever is not like this: another process asks, a request may
 * take long or did, too many come late. Then all wait in read(2), and the kernel gives each request to one of them.
 *
 * Looking is for idle processors. Where the client would have needed this one, it is in vain, and the next try is put off further and further.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <glib.h>

#include "fsoverlay/turns.h"

#define SOON_NS 150000u         /* after an answer: the next request belongs to the same stream */
#define LOOK_NS 100000u         /* how long is looked for it */
#define SLOW_NS 1000000u        /* a request that took this long was no quick one */
#define NEED_MIN 16             /* so many requests, each soon after the last, make a stream */
#define NEED_MAX 4096
#define LATE 4                  /* one that came late counts against so many that came soon */
#define WORTH 8u                /* to look is worth it where this many were found for one time in vain */
#define WATCH_NS 20000000       /* those who stay away look after the one that works */

struct Turns {
        int dev;
        bool looks; /* it may, and there is more than one processor */
        _Atomic unsigned active; /* threads that read, or answer */
        _Atomic unsigned away;
        _Atomic bool closed;
        _Atomic uint32_t pid;
        _Atomic int score, need; /* how much of a stream it is; from where on it is taken for one */
        _Atomic unsigned found;  /* by looking, since it was in vain */
        _Atomic uint64_t answered;     /* when */
        _Atomic uint64_t n_answered;
        pthread_mutex_t lock;
        pthread_cond_t wake;
};

static uint64_t now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

Turns *turns_new(int dev, bool may_look) {
        Turns *t = calloc(1, sizeof *t);
        pthread_condattr_t attr;
        cpu_set_t cpus;

        if (!t)
                return NULL;
        t->dev = dev;
        t->looks = may_look && sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
        t->need = NEED_MIN;
        pthread_mutex_init(&t->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&t->wake, &attr);
        pthread_condattr_destroy(&attr);
        return t;
}

void turns_enter(Turns *t) {
        atomic_fetch_add(&t->active, 1);
}

static bool is_stream(Turns *t) {
        return atomic_load(&t->score) >= atomic_load(&t->need);
}

static void call_all(Turns *t) {
        if (atomic_load(&t->away) == 0)
                return;
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->lock);
}

static void set_score(Turns *t, int score) {
        atomic_store(&t->score, CLAMP(score, 0, atomic_load(&t->need) + NEED_MIN));
        if (!is_stream(t))
                call_all(t);
}

/* Until the stream ends; or until the thread that is left has not answered anything for a while, and may be stuck. */
static void stay_away(Turns *t) {
        pthread_mutex_lock(&t->lock);
        atomic_fetch_add(&t->away, 1);
        if (atomic_fetch_sub(&t->active, 1) > 1) {
                bool stuck = false;
                while (!stuck && is_stream(t) && !atomic_load(&t->closed)) {
                        uint64_t seen = atomic_load(&t->n_answered), until = now_ns() + WATCH_NS;
                        struct timespec end = { (time_t) (until / 1000000000u), (long) (until % 1000000000u) };
                        stuck = pthread_cond_timedwait(&t->wake, &t->lock, &end) == ETIMEDOUT && atomic_load(&t->n_answered) == seen;
                }
        }
        atomic_fetch_add(&t->active, 1);
        atomic_fetch_sub(&t->away, 1);
        pthread_mutex_unlock(&t->lock);
}

static void look(Turns *t) {
        struct pollfd device = { .fd = t->dev, .events = POLLIN };
        uint64_t end = now_ns() + LOOK_NS;

        do
                if (poll(&device, 1, 0) != 0) {
                        atomic_fetch_add(&t->found, 1);
                        return;
                }
        while (now_ns() < end);
        atomic_store(&t->need, atomic_exchange(&t->found, 0) >= WORTH ? NEED_MIN : MIN(atomic_load(&t->need) * 2, NEED_MAX));
        set_score(t, atomic_load(&t->score));
}

void turns_await(Turns *t) {
        if (!t->looks || !is_stream(t))
                return;
        if (atomic_load(&t->active) > 1)
                stay_away(t);
        else
                look(t);
}

uint64_t turns_begin(Turns *t, uint32_t pid, bool may_take_long) {
        uint64_t now = now_ns();
        bool same = pid == 0 || atomic_exchange(&t->pid, pid) == pid;

        if (!same || may_take_long)
                set_score(t, 0);
        else
                set_score(t, atomic_load(&t->score) + (now - atomic_load(&t->answered) < SOON_NS ? 1 : -LATE));
        return now;
}

void turns_end(Turns *t, uint64_t begun) {
        uint64_t now = now_ns();

        atomic_store(&t->answered, now);
        atomic_fetch_add(&t->n_answered, 1);
        if (now - begun > SLOW_NS)
                set_score(t, 0);
}

void turns_close(Turns *t) {
        atomic_store(&t->closed, true);
        call_all(t);
}
