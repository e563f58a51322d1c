/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/* --time-offset monotonic=SEC,boottime=SEC (time_namespaces(7)) */
typedef struct {
        bool given;
        gint64 monotonic, boottime; /* seconds */
} TimeSpec;

extern const Option timens_options[];

/* That no clock of the box would be before zero, which the kernel refuses. Reads the clocks. */
bool timens_check(Spec *draft, GError **error);
