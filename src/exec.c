/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What `usbox exec` started: from the request to the exit status.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 10, behind control.c; join.c does the work.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "exec.h"
#include "join.h"
#include "payload.h"

#define REQUEST "a request to execute a command"
#define FORKED_SIZE (EXEC_MAX * sizeof(pid_t))

typedef struct {
        bool used;
        char *command;
        ControlClient *client; /* NULL: detached, or gone */
        bool detach, failed;   /* failed: the client has its answer */
        bool limited;          /* the joiner is in the payload's cgroup until the command is forked */
        pid_t joiner;          /* it reaps the command and has its exit status; 0: reaped */
        int joiner_pidfd;
        int wire;              /* -1: executed, or failed */
        int pidfd;             /* the command's; -1: not forked yet */
        int early_signal;      /* came before that, or 0 */
} Session;

#define SESSION_NONE ((Session){ .joiner_pidfd = -1, .wire = -1, .pidfd = -1 })

struct ExecTable {
        Session sessions[EXEC_MAX];
        GError *box_failure; /* why the box ends, where that was not its command's doing */
        pid_t *forked; /* of each session the command's process, as soon as there is one, whatever becomes of its joiner: memory shared with that */
};

ExecTable *exec_table_new(void) {
        ExecTable *t = g_new0(ExecTable, 1);

        for (size_t i = 0; i < EXEC_MAX; i++)
                t->sessions[i] = SESSION_NONE;
        return t;
}

/* Wait for its end. Somebody may have stopped it. False: it has not ended by itself. */
static bool reap_joiner(Session *x, int *ret_status) {
        siginfo_t info = { 0 };

        *ret_status = 128 + SIGKILL;
        if (x->joiner == 0)
                return false;
        (void) pidfd_send_signal(x->joiner_pidfd, SIGCONT, NULL, 0);
        /* With --pid=host all of the box's processes were killed and reaped together. */
        bool reaped = TEMP_FAILURE_RETRY(waitid(P_PIDFD, (id_t) x->joiner_pidfd, &info, WEXITED)) == 0;
        x->joiner = 0;
        if (!reaped || info.si_code != CLD_EXITED)
                return false;
        *ret_status = info.si_status;
        return true;
}

static void session_clear(Session *x) {
        int status;

        (void) reap_joiner(x, &status);
        fd_closep(&x->joiner_pidfd);
        fd_closep(&x->wire);
        fd_closep(&x->pidfd);
        g_free(x->command);
        *x = SESSION_NONE;
}

void exec_table_free(ExecTable *t) {
        for (size_t i = 0; i < EXEC_MAX; i++)
                session_clear(&t->sessions[i]);
        if (t->forked)
                (void) munmap(t->forked, FORKED_SIZE);
        g_clear_error(&t->box_failure);
        g_free(t);
}

/* Once: what a joiner that is killed leaves becomes ours, and we know of it. */
static bool prepare(ExecTable *t, GError **error) {
        if (t->forked)
                return true;
        if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
                return err_set(error, errno, "PR_SET_CHILD_SUBREAPER");
        t->forked = proc_share(FORKED_SIZE, error);
        return t->forked;
}

/* The command of a joiner that was killed: nobody would wait for it, and the box's end waits until somebody has. One that is not our child by now was reaped,
 * and its number may be another's. */
static void end_orphan(ExecTable *t, const Session *x) {
        pid_t pid = t->forked[x - t->sessions];
        siginfo_t info = { 0 };

        if (pid <= 0 || waitid(P_PID, (id_t) pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                return;
        (void) kill(pid, SIGKILL);
        (void) proc_wait(pid, NULL);
}

static Session *session_of(ExecTable *t, const ControlClient *client) {
        for (size_t i = 0; i < EXEC_MAX; i++)
                if (t->sessions[i].used && t->sessions[i].client == client)
                        return &t->sessions[i];
        return NULL;
}

static Session *free_session(ExecTable *t) {
        for (size_t i = 0; i < EXEC_MAX; i++)
                if (!t->sessions[i].used)
                        return &t->sessions[i];
        return NULL;
}

/* A list of byte strings; NULL where one has a zero byte in it, which GVariant would show as an empty string. */
static char **bytestrings(GVariant *dict, const char *key) {
        g_autoptr(GVariant) value = g_variant_lookup_value(dict, key, G_VARIANT_TYPE_BYTESTRING_ARRAY);
        g_auto(GStrv) list = value ? g_variant_dup_bytestring_array(value, NULL) : g_new0(char *, 1);

        for (gsize i = 0; value && i < g_variant_n_children(value); i++) {
                g_autoptr(GVariant) item = g_variant_get_child_value(value, i);
                if (g_variant_get_size(item) != strlen(list[i]) + 1)
                        return NULL;
        }
        return g_steal_pointer(&list);
}

/* The box's environment, in which the request's variables replace those of their names. NULL: one is none. */
static char **environment(char *const *box, char **changes) {
        g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);

        for (char *const *e = box; *e; e++)
                g_ptr_array_add(out, g_strdup(*e));
        for (char **change = changes; *change; change++) {
                const char *equals = strchr(*change, '=');
                if (!equals || equals == *change)
                        return NULL;
                size_t len = (size_t) (equals - *change) + 1;
                guint at = 0;
                while (at < out->len && strncmp(g_ptr_array_index(out, at), *change, len) != 0)
                        at++;
                if (at < out->len)
                        g_ptr_array_remove_index(out, at);
                g_ptr_array_add(out, g_strdup(*change));
        }
        g_ptr_array_add(out, NULL);
        return (char **) g_ptr_array_steal(out, NULL);
}

/* What the request says: in its body, or as exec.h has it. NULL with error. */
static GVariant *request_of(const WireMessage *m, GError **error) {
        char *text;
        size_t len;

        if (m->n_fds == EXEC_STDIO)
                return g_variant_ref(m->body);
        if (!fd_read_sealed(m->fds[EXEC_STDIO], EXEC_REQUEST_MAX, &text, &len)) {
                err_set(error, errno, REQUEST);
                return NULL;
        }
        g_autoptr(GBytes) bytes = g_bytes_new_take(text, len);
        GVariant *body = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE_VARDICT, bytes, false));
        if (!g_variant_is_normal_form(body)) {
                g_clear_pointer(&body, g_variant_unref);
                err_set(error, EPROTO, REQUEST);
        }
        return body;
}

/* ret borrows from body. */
static bool parse(const Sandbox *s, GVariant *body, JoinRequest *ret, bool *ret_detach, GError **error) {
        g_auto(GStrv) changes = bytestrings(body, "env");
        const char *cwd = NULL;
        guint32 uid = s->spec->user.uid, gid = s->spec->user.gid;
        gboolean pty[EXEC_STDIO] = { FALSE }, detach = FALSE; /* GVariant writes whole ints */

        ret->argv = bytestrings(body, "argv");
        ret->envp = changes ? environment(s->envp, changes) : NULL;
        (void) g_variant_lookup(body, "user", "(uu)", &uid, &gid);
        (void) g_variant_lookup(body, "stdio", "(bbb)", &pty[0], &pty[1], &pty[2]);
        (void) g_variant_lookup(body, "detach", "b", &detach);
        if (!g_variant_lookup(body, "cwd", "^&ay", &cwd))
                cwd = s->plan->workdir ? s->plan->workdir : "/";
        ret->cwd = cwd;
        ret->uid = uid;
        ret->gid = gid;
        for (int i = 0; i < EXEC_STDIO; i++) {
                ret->on_pty[i] = pty[i];
                ret->pty = ret->pty || pty[i];
        }
        *ret_detach = detach;
        if (!ret->argv || !ret->argv[0] || !ret->envp || *cwd != '/' || uid == (guint32) -1 || gid == (guint32) -1)
                return err_set(error, EINVAL, REQUEST);
        return true;
}

static bool begin(ExecTable *t, Sandbox *s, ControlClient *client, JoinRequest *request, bool detach, GError **error) {
        Session *x = free_session(t);
        int wire = -1, pidfd = -1;

        /* What was begun could not be ended otherwise. */
        if (!supervise_command_runs(s, error) || !proc_check_pidfds(error))
                return false;
        if (!x) {
                err_set(error, EAGAIN, "%d commands were started by exec already", EXEC_MAX);
                return err_hint(error, "wait until one of them has ended");
        }
        if (s->scope.late) { /* it would not be among those that are moved */
                err_set(error, EAGAIN, "the box is being given a cgroup at this moment");
                return err_hint(error, "say it again");
        }
        if (s->scope.cgroup && cgroup_is_frozen(s->scope.cgroup)) {
                err_set(error, 0, "the box is paused");
                return err_hint(error, "usbox unpause %s", s->spec->box.name ? s->spec->box.name : s->id);
        }
        g_assert(request->argv && request->argv[0]); /* parse() has seen to it */
        if (!prepare(t, error))
                return false;
        request->forked = t->forked + (x - t->sessions);
        *request->forked = 0;
        pid_t joiner = join_fork(s, request, &pidfd, &wire, error);
        if (joiner < 0)
                return false;
        *x = (Session){ .used = true,
                        .command = g_strdup(request->argv[0]),
                        .client = client,
                        .detach = detach,
                        .limited = s->scope.cgroup != NULL,
                        .joiner = joiner,
                        .joiner_pidfd = pidfd,
                        .wire = wire,
                        .pidfd = -1 };
        return true;
}

bool exec_begin(ExecTable *t, Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        JoinRequest request = { .fds = { m->fds[0], m->fds[1], m->fds[2] } };
        g_autoptr(GVariant) body = request_of(m, error);
        bool detach = false;

        bool ok = body && parse(s, body, &request, &detach, error) && begin(t, s, client, &request, detach, error);
        g_strfreev(request.argv);
        g_strfreev(request.envp);
        return ok;
}

GArray *exec_pids(const ExecTable *t, bool *ret_starting) {
        GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));

        *ret_starting = false;
        for (size_t i = 0; i < EXEC_MAX; i++) {
                const Session *x = &t->sessions[i];
                pid_t pid = x->used && x->pidfd >= 0 ? proc_pidfd_pid(x->pidfd) : -1;
                if (pid > 0)
                        g_array_append_val(pids, pid);
                *ret_starting = *ret_starting || (x->used && x->pidfd < 0);
        }
        return pids;
}

void exec_signal(ExecTable *t, const ControlClient *client, int sig) {
        Session *x = session_of(t, client);

        if (x && x->pidfd >= 0)
                (void) pidfd_send_signal(x->pidfd, sig, NULL, 0);
        else if (x)
                x->early_signal = sig;
}

void exec_box_failed(ExecTable *t, const GError *failure) {
        t->box_failure = g_error_copy(failure);
}

void exec_client_gone(ExecTable *t, const ControlClient *client) {
        Session *x = session_of(t, client);

        if (!x)
                return;
        x->client = NULL;
        if (x->pidfd >= 0) {
                (void) pidfd_send_signal(x->pidfd, SIGHUP, NULL, 0);
                (void) pidfd_send_signal(x->pidfd, SIGCONT, NULL, 0);
        }
}

static void fail(Session *x, const GError *failure) {
        x->failed = true;
        if (x->client)
                control_answer_error(x->client, failure);
        x->client = NULL;
}

/* The command was executed, or this is the end of something that has failed. */
static void on_wire_end(ExecTable *t, Session *x) {
        fd_closep(&x->wire);
        if (x->pidfd < 0) {
                g_autoptr(GError) failure = NULL;
                err_set(&failure, 0, "the process that enters the box ended");
                if (!x->failed)
                        fail(x, failure);
                int status;
                (void) reap_joiner(x, &status);
                end_orphan(t, x);
                session_clear(x);
        } else if (x->detach && !x->failed) {
                if (x->client)
                        control_answer(x->client, WIRE_CTL_OK, NULL);
                x->client = NULL;
        }
}

/* The joiner is none of the command's processes, which waits for that. Where they have ended already, what they said of it is on the wire. */
static void let_go(Session *x, const Cgroup *cgroup) {
        g_autoptr(GError) failure = NULL;

        if (cgroup && !cgroup_join_helpers(cgroup, x->joiner, &failure) && err_get_errno(failure) != ESRCH) {
                fail(x, failure);
                (void) pidfd_send_signal(x->pidfd, SIGKILL, NULL, 0);
        }
        (void) wire_send(x->wire, WIRE_GO, NULL, NULL, 0, NULL);
}

/* cgroup: the box's; NULL: it has none, or it ends. */
static void on_wire(ExecTable *t, Session *x, const Cgroup *cgroup) {
        g_autoptr(GError) failure = NULL;
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(x->wire, &m, &failure);
        if (r > 0 && m.type == WIRE_FORKED && x->pidfd < 0) {
                x->pidfd = wire_message_take_fd(&m, 0);
                if (x->limited)
                        let_go(x, cgroup);
                if (!x->client && !x->detach) /* its client has gone meanwhile */
                        x->early_signal = SIGHUP;
                if (x->early_signal)
                        (void) pidfd_send_signal(x->pidfd, x->early_signal, NULL, 0);
        } else if (r > 0 && m.type == WIRE_PTY) {
                if (x->client)
                        control_answer_fd(x->client, WIRE_CTL_PTY, m.fds[0]);
        } else if (r > 0 && m.type == WIRE_NOT_EXECUTED) {
                int errnum;
                g_variant_get(m.body, "(i)", &errnum);
                payload_explain_exec(x->command, errnum, &failure);
                fail(x, failure);
        } else if (r > 0 && m.type == WIRE_ERROR) {
                wire_error_to_gerror(&m, &failure);
                fail(x, failure);
        } else if (r < 0) {
                fail(x, failure);
        } else {
                on_wire_end(t, x);
        }
}

static void on_end(ExecTable *t, Session *x) {
        int status;

        if (!reap_joiner(x, &status))
                end_orphan(t, x);
        if (x->client && !x->failed && t->box_failure)
                control_answer_failed(x->client, t->box_failure);
        else if (x->client && !x->failed)
                control_answer(x->client, WIRE_CTL_EXITED, g_variant_new("(i)", status));
        session_clear(x);
}

void exec_poll(const ExecTable *t, struct pollfd fds[static EXEC_N_FDS]) {
        for (size_t i = 0; i < EXEC_MAX; i++) {
                const Session *x = &t->sessions[i];
                fds[2 * i] = (struct pollfd){ .fd = x->wire, .events = POLLIN };
                /* What it said before its end comes first. */
                fds[2 * i + 1] = (struct pollfd){ .fd = x->wire < 0 ? x->joiner_pidfd : -1, .events = POLLIN };
        }
}

void exec_dispatch(ExecTable *t, const struct pollfd fds[static EXEC_N_FDS], const Cgroup *cgroup) {
        for (size_t i = 0; i < EXEC_MAX; i++) {
                Session *x = &t->sessions[i];
                if (fds[2 * i].revents && fds[2 * i].fd == x->wire)
                        on_wire(t, x, cgroup);
                else if (fds[2 * i + 1].revents && fds[2 * i + 1].fd == x->joiner_pidfd)
                        on_end(t, x);
        }
}

bool exec_await(ExecTable *t, int init, int timeout_ms) {
        FdPatience patience = { .left_ms = timeout_ms };

        while (patience.left_ms > 0) {
                struct pollfd fds[EXEC_N_FDS + 1];
                exec_poll(t, fds);
                fds[EXEC_N_FDS] = (struct pollfd){ .fd = init, .events = POLLIN };
                int r = fd_poll(fds, EXEC_N_FDS + 1, fd_patience_slice(&patience));
                fd_patience_used(&patience);
                if (r <= 0)
                        continue;
                exec_dispatch(t, fds, NULL);
                if (fds[EXEC_N_FDS].revents)
                        return true;
        }
        return false;
}

void exec_end(ExecTable *t) {
        for (size_t i = 0; i < EXEC_MAX; i++) {
                Session *x = &t->sessions[i];
                if (x->used)
                        (void) pidfd_send_signal(x->joiner_pidfd, SIGCONT, NULL, 0);
                while (x->used && x->wire >= 0)
                        on_wire(t, x, NULL);
                if (x->used)
                        on_end(t, x);
        }
}
