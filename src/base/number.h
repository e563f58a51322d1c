/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Numbers and times as people type them. Strict: no sign, no blank, no exponent. */

/* What a word of which there are n ends with: "s", but for one. */
const char *number_plural(guint64 n);

/* A decimal fraction at *p ("12", "1.5", ".5"), moved past. False where there is none. */
bool number_scan(const char **p, double *ret);

/* "1.5s" "2m" "1h30m" "250ms"; a bare number is seconds. At most 146 years. */
bool number_duration(const char *text, guint64 *ret_ns);
