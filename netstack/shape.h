/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "netstack/config.h"
#include "netstack/events.h"

/* A bad network, to test programs under: a rate, a delay and losses for the frames of both directions. */
typedef struct Shape Shape;

typedef enum { SHAPE_UP, SHAPE_DOWN, SHAPE_DIRECTIONS } ShapeDirection; /* out of the box, into the box */

/* Where frames go on; the frame may be written to. */
typedef void (*ShapeSink)(uint8_t *frame, size_t len, void *data);

Shape *shape_new(Events *events, const NetShape *config, const ShapeSink sinks[static SHAPE_DIRECTIONS], void *data);
void shape_free(Shape *shape);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Shape, shape_free)

/* A frame on its way: it comes out later, or never. */
void shape_put(Shape *shape, ShapeDirection direction, const void *frame, size_t len);
