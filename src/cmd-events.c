/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox events: what happens to the user's boxes.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Reads the file that launchers append to.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "cmd-verbs.h"
#include "events.h"
#include "jsontext.h"
#include "runtime.h"

const VerbOption events_options[] = {
        { .name = "past", .help = "what is still known of the past, and end" },
        { .name = "json", .help = "one object a line, for programs" },
        { 0 },
};

typedef struct {
        int dir, file;
        ino_t inode;
        GString *pending;
        bool json;
} Reader;

static const char *text_of(json_t *event, const char *key) {
        const char *text = json_string_value(json_object_get(event, key));
        return text ? text : "";
}

static void print_event(const Reader *r, const char *line) {
        json_t *event = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

        if (!json_is_object(event)) { /* a full disk has cut it short */
                json_decref(event);
                return;
        }
        if (r->json) {
                g_autofree char *text = jsontext_line(json_incref(event));
                fputs(text, stdout);
        } else {
                json_t *status = json_object_get(event, "status");
                g_autofree char *time = err_quote(text_of(event, "time")), *what = err_quote(text_of(event, "event")), *id = err_quote(text_of(event, "id")),
                                *name = err_quote(text_of(event, "name"));
                printf("%s  %-8s  %s  %s", time, what, id, *name ? name : "-");
                if (json_is_integer(status))
                        printf("  status %d", (int) json_integer_value(status));
                putchar('\n');
        }
        json_decref(event);
}

static void read_to_end(Reader *r) {
        char buffer[65536];
        ssize_t n;

        while (r->file >= 0 && (n = TEMP_FAILURE_RETRY(read(r->file, buffer, sizeof buffer))) > 0)
                g_string_append_len(r->pending, buffer, n);
        for (char *newline; (newline = memchr(r->pending->str, '\n', r->pending->len));) {
                *newline = '\0';
                print_event(r, r->pending->str);
                g_string_erase(r->pending, 0, newline + 1 - r->pending->str);
        }
        fflush(stdout);
}

static void open_file(Reader *r, const char *name) {
        struct stat st;

        fd_closep(&r->file);
        r->file = openat(r->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        r->inode = r->file >= 0 && fstat(r->file, &st) == 0 ? st.st_ino : 0;
}

static bool follow(Reader *r, GError **error) {
        g_autofree char *dir = g_strdup_printf("/proc/self/fd/%d", r->dir);
        _cleanup_close_ int changes = inotify_init1(IN_CLOEXEC);
        char buffer[4096];
        struct stat st;

        if (changes < 0 || inotify_add_watch(changes, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
                return err_set(error, errno, "watch the events");
        open_file(r, EVENTS_FILE);
        if (r->file >= 0)
                (void) lseek(r->file, 0, SEEK_END);
        /* Now nothing is missed any more: who starts a box from here on may count on it. */
        log_note("waiting for events");
        for (;;) {
                bool changed = fstatat(r->dir, EVENTS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != r->inode;
                read_to_end(r);
                if (changed) {
                        open_file(r, EVENTS_FILE);
                        read_to_end(r);
                }
                if (ferror(stdout))
                        return true; /* its reader has gone */
                if (read(changes, buffer, sizeof buffer) < 0 && errno != EINTR)
                        return err_set(error, errno, "watch the events");
        }
}

int cmd_events(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "events", events_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "events", 0, 0, error))
                return -1;
        Reader r = { .dir = runtime_open(true, error), .file = -1, .pending = g_string_new(NULL), .json = verb_args_has(&args, "json") };
        bool ok = r.dir >= 0;
        if (ok && verb_args_has(&args, "past")) {
                static const char *const files[] = { EVENTS_OLD, EVENTS_FILE };
                for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
                        open_file(&r, files[i]);
                        read_to_end(&r);
                }
        } else if (ok) {
                ok = follow(&r, error);
        }
        fd_closep(&r.file);
        fd_closep(&r.dir);
        g_string_free(r.pending, TRUE);
        if (!ok)
                err_step(error, "events");
        return ok ? 0 : -1;
}
