/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bad network: --net-rate, --net-delay, --net-loss.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: between the TAP and everything else, for each frame of both directions.
 *
 * Each direction is a wire: a frame is lost or not, waits until those before it have gone at the wire's rate, and is then under way for the delay.
 * A wire keeps order, so a frame that was luckier with its jitter waits for the one before it. In front of it is a queue for a fifth of a second;
 * what does not fit is dropped, as by any router, and that is how TCP learns of the rate.
 */
#include <string.h>
#include <sys/random.h>

#include "netstack/shape.h"

#define NS_PER_US G_GINT64_CONSTANT(1000)

#define QUEUE_US 200000

/* A frame is never refused an empty queue, however slow the wire is; and a queue has an end, however long the delay is. */
#define UNDER_WAY_MAX (32 * 1024 * 1024)

typedef struct {
        gint64 due; /* us, g_get_monotonic_time() */
        size_t len;
        uint8_t bytes[];
} Frame;

typedef struct {
        guint64 rate;     /* bits per second; 0: any */
        gint64 free_at;   /* when the last bit of the last frame has gone, in ns: of a fast wire a small frame takes less than a us */
        gint64 last_due;
        GQueue under_way; /* of Frame */
        size_t bytes;
        ShapeSink sink;
} Wire;

struct Shape {
        Events *events;
        NetShape config;
        Wire wires[SHAPE_DIRECTIONS];
        EventTimer timer;
        uint64_t random;
        void *data;
};

/* xorshift64*: as good as losses need it. */
static uint32_t next_random(Shape *shape) {
        shape->random ^= shape->random >> 12;
        shape->random ^= shape->random << 25;
        shape->random ^= shape->random >> 27;
        return (uint32_t) ((shape->random * 0x2545f4914f6cdd1dULL) >> 32);
}

static void set_timer(Shape *shape) {
        gint64 first = G_MAXINT64, now = g_get_monotonic_time();

        for (int i = 0; i < SHAPE_DIRECTIONS; i++) {
                const Frame *frame = g_queue_peek_head(&shape->wires[i].under_way);
                if (frame)
                        first = MIN(first, frame->due);
        }
        /* Rounded up: a millisecond late rather than a turn of the loop for nothing. */
        shape->timer.at = first == G_MAXINT64 ? -1 : now / 1000 + MAX(first - now + 999, 0) / 1000;
}

static void on_timer(EventTimer *timer) {
        Shape *shape = EVENTS_OWNER(timer, Shape, timer);
        gint64 now = g_get_monotonic_time();

        for (int i = 0; i < SHAPE_DIRECTIONS; i++) {
                Wire *wire = &shape->wires[i];
                for (Frame *frame; (frame = g_queue_peek_head(&wire->under_way)) && frame->due <= now;) {
                        g_queue_pop_head(&wire->under_way);
                        wire->bytes -= frame->len;
                        wire->sink(frame->bytes, frame->len, shape->data);
                        g_free(frame);
                }
        }
        set_timer(shape);
}

Shape *shape_new(Events *events, const NetShape *config, const ShapeSink sinks[static SHAPE_DIRECTIONS], void *data) {
        Shape *shape = g_new0(Shape, 1);

        *shape = (Shape){ .events = events, .config = *config, .timer = { .fire = on_timer, .at = -1 }, .data = data };
        for (int i = 0; i < SHAPE_DIRECTIONS; i++) {
                shape->wires[i].rate = i == SHAPE_UP ? config->up_bps : config->down_bps;
                shape->wires[i].sink = sinks[i];
                g_queue_init(&shape->wires[i].under_way);
        }
        if (getrandom(&shape->random, sizeof shape->random, 0) != sizeof shape->random || shape->random == 0)
                shape->random = 1;
        events_add_timer(events, &shape->timer);
        return shape;
}

void shape_free(Shape *shape) {
        if (!shape)
                return;
        for (int i = 0; i < SHAPE_DIRECTIONS; i++)
                g_queue_clear_full(&shape->wires[i].under_way, g_free);
        g_free(shape);
}

/* The delay with its jitter, in us. */
static gint64 delay_of(Shape *shape) {
        const NetShape *c = &shape->config;
        return (gint64) c->delay_us - c->jitter_us + (c->jitter_us > 0 ? next_random(shape) % (2 * (gint64) c->jitter_us + 1) : 0);
}

void shape_put(Shape *shape, ShapeDirection direction, const void *frame, size_t len) {
        Wire *wire = &shape->wires[direction];
        gint64 now = g_get_monotonic_time();

        if (next_random(shape) % 1000000 < shape->config.loss_ppm)
                return;
        gint64 start = MAX(now * NS_PER_US, wire->free_at);
        if (wire->bytes + len > UNDER_WAY_MAX || start - now * NS_PER_US > QUEUE_US * NS_PER_US)
                return;
        if (wire->rate > 0)
                wire->free_at = start + (gint64) (len * 8 * G_USEC_PER_SEC * NS_PER_US / wire->rate);
        Frame *copy = g_malloc(sizeof *copy + len);
        copy->due = wire->last_due = MAX(MAX(now, wire->free_at / NS_PER_US) + delay_of(shape), wire->last_due);
        copy->len = len;
        memcpy(copy->bytes, frame, len);
        g_queue_push_tail(&wire->under_way, copy);
        wire->bytes += len;
        set_timer(shape);
}
