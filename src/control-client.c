/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket from a verb's side.
 *
 * Role: verbs. Privileges: the caller's. Threads: one.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "control-client.h"
#include "runtime.h"

#define TEXT_MAX (16 * 1024 * 1024)

/* A launcher answers at once, unless it was stopped (^Z). */
#define ANSWER_S 5
/* systemd does not, and usbox-scope itself waits half a minute for each of its answers. */
#define SYSTEMD_S 120

int control_open(const BoxInfo *box, GError **error) {
        const struct timeval patience = { .tv_sec = ANSWER_S };
        int fd = runtime_connect(box->id, error);

        if (fd < 0)
                err_step(error, "box");
        else
                (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        return fd;
}

/* The launcher speaks to nobody of another user namespace than its own (control.c), and ends the connection. Whoever is in one below it may not look either. */
static bool is_elsewhere(const BoxInfo *box) {
        g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) json_integer_value(json_object_get(box->facts, "launcher")));
        struct stat mine, its;

        if (stat("/proc/self/ns/user", &mine) < 0)
                return false;
        if (stat(path, &its) < 0)
                return errno == EACCES || errno == EPERM;
        return mine.st_dev != its.st_dev || mine.st_ino != its.st_ino;
}

static bool say_elsewhere(const BoxInfo *box, GError **error) {
        err_set(error, 0, "the launcher of %s %s is in another user namespace", box_info_kind(box), box_info_called(box));
        err_hint(error, "it answers where it was started: say this there, not in a container or an unshare(1) that was begun since then");
        return err_step(error, "box");
}

/* It has ended the connection, and before its answer. It lets go of its lock first (presence_end()). */
static bool say_gone(const BoxInfo *box, GError **error) {
        const char *kind = box_info_kind(box), *shown = box_info_called(box);

        if (is_elsewhere(box))
                return say_elsewhere(box, error);
        if (runtime_box_runs(box->id)) {
                err_set(error, 0, "the launcher of %s %s has ended the connection without an answer", kind, shown);
                err_hint(error, "it may have as many requests as it takes: say it again");
        } else {
                err_set(error, 0, "%s %s has ended just now", kind, shown);
                err_hint(error, "usbox %s shows how, if anything is left of it", box_info_is_pod(box) ? "pod ps" : "ps -a");
        }
        return err_step(error, "box");
}

/* Wait for the answer: 1; 0: the connection ends before it; -1 with errno. */
static int await_answer(int fd) {
        ssize_t n;
        char first;

        do
                n = recv(fd, &first, sizeof first, MSG_PEEK);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        return (int) n;
}

/* Why it does not answer: in its own words, or that it is stopped. */
static bool explain(const BoxInfo *box, GError *failure_take, GError **error) {
        if (err_get_errno(failure_take) == EAGAIN) {
                err_set(error, 0, "the launcher of box %s does not answer", box_info_called(box));
                err_hint(error, "it may be stopped: kill -CONT %d", (int) json_integer_value(json_object_get(box->facts, "launcher")));
                g_error_free(failure_take);
        } else {
                g_propagate_error(error, failure_take);
        }
        return err_step(error, "box");
}

bool control_ask(const BoxInfo *box, int fd, WireType request, GVariant *body, WireType answer, WireMessage *ret, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (!wire_send(fd, request, body, NULL, 0, &failure)) {
                int errnum = err_get_errno(failure);
                return errnum == EPIPE ? say_gone(box, error) : explain(box, g_steal_pointer(&failure), error);
        }
        int r = await_answer(fd);
        if (r == 0)
                return say_gone(box, error);
        if (r < 0)
                err_set(&failure, errno, "receive");
        return (r > 0 && wire_expect(fd, "the box's launcher", answer, ret, &failure)) || explain(box, g_steal_pointer(&failure), error);
}

bool control_do(const BoxInfo *box, WireType request, GVariant *body, GError **error) {
        g_autoptr(GVariant) held = body ? g_variant_ref_sink(body) : NULL;
        _cleanup_close_ int fd = control_open(box, error);
        g_auto(WireMessage) m = { 0 };

        return fd >= 0 && control_ask(box, fd, request, held, WIRE_CTL_OK, &m, error);
}

bool control_do_by_systemd(const BoxInfo *box, WireType request, GVariant *body, GError **error) {
        const struct timeval patience = { .tv_sec = SYSTEMD_S };
        g_autoptr(GVariant) held = body ? g_variant_ref_sink(body) : NULL;
        _cleanup_close_ int fd = control_open(box, error);
        g_auto(WireMessage) hello = { 0 }, m = { 0 };

        if (fd < 0 || !control_ask(box, fd, WIRE_CTL_HELLO, NULL, WIRE_CTL_OK, &hello, error))
                return false;
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        return control_ask(box, fd, request, held, WIRE_CTL_OK, &m, error);
}

char *control_text(const BoxInfo *box, WireType request, GError **error) {
        _cleanup_close_ int fd = control_open(box, error);
        g_auto(WireMessage) m = { 0 };
        char *text = NULL;

        if (fd < 0 || !control_ask(box, fd, request, NULL, WIRE_CTL_TEXT, &m, error))
                return NULL;
        if (!fd_read_all(m.fds[0], TEXT_MAX, &text, NULL)) {
                err_set(error, errno, "read the launcher's answer");
                err_step(error, "box");
        }
        return text;
}

static int ended_status(const BoxInfo *box, GError **error) {
        json_t *status = json_object_get(box->facts, "status");

        if (box->state == BOX_EXITED && json_is_integer(status))
                return (int) json_integer_value(status) & 0xff;
        err_set(error, 0, "how box %s ended is not known: %s", box_info_called(box),
                box->state == BOX_DEAD ? "its launcher was killed" : "its state.json is damaged");
        err_step(error, "box");
        return -1;
}

/* The state behind the name in parentheses, which may hold anything (proc(5)). */
bool control_will_answer(const BoxInfo *box, GError **error) {
        int pid = (int) json_integer_value(json_object_get(box->facts, "launcher"));
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *stat = NULL;

        if (box->state != BOX_RUNNING || !g_file_get_contents(path, &stat, NULL, NULL))
                return true;
        if (is_elsewhere(box))
                return say_elsewhere(box, error);
        const char *at = strrchr(stat, ')');
        if (!at || !g_str_has_prefix(at, ") T"))
                return true;
        err_set(error, 0, "the launcher of %s %s is stopped", box_info_kind(box), box_info_called(box));
        err_hint(error, "kill -CONT %d, or fg where it was started, lets it go on", pid);
        return err_step(error, "box");
}

int control_begin_wait(const BoxInfo *box, WireType request, GVariant *body) {
        g_autoptr(GVariant) held = body ? g_variant_ref_sink(body) : NULL;
        _cleanup_close_ int fd = box->state == BOX_RUNNING ? runtime_connect(box->id, NULL) : -1;

        return fd >= 0 && wire_send(fd, request, held, NULL, 0, NULL) ? fd_steal(&fd) : -1;
}

int control_end_wait(const Caller *caller, const BoxInfo *box, int fd_take, GError **error) {
        _cleanup_close_ int fd = fd_take;
        g_auto(WireMessage) m = { 0 };
        int status = -1;

        if (fd >= 0 && wire_expect(fd, "the box's launcher", WIRE_CTL_EXITED, &m, NULL)) {
                g_variant_get(m.body, "(i)", &status);
                return status;
        }
        /* It was about to end when it was asked: by now it has written down how. */
        g_autoptr(BoxInfo) now = registry_find_any(caller, box->id, NULL);
        if (now && now->state != BOX_RUNNING)
                return ended_status(now, error);
        if (now && is_elsewhere(now)) {
                (void) say_elsewhere(now, error);
                return -1;
        }
        err_set(error, 0, "how box %s ended is not known: it left nothing", box_info_called(box));
        err_step(error, "box");
        return -1;
}
