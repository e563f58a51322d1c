/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <poll.h>
#include <stdbool.h>

/*
 * The output of a detached box's command: the files log and, older, log.1 in the box's directory. A line of them is
 *   TIME STREAM TAG TEXT
 * TIME is ISO 8601 with nanoseconds in UTC, STREAM stdout or stderr (or usbox: what usbox itself has to say of the log), TAG F for a
 * line's end and P where the line goes on in the stream's next entry: the form of Kubernetes' container logs.
 */
#define LOG_FILE "log"
#define LOG_OLD "log.1"

#define LOG_SIZE_DEFAULT (16 * 1024 * 1024)
#define LOG_SIZE_MIN (256 * 1024)
#define LOG_SIZE_MAX (1024 * 1024 * 1024)

typedef struct LogWriter LogWriter;
#define LOG_N_FDS 2

/* ends (taken, read ends of pipes): stdout's and stderr's. A file that has grown to max becomes the old one: so the last max bytes are always there. */
LogWriter *log_writer_new(int box_fd, int ends_take[2], guint64 max, GError **error);
/* Writes what is still in the pipes. How many bytes could not be written without the log's saying so. */
guint64 log_writer_free(LogWriter *w);

void log_writer_poll(const LogWriter *w, struct pollfd fds[static LOG_N_FDS]);
void log_writer_dispatch(LogWriter *w, const struct pollfd fds[static LOG_N_FDS]);

/* One line of the file, taken apart in place: len is without its newline. False: it is none. */
typedef struct {
        const char *time; /* LOG_TIME_LEN characters */
        int stream;       /* 1, 2; 0: usbox's own */
        bool whole;       /* the line ends here */
        const char *text;
        size_t len;
} LogEntry;
#define LOG_TIME_LEN 30
bool log_entry_parse(const char *line, size_t len, LogEntry *ret);

/* A moment (microseconds, real time) in the form of TIME, for comparisons as text. */
void log_time(gint64 us, char ret[static LOG_TIME_LEN + 1]);
