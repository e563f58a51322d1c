/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --status-fd and --pidfile.
 *
 * Role: launcher. Privileges: none needed. Threads: one. Order: opened before anything is started, so that a wrong descriptor
 * or a missing directory is told first; the last report goes out at the very end.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "jsontext.h"
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
        if (s->pidfile_dir < 0) {
                err_set(error, errno, "--pidfile %s: its directory", quoted);
                return err_hint(error, "name a file in a directory that is there and that you may enter");
        }
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

/* Pieces of PIPE_BUF: after POLLOUT a pipe takes that much without waiting, so that the flags that others share stay alone. False with errno;
 * 0: its reader does not read. */
static bool write_patiently(int fd, const char *text, size_t len) {
        while (len > 0) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                int ready = TEMP_FAILURE_RETRY(poll(&p, 1, WRITE_WAIT_MS));
                if (ready == 0)
                        errno = 0;
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

static json_t *event_new(const char *name, const char *box) {
        json_t *event = json_object();

        json_object_set_new(event, "event", json_string(name));
        if (box)
                json_object_set_new(event, "box", jsontext_string(box));
        return event;
}

static void report_take(Status *s, json_t *event) {
        g_autofree char *line = jsontext_line(event);

        if (write_patiently(s->fd, line, strlen(line)))
                return;
        log_note("--status-fd %d: %s: nothing more is written to it", s->fd, errno == 0 ? "nobody reads it" : err_text(errno));
        s->fd = -1;
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

bool status_write_pidfile(Status *s, pid_t pid, GError **error) {
        return !s || !s->pidfile_name || s->pidfile_written || write_pidfile(s, pid, error);
}

bool status_started(Status *s, const char *box, pid_t pid, json_t *ports, GError **error) {
        if (!s)
                return true;
        if (!status_write_pidfile(s, pid, error))
                return false;
        if (s->fd >= 0) {
                json_t *event = event_new("started", box);
                json_object_set_new(event, "pid", json_integer(pid));
                if (ports)
                        json_object_set(event, "ports", ports);
                report_take(s, event);
        }
        return true;
}

static void set_known(json_t *object, const char *key, guint64 n) {
        if (n != G_MAXUINT64)
                json_object_set_new(object, key, json_integer((json_int_t) n));
}

/* Which limits were met, and how far others were from it. */
json_t *status_limits(const CgroupNumbers *n) {
        json_t *limits = json_object();

        set_known(limits, "memory_peak", n->memory_peak);
        set_known(limits, "memory_max", n->memory_max);
        set_known(limits, "oom_kills", n->oom_kills);
        set_known(limits, "pids_refused", n->pids_refused);
        set_known(limits, "cpu_us", n->cpu_us);
        set_known(limits, "throttled_us", n->throttled_us);
        return limits;
}

void status_exited(Status *s, const char *box, const StatusExit *how) {
        if (!s || s->fd < 0)
                return;
        json_t *event = event_new("exited", box);
        json_object_set_new(event, "status", json_integer(how->status));
        json_object_set_new(event, "signal", how->signal != 0 ? json_integer(how->signal) : json_null());
        json_object_set_new(event, "timeout", json_boolean(how->timeout));
        /* Without a cgroup of the box's own nobody has counted. */
        json_object_set_new(event, "oom", how->limits ? json_boolean(how->limits->oom_kills > 0) : json_null());
        if (how->limits)
                json_object_set_new(event, "limits", status_limits(how->limits));
        if (!how->usage) {
                json_object_set_new(event, "usage", json_null());
        } else {
                json_t *usage = json_object();
                json_object_set_new(usage, "user_us", json_integer(proc_microseconds(how->usage->ru_utime)));
                json_object_set_new(usage, "system_us", json_integer(proc_microseconds(how->usage->ru_stime)));
                json_object_set_new(usage, "max_rss_kib", json_integer(how->usage->ru_maxrss));
                json_object_set_new(event, "usage", usage);
        }
        report_take(s, event);
}

void status_failed(Status *s, const GError *failure) {
        if (!s || s->fd < 0)
                return;
        json_t *event = event_new("failed", NULL);
        if (err_get_step(failure))
                json_object_set_new(event, "step", jsontext_string(err_get_step(failure)));
        if (err_get_errno(failure) != 0)
                json_object_set_new(event, "errno", json_integer(err_get_errno(failure)));
        json_object_set_new(event, "message", jsontext_string(failure->message));
        if (err_get_hint(failure))
                json_object_set_new(event, "hint", jsontext_string(err_get_hint(failure)));
        report_take(s, event);
}
