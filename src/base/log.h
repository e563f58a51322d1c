/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Lines on stderr that are no errors. In the launcher they go to the terminal as "usbox: ..."; helpers have the
 * same stderr and set their own name. Each line is one write(2), so that lines of two processes never mix.
 */
void log_init(const char *program, bool verbose);

/* How a process ends that has called log_init() and gets no memory, once that is on stderr; the launcher's own status for what usbox cannot do. */
#define LOG_EXIT_NO_MEMORY 125
bool log_is_verbose(void);

/* Something the user should know although nothing failed. Always printed. */
void log_note(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* Only with --verbose; prefixed with the milliseconds since log_init(). */
void log_step(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
