/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a detached command writes, kept.
 *
 * Role: launcher; log_entry_parse() is the verb's. Privileges: the caller's. Threads: one. Order: step 10. What comes in is hostile: it is
 * bounded by rotation, and no byte of it can look like an entry of another stream, since a newline always ends an entry.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "logs.h"

#define CHUNK 65536

static const char *const streams[] = { "usbox", "stdout", "stderr" };

struct LogWriter {
        int dir, file;
        int ends[LOG_N_FDS];
        guint64 size, max;
        guint64 lost; /* bytes that could not be written */
        int lost_errno;
};

void log_time(gint64 us, char ret[static LOG_TIME_LEN + 1]) {
        time_t seconds = us / G_USEC_PER_SEC;
        struct tm tm;
        char date[20];

        gmtime_r(&seconds, &tm);
        if (strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
                *date = '\0';
        g_snprintf(ret, LOG_TIME_LEN + 1, "%s.%06d000Z", date, (int) (us % G_USEC_PER_SEC));
}

static bool open_file(LogWriter *w, GError **error) {
        struct stat st;

        w->file = openat(w->dir, LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (w->file < 0 || fstat(w->file, &st) < 0)
                return err_set(error, errno, "the log");
        w->size = (guint64) st.st_size;
        return true;
}

LogWriter *log_writer_new(int box_fd, int ends_take[2], guint64 max, GError **error) {
        LogWriter *w = g_new0(LogWriter, 1);

        w->ends[0] = fd_steal(&ends_take[0]);
        w->ends[1] = fd_steal(&ends_take[1]);
        w->max = max;
        w->file = -1;
        w->dir = fcntl(box_fd, F_DUPFD_CLOEXEC, 3);
        if (w->dir < 0 || !fd_set_nonblock(w->ends[0], true) || !fd_set_nonblock(w->ends[1], true))
                err_set(error, errno, "the log");
        else if (open_file(w, error))
                return w;
        /* Not by reading to their end: nobody else has closed them. */
        fd_closep(&w->ends[0]);
        fd_closep(&w->ends[1]);
        log_writer_free(w);
        return NULL;
}

static void append_entry(GString *out, const char *time, int stream, char tag, const char *text, size_t len) {
        g_string_append_printf(out, "%s %s %c ", time, streams[stream], tag);
        g_string_append_len(out, text, (gssize) len);
        g_string_append_c(out, '\n');
}

static void rotate(LogWriter *w) {
        if (renameat(w->dir, LOG_FILE, w->dir, LOG_OLD) < 0) {
                log_step("log: %s", err_text(errno));
                return;
        }
        fd_closep(&w->file);
        (void) open_file(w, NULL);
}

/* Of ours: what is missing there. */
static GString *note_new(const char *text) {
        char time[LOG_TIME_LEN + 1];
        GString *note = g_string_new(NULL);

        log_time(g_get_real_time(), time);
        append_entry(note, time, 0, 'F', text, strlen(text));
        return note;
}

/* In front of what comes next. */
static void prepend_lost(const LogWriter *w, GString *out) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT " bytes of log could not be written: %s", w->lost, err_text(w->lost_errno));
        g_autoptr(GString) note = note_new(text);

        g_string_prepend_len(out, note->str, (gssize) note->len);
}

/* All of it or nothing: an entry that a full disk cut short would swallow the next one. */
static void write_out(LogWriter *w, GString *out) {
        if (w->lost > 0)
                prepend_lost(w, out);
        if (w->size > 0 && w->size + out->len > w->max)
                rotate(w);
        if (w->file >= 0 && fd_write_all(w->file, out->str, out->len)) {
                w->size += out->len;
                w->lost = 0;
                return;
        }
        w->lost_errno = errno;
        w->lost += out->len;
        if (w->file >= 0 && ftruncate(w->file, (off_t) w->size) < 0)
                log_step("log: %s", err_text(errno));
}

/* The command learns by EPIPE, and who reads the log by this. */
static void give_up_reading(LogWriter *w, int i, int errnum) {
        g_autofree char *text = g_strdup_printf("the rest of %s could not be read: %s", streams[1 + i], err_text(errnum));
        g_autoptr(GString) note = note_new(text);

        write_out(w, note);
}

/* False: nothing more for now, or for ever (then the end is closed). */
static bool take(LogWriter *w, int i) {
        char buffer[CHUNK], time[LOG_TIME_LEN + 1];
        ssize_t n = w->ends[i] >= 0 ? TEMP_FAILURE_RETRY(read(w->ends[i], buffer, sizeof buffer)) : 0;

        if (n < 0 && errno == EAGAIN)
                return false;
        if (n < 0)
                give_up_reading(w, i, errno);
        if (n <= 0) {
                fd_closep(&w->ends[i]);
                return false;
        }
        g_autoptr(GString) out = g_string_sized_new((size_t) n + 256);
        log_time(g_get_real_time(), time);
        for (const char *p = buffer, *end = buffer + n; p < end;) {
                const char *newline = memchr(p, '\n', (size_t) (end - p)), *stop = newline ? newline : end;
                append_entry(out, time, 1 + i, newline ? 'F' : 'P', p, (size_t) (stop - p));
                p = newline ? newline + 1 : end;
                /* A flood of empty lines grows to many times itself: the bound is kept in pieces. */
                if (out->len >= CHUNK || p == end) {
                        write_out(w, out);
                        g_string_truncate(out, 0);
                }
        }
        return true;
}

guint64 log_writer_free(LogWriter *w) {
        if (!w)
                return 0;
        for (int i = 0; i < LOG_N_FDS; i++) {
                while (take(w, i))
                        ;
                fd_closep(&w->ends[i]);
        }
        g_autoptr(GString) nothing = g_string_new(NULL);
        if (w->lost > 0)
                write_out(w, nothing);
        guint64 lost = w->lost;
        fd_closep(&w->file);
        fd_closep(&w->dir);
        g_free(w);
        return lost;
}

void log_writer_poll(const LogWriter *w, struct pollfd fds[static LOG_N_FDS]) {
        for (int i = 0; i < LOG_N_FDS; i++)
                fds[i] = (struct pollfd){ .fd = w->ends[i], .events = POLLIN };
}

void log_writer_dispatch(LogWriter *w, const struct pollfd fds[static LOG_N_FDS]) {
        for (int i = 0; i < LOG_N_FDS; i++)
                if (fds[i].revents)
                        (void) take(w, i);
}

bool log_entry_parse(const char *line, size_t len, LogEntry *ret) {
        const char *end = line + len, *at = line + LOG_TIME_LEN + 1;

        *ret = (LogEntry){ .time = line, .stream = -1 };
        if (len < LOG_TIME_LEN + 1 || line[LOG_TIME_LEN] != ' ' || line[LOG_TIME_LEN - 1] != 'Z')
                return false;
        for (int i = 0; i < (int) G_N_ELEMENTS(streams); i++) {
                size_t n = strlen(streams[i]);
                if ((size_t) (end - at) >= n + 3 && memcmp(at, streams[i], n) == 0 && at[n] == ' ' && at[n + 2] == ' ') {
                        ret->stream = i;
                        ret->whole = at[n + 1] == 'F';
                        ret->text = at + n + 3;
                        ret->len = (size_t) (end - ret->text);
                        return ret->whole || at[n + 1] == 'P';
                }
        }
        return false;
}
