/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bad network takes its time for each frame, however small.
 */
#include "netstack/events.h"
#include "netstack/shape.h"

static void count(uint8_t *frame, size_t len, void *data) {
        ++*(guint *) data;
}

/* At this rate a frame takes 840 ns. None is dropped, since all of them together take less than the queue has room for. */
static void test_small_frames(void) {
        const guint frames = 200000;
        const NetShape config = { .up_bps = 400000000 };
        const ShapeSink sinks[SHAPE_DIRECTIONS] = { count, count };
        static const uint8_t frame[42];
        guint arrived = 0;

        g_autoptr(Events) events = events_new(NULL);
        g_autoptr(Shape) shape = shape_new(events, &config, sinks, &arrived);
        gint64 begin = g_get_monotonic_time();
        for (guint i = 0; i < frames; i++)
                shape_put(shape, SHAPE_UP, frame, sizeof frame);
        while (arrived < frames)
                g_assert_true(events_turn(events, NULL));
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, frames * 840 / 1000 - 1);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-shape/small-frames", test_small_frames);
        return g_test_run();
}
