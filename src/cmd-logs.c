/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox logs: what the command of a detached box wrote.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Only the files are read; of the launcher no more is wanted than its end.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"
#include "logs.h"

const VerbOption logs_options[] = {
        { .name = "follow", .short_name = 'f', .help = "go on with what is written until the box has ended" },
        { .name = "since", .arg = "TIME", .help = "only what was written then or later: 10m (ago), or 2026-01-31T12:00:00Z" },
        { .name = "tail", .short_name = 'n', .arg = "N", .help = "only the last N lines" },
        { .name = "timestamps", .short_name = 't', .help = "the time before each line" },
        { .name = "json", .help = "an object for each entry, for programs" },
        { 0 },
};

typedef struct {
        int dir, file;
        ino_t inode;
        GString *pending; /* a line whose end has not been read */
        char since[LOG_TIME_LEN + 1];
        bool times, json;
        bool inside[3]; /* of a line of that stream */
} Reader;

static void print_json(const LogEntry *e) {
        static const char *const names[] = { "usbox", "stdout", "stderr" };
        g_autofree char *time = g_strndup(e->time, LOG_TIME_LEN), *text = g_utf8_make_valid(e->text, (gssize) e->len);
        g_autofree char *line = jsontext_line(
                json_pack("{s:s, s:s, s:b, s:s}", "time", time, "stream", names[e->stream], "end", e->whole, "text", text));

        fputs(line, stdout);
}

static void print_entry(Reader *r, const char *line, size_t len) {
        LogEntry e;

        if (!log_entry_parse(line, len, &e) || strncmp(e.time, r->since, LOG_TIME_LEN) < 0)
                return;
        if (r->json) {
                print_json(&e);
                return;
        }
        FILE *out = e.stream == 1 ? stdout : stderr;
        if (out == stderr) /* they may be one file, and what is written to this one is not kept back */
                fflush(stdout);
        if (r->times && !r->inside[e.stream])
                fprintf(out, "%.*s ", LOG_TIME_LEN, e.time);
        if (e.stream == 0)
                fputs("usbox: ", out);
        fwrite(e.text, 1, e.len, out);
        if (e.whole)
                putc('\n', out);
        r->inside[e.stream] = !e.whole;
}

/* Whole lines of text; what is left of it stays for the next time. */
static void print_lines(Reader *r, const char *text, size_t len) {
        g_string_append_len(r->pending, text, (gssize) len);
        const char *p = r->pending->str, *end = p + r->pending->len;
        for (const char *newline; (newline = memchr(p, '\n', (size_t) (end - p))); p = newline + 1)
                print_entry(r, p, (size_t) (newline - p));
        g_string_erase(r->pending, 0, p - r->pending->str);
}

static bool open_log(Reader *r) {
        struct stat st;

        r->file = openat(r->dir, LOG_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (r->file < 0 || fstat(r->file, &st) < 0)
                return false;
        r->inode = st.st_ino;
        return true;
}

static void read_to_end(Reader *r) {
        char buffer[65536];
        ssize_t n;

        while (r->file >= 0 && (n = TEMP_FAILURE_RETRY(read(r->file, buffer, sizeof buffer))) > 0)
                print_lines(r, buffer, (size_t) n);
}

/* What is new; behind a rotation the old file's rest comes first. */
static void read_more(Reader *r) {
        struct stat st;
        bool rotated = fstatat(r->dir, LOG_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != r->inode;

        read_to_end(r);
        if (rotated) {
                fd_closep(&r->file);
                if (open_log(r))
                        read_to_end(r);
        }
        fflush(stdout);
        fflush(stderr);
}

/* Where the last n lines of text begin. */
static size_t tail_start(const char *text, size_t len, guint64 n) {
        size_t at = len;
        bool inside = true; /* what has no end yet counts as a line */

        for (size_t end = len; end > 0;) {
                size_t start = end - 1;
                while (start > 0 && text[start - 1] != '\n')
                        start--;
                LogEntry e;
                if (log_entry_parse(text + start, end - start - 1, &e) && (e.whole || inside)) {
                        if (n-- == 0)
                                return at;
                        inside = false;
                }
                at = start;
                end = start;
        }
        return 0;
}

static bool print_existing(Reader *r, const char *tail, GError **error) {
        g_autofree char *old = NULL, *current = NULL;
        size_t old_len = 0, len = 0;
        guint64 n = G_MAXUINT64;

        if (tail && !option_u64("--tail", tail, G_MAXUINT32, &n, error))
                return err_step(error, "options");
        /* The current one is opened first: a rotation in between shows some lines of it as the old one's, too, but loses none. */
        if (!open_log(r))
                return err_set(error, errno, "the log");
        if (!fd_read_file(r->dir, LOG_OLD, 2 * (size_t) LOG_SIZE_MAX, &old, &old_len) && errno != ENOENT)
                return err_set(error, errno, LOG_OLD);
        if (!fd_read_all(r->file, 2 * (size_t) LOG_SIZE_MAX, &current, &len))
                return err_set(error, errno, LOG_FILE);
        g_autoptr(GString) all = g_string_new_len(old, (gssize) old_len);
        g_string_append_len(all, current, (gssize) len);
        size_t start = tail ? tail_start(all->str, all->len, n) : 0;
        print_lines(r, all->str + start, all->len - start);
        return true;
}

/* Until the launcher has closed the connection on which its end was asked for. */
static bool follow(Reader *r, const BoxInfo *box, GError **error) {
        g_autofree char *dir = g_strdup_printf("/proc/self/fd/%d", r->dir);
        _cleanup_close_ int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        _cleanup_close_ int life = control_open(box, NULL);
        char buffer[4096];

        if (changes < 0 || inotify_add_watch(changes, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
                return err_set(error, errno, "watch the log");
        if (life >= 0 && !wire_send(life, WIRE_CTL_WAIT, NULL, NULL, 0, NULL))
                fd_closep(&life);
        struct pollfd fds[] = { { .fd = changes, .events = POLLIN }, { .fd = life, .events = POLLIN } };
        while (life >= 0 && !fds[1].revents) {
                read_more(r);
                if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
                        return err_set(error, errno, "poll");
                while (read(changes, buffer, sizeof buffer) > 0)
                        ;
        }
        read_more(r);
        return true;
}

/* "10m": so long ago; else a moment. */
static bool parse_since(const char *text, char ret[static LOG_TIME_LEN + 1], GError **error) {
        g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
        g_autoptr(GDateTime) then = g_date_time_new_from_iso8601(text, utc);
        guint64 ago;

        if (then) {
                log_time(g_date_time_to_unix(then) * G_USEC_PER_SEC + g_date_time_get_microsecond(then), ret);
                return true;
        }
        if (!option_duration("--since", text, &ago, error)) {
                err_hint(error, "so long ago (10m), or a moment: 2026-01-31T12:00:00Z");
                return err_step(error, "options");
        }
        log_time(MAX(g_get_real_time() - (gint64) (ago / 1000), 0), ret);
        return true;
}

static bool show(Reader *r, const BoxInfo *box, const VerbArgs *args, GError **error) {
        r->dir = box->dir ? open(box->dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (!json_is_true(json_object_get(box->facts, "detached"))) {
                err_set(error, 0, "box %s has no log: its output went to where it was started", box_info_called(box));
                return err_hint(error, "usbox run --detach keeps one");
        }
        if (r->dir < 0)
                return err_set(error, errno, "the directory of box %s", box->id);
        const char *since = verb_args_get(args, "since");
        if (since && !parse_since(since, r->since, error))
                return false;
        if (!print_existing(r, verb_args_get(args, "tail"), error))
                return false;
        json_int_t lost = json_integer_value(json_object_get(box->facts, "log_lost"));
        if (lost > 0)
                log_note("%" JSON_INTEGER_FORMAT " bytes of the log could not be written", lost);
        return !verb_args_has(args, "follow") || box->state != BOX_RUNNING || follow(r, box, error);
}

int cmd_logs(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "logs", logs_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "logs", 1, 1, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(BoxInfo) box = spec ? registry_find(&spec->caller, verb_args_word(&args, 0), error) : NULL;
        if (!box)
                return -1;
        Reader r = { .dir = -1, .file = -1, .pending = g_string_new(NULL), .times = verb_args_has(&args, "timestamps"), .json = verb_args_has(&args, "json") };
        bool ok = show(&r, box, &args, error) || err_step(error, "logs");
        fd_closep(&r.file);
        fd_closep(&r.dir);
        g_string_free(r.pending, TRUE);
        return ok ? 0 : -1;
}
