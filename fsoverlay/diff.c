/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an upper changes, as lines of JSON: usbox-fs diff.
 *
 * Role: a program of its own by usbox-fs's name. Privileges: the caller's, who must be able to read the upper. Threads: one. Order: on top of changes.c.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "fsoverlay/changes.h"
#include "fsoverlay/diff.h"
#include "fsoverlay/jsonbytes.h"
#include "fsoverlay/standalone.h"

#define OUT_SIZE 65536u

typedef struct {
        int out_fd;
        GString *out;
        guint n_errors;
        GError *write_error;
} Diff;

static void complain(void *data, const char *path, int errnum) {
        Diff *d = data;
        g_autofree char *quoted = err_quote(path);

        log_note("diff: %s: %s", quoted, err_text(errnum));
        d->n_errors++;
}

static void flush(Diff *d) {
        if (!d->write_error && d->out->len > 0 && !fd_write_all(d->out_fd, d->out->str, d->out->len))
                err_set(&d->write_error, errno, "write");
        g_string_truncate(d->out, 0);
}

static void append_status(GString *out, const struct stat *st) {
        bool has_size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode);
        g_string_append_printf(out, "\"type\":\"%s\",\"mode\":\"%04o\",\"size\":%lld", changes_type_name(st->st_mode), st->st_mode & 07777u,
                               has_size ? (long long) st->st_size : 0);
}

void diff_append(GString *out, const Change *change) {
        g_string_append(out, "{\"path\":");
        jsonbytes_append(out, change->path);
        g_string_append_printf(out, ",\"change\":\"%c\"", change->kind);
        if (change->st) {
                g_string_append_c(out, ',');
                append_status(out, change->st);
        }
        if (change->below) {
                g_string_append(out, ",\"lower\":{");
                append_status(out, change->below);
                g_string_append_c(out, '}');
        }
        if (change->opaque)
                g_string_append(out, ",\"opaque\":true");
        if (change->redirect) {
                g_string_append(out, ",\"redirect\":");
                jsonbytes_append(out, change->redirect);
        }
}

static bool line(void *data, const Change *change) {
        Diff *d = data;

        diff_append(d->out, change);
        g_string_append(d->out, "}\n");
        if (d->out->len >= OUT_SIZE)
                flush(d);
        return !d->write_error;
}

bool diff_run(int argc, char **argv, int out_fd, GError **error) {
        g_auto(StandaloneOptions) options = { 0 };
        g_auto(Lowers) lowers = { 0 };
        Diff d = { .out_fd = out_fd };

        if (!standalone_parse_diff(argc, argv, &options, error))
                return false;
        if (options.help) {
                const char *help = standalone_help();
                return fd_write_all(out_fd, help, strlen(help)) || err_set(error, errno, "write");
        }
        (void) fd_raise_limit(); /* a path has up to 2,048 names, and each has a descriptor for every layer */
        g_autofree char *quoted = err_quote(options.upper);
        _cleanup_close_ int upper = open(options.upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (upper < 0)
                return err_set(error, errno, "upper directory %s", quoted);
        if (!lowers_open(options.lowers, &lowers, error))
                return false;

        d.out = g_string_sized_new(OUT_SIZE + 16384);
        changes_walk(upper, &lowers, &(ChangesOptions){ .root_uid = G_MAXUINT32, .root_gid = G_MAXUINT32 }, &(ChangesVisitor){ line, complain, &d });
        flush(&d);
        g_string_free(d.out, TRUE);
        if (d.write_error) {
                g_propagate_error(error, d.write_error);
                return false;
        }
        if (lowers.errnum != 0)
                return err_set(error, lowers.errnum, "the lower could not be read in full");
        return d.n_errors == 0 || err_set(error, 0, "the upper could not be read in full, %u times", d.n_errors);
}

int diff_main(int argc, char **argv) {
        g_autoptr(GError) error = NULL;

        if (diff_run(argc, argv, STDOUT_FILENO, &error))
                return 0;
        log_note("diff: %s", error->message);
        if (err_get_hint(error))
                log_note("hint: %s", err_get_hint(error));
        return 1;
}
