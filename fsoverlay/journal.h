/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * --trace-files: what the box read, wrote, listed and found absent, each only the first time. A line of JSON for each:
 *
 *   {"time":1764102345.123,"event":"read","path":"/usr/lib/libz.so.1"}
 *
 * "time" is in seconds since 1970. Bytes of a name that are no UTF-8 are \udcXX (jsonbytes.h).
 *
 * What a box can make us keep is bounded: after JOURNAL_EVENTS_MAX events or JOURNAL_BYTES_MAX bytes there is one more line,
 * {"time":…,"event":"overflow"}, and nothing after it. A journal without that line is complete. (To go on without knowing what was said
 * would let a box that asks for random names fill the host's disk.)
 */
#define JOURNAL_EVENTS_MAX 1000000u
#define JOURNAL_BYTES_MAX (G_GUINT64_CONSTANT(1) << 30)

typedef struct Journal Journal;

/* Lines go to fd, which is the journal's from now on and is written at its end or where it stands. SIGPIPE is the program's to ignore. */
Journal *journal_new(int fd_take);

/* Writes what is still to be written, closes the descriptor. NULL is nothing. */
void journal_free(Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_free)

/* what: "read", "write", "absent", "list"; path: absolute in the box. For any thread; journal NULL is nothing. Lines are gathered and written
 * with the first event that comes a second after the last writing, or when they are 64 KiB. A write that fails is said once on
 * stderr and ends the journal. */
void journal_event(Journal *journal, const char *what, const char *path);

/* Write what has been gathered: for a moment without requests. */
void journal_flush(Journal *journal);
