/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket of a running box.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 10, in the loop of supervise.c.
 *
 * Who may ask: the caller's own processes, by SO_PEERCRED and SO_PEERPIDFD, in the launcher's own user namespace. So a box that was given the runtime
 * directory by a mount does not get at other boxes, though its processes have the caller's uid. A new verb is a type of message
 * (base/wire.h), a function and a row of control_verbs.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "control-net.h"
#include "control.h"
#include "exec.h"
#include "jsontext.h"
#include "pod-host.h"
#include "pod-members.h"
#include "record.h"
#include "scope-late.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Between a connection and its first word. */
#define LAST_WORD_MS 100

struct ControlClient {
        int fd; /* -1: the place is free */
        Control *control;
        bool execs; /* it is told of its command's end */
        bool waits; /* it is told of the box's end */
        ControlLater *later; /* it waits for that; NULL: for nothing */
        gint64 since; /* when it last asked for something: where all places are taken, the one that has been silent longest goes */
};

struct Control {
        int listener;
        ExecTable *execs;
        PodMembers *members; /* NULL: it has had none yet */
        ControlClient clients[CONTROL_CLIENTS];
};

struct ControlLater {
        ControlClient *client; /* NULL: it has gone */
};

G_STATIC_ASSERT(CONTROL_N_FDS == 2 + CONTROL_CLIENTS + EXEC_N_FDS);

static void client_clear(ControlClient *client) {
        if (client->execs)
                exec_client_gone(client->control->execs, client);
        fd_closep(&client->fd);
        if (client->later)
                client->later->client = NULL;
        *client = (ControlClient){ .fd = -1, .control = client->control };
}

Control *control_new(int listener_take) {
        Control *c = g_new0(Control, 1);

        c->listener = listener_take;
        c->execs = exec_table_new();
        for (size_t i = 0; i < CONTROL_CLIENTS; i++)
                c->clients[i] = (ControlClient){ .fd = -1, .control = c };
        return c;
}

void control_free(Control *c) {
        for (size_t i = 0; i < CONTROL_CLIENTS; i++)
                client_clear(&c->clients[i]);
        pod_members_free(c->members);
        exec_table_free(c->execs);
        fd_closep(&c->listener);
        g_free(c);
}

/* Who does not read its answer has no further business here. fd: -1, none goes with it. */
static void answer_fds(ControlClient *client, WireType type, GVariant *body, const int *fds, unsigned n_fds) {
        g_autoptr(GError) failure = NULL;

        if (wire_send(client->fd, type, body, fds, n_fds, &failure))
                return;
        log_step("control: %s", failure->message);
        client_clear(client);
}

static void answer(ControlClient *client, WireType type, GVariant *body, int fd) {
        answer_fds(client, type, body, &fd, fd < 0 ? 0 : 1);
}

void control_answer(ControlClient *client, WireType type, GVariant *body) {
        answer(client, type, body, -1);
}

void control_answer_fd(ControlClient *client, WireType type, int fd) {
        answer(client, type, NULL, fd);
}

void control_answer_text(ControlClient *client, const char *text) {
        g_autoptr(GError) failure = NULL;
        _cleanup_close_ int fd = fd_sealed("usbox-answer", text, strlen(text));

        if (fd < 0) {
                err_set(&failure, errno, "memfd");
                control_answer_error(client, failure);
        } else {
                control_answer_fd(client, WIRE_CTL_TEXT, fd);
        }
}

/* Its place is free for a verb again. */
bool control_make_member(ControlClient *client, const char *box_id, GVariant *facts, const int namespaces[static POD_N_NAMESPACES], GError **error) {
        Control *c = client->control;
        g_autoptr(GVariant) body = g_variant_ref_sink(facts);

        if (!c->members && !(c->members = pod_members_new(error)))
                return false;
        if (!pod_members_have_room(c->members, client->fd, error))
                return false;
        answer_fds(client, WIRE_POD_JOINED, body, namespaces, POD_N_NAMESPACES);
        if (client->fd < 0)
                return true;
        int fd = fd_steal(&client->fd);
        client_clear(client);
        return pod_members_add(c->members, fd, box_id, error);
}

guint control_n_members(const Control *c) {
        return c->members ? pod_members_count(c->members) : 0;
}

void control_tell_members(Control *c, WireType type, guint32 number) {
        if (c->members)
                pod_members_tell(c->members, type, number);
}

ControlLater *control_later(ControlClient *client) {
        ControlLater *later = g_new0(ControlLater, 1);

        later->client = client;
        client->later = later;
        return later;
}

ControlClient *control_later_take(ControlLater *later) {
        ControlClient *client = later->client;

        g_free(later);
        if (client)
                client->later = NULL;
        return client;
}

void control_answer_error(ControlClient *client, const GError *error) {
        wire_send_error(client->fd, error);
}

void control_answer_failed(ControlClient *client, const GError *failure) {
        wire_send_error_as(client->fd, WIRE_CTL_FAILED, failure);
}

static bool on_signal(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        int sig;

        g_variant_get(m->body, "(i)", &sig);
        if (sig < 1 || sig > SIGRTMAX)
                return err_set(error, EINVAL, "signal %d", sig);
        bool told = supervise_signal(s, sig);
        /* With a cgroup no process of the command's is missed. */
        if (sig == SIGKILL && s->scope.cgroup)
                told = cgroup_kill(s->scope.cgroup, NULL) || told;
        if (!told) {
                err_set(error, 0, "the box's init takes no more signals for its command");
                return err_hint(error, "kill -CONT %d, if somebody has stopped it; usbox stop ends the box in any case", (int) s->child);
        }
        control_answer(client, WIRE_CTL_OK, NULL);
        return true;
}

static bool on_stop(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        guint32 grace_ms;

        g_variant_get(m->body, "(u)", &grace_ms);
        supervise_stop(s, grace_ms * G_GINT64_CONSTANT(1000));
        client->waits = true;
        return true;
}

static bool on_wait(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        client->waits = true;
        return true;
}

/* The Spec is written only when somebody asks for it. */
static bool on_inspect(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        json_t *out = json_object();

        json_object_set_new(out, "init", json_integer(s->child));
        json_object_set_new(out, "ports", record_ports(s));
        json_object_set_new(out, "spec", spec_to_json(s->spec));
        if (s->spec->pod.make)
                json_object_set_new(out, "boxes", s->control->members ? pod_members_ids(s->control->members) : json_array());
        g_autofree char *text = jsontext_line(out);
        control_answer_text(client, text);
        return true;
}

static bool on_hello(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        control_answer(client, WIRE_CTL_OK, NULL);
        return true;
}

static bool on_exec(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        if (client->execs)
                return err_set(error, EALREADY, "a command was started on this connection");
        client->execs = exec_begin(client->control->execs, s, client, m, error);
        return client->execs;
}

/* Nothing is answered: what the client waits for is its command's end. */
static bool on_exec_signal(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        int sig;

        g_variant_get(m->body, "(i)", &sig);
        if (sig < 1 || sig > SIGRTMAX)
                return err_set(error, EINVAL, "signal %d", sig);
        exec_signal(client->control->execs, client, sig);
        return true;
}

static bool on_update(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        if (s->exited) /* nobody hears what usbox-scope would answer */
                return supervise_command_runs(s, error);
        if (!scope_helper_update(&s->scope, s->spec->pod.make, m->body, error))
                return false;
        s->updater = control_later(client);
        return true;
}

/* What can be asked for. A function answers, or sets what the answer will come by; false with error is answered by that. */
static const struct {
        WireType type;
        bool (*run)(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);
} control_verbs[] = {
        { WIRE_CTL_SIGNAL, on_signal },
        { WIRE_CTL_STOP, on_stop },
        { WIRE_CTL_WAIT, on_wait },
        { WIRE_CTL_INSPECT, on_inspect },
        { WIRE_CTL_NET_RULE, control_net_rule },
        { WIRE_CTL_NET_FLOWS, control_net_flows },
        { WIRE_CTL_NET_PUBLISH, control_net_publish },
        { WIRE_CTL_HELLO, on_hello },
        { WIRE_CTL_EXEC, on_exec },
        { WIRE_CTL_EXEC_SIGNAL, on_exec_signal },
        { WIRE_CTL_CGROUP, scope_late_ask },
        { WIRE_CTL_UPDATE, on_update },
        { WIRE_CTL_POD_JOIN, pod_host_join },
};

/* A handle of the process that connected. -1 with errno: it is gone; ENOPROTOOPT: the kernel has no such thing (before Linux 6.5). */
static int peer_open(int fd) {
        int pidfd;
        socklen_t len = sizeof pidfd;

        return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) < 0 ? -1 : pidfd;
}

/* The client is a process of the caller's that is not in a box. Who connected and is gone may have left the connection to another process, and its
 * number to a third: the number says something as long as the process itself is there, which is asked last. */
static bool is_trusted(int fd) {
        struct pollfd process = { .fd = -1, .events = POLLIN };
        struct ucred peer;
        socklen_t len = sizeof peer;
        struct stat mine, theirs;
        char path[64];

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
                return false;
        _cleanup_close_ int pidfd = peer_open(fd);
        if (pidfd < 0 && errno != ENOPROTOOPT)
                return false;
        process.fd = pidfd;
        g_snprintf(path, sizeof path, "/proc/%d/ns/user", (int) peer.pid);
        return stat("/proc/self/ns/user", &mine) == 0 && stat(path, &theirs) == 0 && mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino &&
               poll(&process, 1, 0) == 0; /* a signal 0 would ask for pidfd_send_signal(2), which some containers' filters refuse */
}

/* A free place, or that of the client that has not asked for anything yet for the longest time. NULL: all are being served. */
static ControlClient *free_place(Control *c) {
        ControlClient *idle = NULL;

        for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
                ControlClient *client = &c->clients[i];
                if (client->fd < 0)
                        return client;
                if (!client->waits && !client->later && !client->execs && (!idle || client->since < idle->since))
                        idle = client;
        }
        if (idle)
                client_clear(idle);
        return idle;
}

/* False: nobody has come. */
static bool accept_client(Control *c) {
        _cleanup_close_ int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
                return false;
        if (!is_trusted(fd)) {
                log_step("control: a stranger was turned away");
                return true;
        }
        ControlClient *client = free_place(c);
        if (client)
                *client = (ControlClient){ .fd = fd_steal(&fd), .control = c, .since = g_get_monotonic_time() };
        return true;
}

static void serve(Sandbox *s, ControlClient *client) {
        g_autoptr(GError) failure = NULL;
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(client->fd, &m, &failure);
        if (r < 0 && err_get_errno(failure) == EAGAIN)
                return;
        if (r == 0) {
                client_clear(client);
                return;
        }
        client->since = g_get_monotonic_time();
        if (r > 0 && client->later) { /* one question at a time */
                client_clear(client);
                return;
        }
        for (size_t i = 0; r > 0 && i < G_N_ELEMENTS(control_verbs); i++) {
                if (control_verbs[i].type != m.type)
                        continue;
                if (!control_verbs[i].run(s, client, &m, &failure) && client->fd >= 0)
                        control_answer_error(client, failure);
                return;
        }
        if (r > 0)
                err_set(&failure, EPROTO, "%s is nothing that a box can be asked for", wire_type_name(m.type));
        control_answer_error(client, failure);
        client_clear(client);
}

void control_poll(const Control *c, struct pollfd fds[static CONTROL_N_FDS]) {
        fds[0] = (struct pollfd){ .fd = c->listener, .events = POLLIN };
        for (size_t i = 0; i < CONTROL_CLIENTS; i++)
                fds[1 + i] = (struct pollfd){ .fd = c->clients[i].fd, .events = POLLIN };
        fds[1 + CONTROL_CLIENTS] = (struct pollfd){ .fd = c->members ? pod_members_fd(c->members) : -1, .events = POLLIN };
        exec_poll(c->execs, fds + 2 + CONTROL_CLIENTS);
}

void control_dispatch(Control *c, Sandbox *s, const struct pollfd fds[static CONTROL_N_FDS]) {
        for (size_t i = 0; i < CONTROL_CLIENTS; i++)
                if (fds[1 + i].revents && c->clients[i].fd == fds[1 + i].fd && c->clients[i].fd >= 0)
                        serve(s, &c->clients[i]);
        if (fds[1 + CONTROL_CLIENTS].revents)
                pod_members_dispatch(c->members, s->pod_namespaces[POD_PID]);
        exec_dispatch(c->execs, fds + 2 + CONTROL_CLIENTS, s->scope.cgroup);
        if (fds[0].revents)
                accept_client(c);
}

GArray *control_execs(const Control *c, bool *ret_starting) {
        return exec_pids(c->execs, ret_starting);
}

void control_box_failed(Control *c, const GError *failure) {
        exec_box_failed(c->execs, failure);
}

bool control_await(Control *c, int init, int timeout_ms) {
        return exec_await(c->execs, init, timeout_ms);
}

/* Whoever connected while the box still had its name has asked, or does at once. */
static void accept_last(Control *c) {
        while (accept_client(c))
                ;
        for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
                const ControlClient *client = &c->clients[i];
                struct pollfd fd = { .fd = client->waits || client->execs ? -1 : client->fd, .events = POLLIN };
                if (fd.fd >= 0 && g_get_monotonic_time() - client->since < LAST_WORD_MS * 1000)
                        (void) poll(&fd, 1, LAST_WORD_MS);
        }
}

void control_end(Control *c, int status) {
        exec_end(c->execs);
        accept_last(c);
        for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
                ControlClient *client = &c->clients[i];
                g_auto(WireMessage) m = { 0 };
                /* What was asked since the loop looked last. */
                if (client->fd >= 0 && !client->waits && wire_receive(client->fd, &m, NULL) > 0)
                        client->waits = m.type == WIRE_CTL_WAIT || m.type == WIRE_CTL_STOP;
                if (client->fd >= 0 && client->waits)
                        control_answer(client, WIRE_CTL_EXITED, g_variant_new("(i)", status));
        }
}
