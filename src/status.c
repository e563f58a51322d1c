/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --status-fd and --pidfile.
 *
 * Role: launcher. Privileges: none needed. Threads: one. Order: opened before anything is started, so that a wrong descriptor
 * or a missing directory is told first; the last report goes out at the very end.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "jsonout.h"
#include "status.h"

/* A reader that does not read must not hold up the end of the box for longer. */
#define WRITE_WAIT_MS 1000

struct Status {
        int fd;          /* -1: no reports (any more) */
        int pidfile_dir; /* the directory, held so that a changed path cannot make us remove something else */
        char *pidfile_name;
        bool pidfile_written;
        dev_t pidfile_dev;
        ino_t pidfile_ino;
};

static bool check_fd(int fd, GError **error) {
        if (fd == STDIN_FILENO)
                return err_usage(error, "--status-fd: 0 is the command's standard input");
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return err_usage(error, "--status-fd: descriptor %d is not open", fd);
        if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH))
                return err_usage(error, "--status-fd: descriptor %d is not open for writing", fd);
        if (fd > STDERR_FILENO && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return err_set(error, errno, "--status-fd %d", fd);
        return true;
}

static bool open_pidfile_dir(Status *s, const char *pidfile, GError **error) {
        g_autofree char *dir = g_path_get_dirname(pidfile);
        g_autofree char *quoted = err_quote(pidfile);

        if (*pidfile == '\0' || g_str_has_suffix(pidfile, "/"))
                return err_usage(error, "--pidfile: '%s' is not the name of a file", quoted);
        s->pidfile_name = g_path_get_basename(pidfile);
        s->pidfile_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->pidfile_dir < 0)
                return err_set(error, errno, "--pidfile %s: its directory", quoted);
        return true;
}

bool status_open(int fd, const char *pidfile, Status **ret, GError **error) {
        *ret = NULL;
        if (fd < 0 && !pidfile)
                return true;

        g_autoptr(Status) s = g_new0(Status, 1);
        s->fd = -1;
        s->pidfile_dir = -1;
        if (fd >= 0 && !check_fd(fd, error))
                return false;
        s->fd = fd;
        if (pidfile && !open_pidfile_dir(s, pidfile, error))
                return false;
        *ret = g_steal_pointer(&s);
        return true;
}

void status_free(Status *s) {
        if (!s)
                return;
        struct stat st;
        if (s->pidfile_written && fstatat(s->pidfile_dir, s->pidfile_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_dev == s->pidfile_dev && st.st_ino == s->pidfile_ino)
                (void) unlinkat(s->pidfile_dir, s->pidfile_name, 0);
        fd_closep(&s->pidfile_dir);
        g_free(s->pidfile_name);
        g_free(s);
}

/* Pieces of PIPE_BUF: after POLLOUT a pipe takes that much without waiting, so that the flags that others share stay alone. */
static bool write_patiently(int fd, const char *text, size_t len) {
        while (len > 0) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                int ready = TEMP_FAILURE_RETRY(poll(&p, 1, WRITE_WAIT_MS));
                if (ready <= 0)
                        return false;
                ssize_t n = TEMP_FAILURE_RETRY(write(fd, text, MIN(len, (size_t) PIPE_BUF)));
                if (n < 0 && errno != EAGAIN)
                        return false;
                if (n > 0) {
                        text += n;
                        len -= (size_t) n;
                }
        }
        return true;
}

static GString *event_new(const char *name, const char *box) {
        GString *event = g_string_new("{");
        jsonout_add_string(event, "event", name);
        if (box)
                jsonout_add_string(event, "box", box);
        return event;
}

/* Ends the object and sends it. */
static void report_take(Status *s, GString *event) {
        g_string_append(event, "}\n");
        if (!write_patiently(s->fd, event->str, event->len))
                s->fd = -1;
        g_string_free(event, TRUE);
}

static bool write_pidfile(Status *s, pid_t pid, GError **error) {
        g_autofree char *quoted = err_quote(s->pidfile_name);
        g_autofree char *temporary = g_strdup_printf(".%s.%d.%08x", s->pidfile_name, (int) getpid(), g_random_int());
        char text[16];
        struct stat st;

        _cleanup_close_ int fd = openat(s->pidfile_dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return err_set(error, errno, "--pidfile: create a file beside %s", quoted);
        int len = snprintf(text, sizeof text, "%d\n", (int) pid);
        if (!fd_write_all(fd, text, (size_t) len) || fstat(fd, &st) < 0 ||
            renameat(s->pidfile_dir, temporary, s->pidfile_dir, s->pidfile_name) < 0) {
                err_set(error, errno, "--pidfile: write %s", quoted);
                (void) unlinkat(s->pidfile_dir, temporary, 0);
                return false;
        }
        s->pidfile_written = true;
        s->pidfile_dev = st.st_dev;
        s->pidfile_ino = st.st_ino;
        return true;
}

bool status_started(Status *s, const char *box, pid_t pid, GError **error) {
        if (!s)
                return true;
        if (s->pidfile_name && !write_pidfile(s, pid, error))
                return false;
        if (s->fd >= 0) {
                GString *event = event_new("started", box);
                jsonout_add_int(event, "pid", pid);
                report_take(s, event);
        }
        return true;
}

static gint64 microseconds(struct timeval t) {
        return (gint64) t.tv_sec * G_USEC_PER_SEC + t.tv_usec;
}

void status_exited(Status *s, const char *box, const StatusExit *how) {
        if (!s || s->fd < 0)
                return;
        GString *event = event_new("exited", box);
        jsonout_add_int(event, "status", how->status);
        if (how->signal != 0)
                jsonout_add_int(event, "signal", how->signal);
        jsonout_add_bool(event, "timeout", how->timeout);
        if (how->oom)
                jsonout_add_bool(event, "oom", *how->oom);
        if (how->usage) {
                jsonout_add_key(event, "usage");
                g_string_append_c(event, '{');
                jsonout_add_int(event, "user_us", microseconds(how->usage->ru_utime));
                jsonout_add_int(event, "system_us", microseconds(how->usage->ru_stime));
                jsonout_add_int(event, "max_rss_kib", how->usage->ru_maxrss);
                g_string_append_c(event, '}');
        }
        report_take(s, event);
}

void status_failed(Status *s, const GError *failure) {
        if (!s || s->fd < 0)
                return;
        GString *event = event_new("failed", NULL);
        if (err_get_step(failure))
                jsonout_add_string(event, "step", err_get_step(failure));
        if (err_get_errno(failure) != 0)
                jsonout_add_int(event, "errno", err_get_errno(failure));
        jsonout_add_string(event, "message", failure->message);
        if (err_get_hint(failure))
                jsonout_add_string(event, "hint", err_get_hint(failure));
        report_take(s, event);
}
