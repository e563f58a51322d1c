/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox exec: another command in a running box.
 *
 * Role: verb. Privileges: the caller's. Threads: one. The box's launcher starts the command; here are its stdio, its terminal, its signals and its
 * exit status. Of the caller's environment and descriptors nothing goes along but what is asked for, and TERM with a terminal.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/error.h"
#include "base/fd.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "exec.h"
#include "janitor.h"
#include "process.h"
#include "stdfds.h"
#include "supervise.h"
#include "term.h"

const VerbOption exec_options[] = {
        { .name = "user", .short_name = 'u', .arg = "self|root|UID[:GID]", .help = "who the command is: box ids (default: as the box's command)" },
        { .name = "env",
          .short_name = 'e',
          .arg = "NAME[=VALUE]",
          .help = "set a variable, or take over the caller's, NAME*: all that begin so; may be given more than once" },
        { .name = "workdir", .short_name = 'w', .arg = "DIR", .complete = COMPLETE_DIR, .help = "start in this directory of the box" },
        { .name = "detach", .short_name = 'd', .help = "return as soon as the command runs; its output is thrown away" },
        { .name = "interactive", .short_name = 'i', .help = "accepted for the habit of -it: stdin is always passed on" },
        { .name = "tty", .short_name = 't', .help = "a terminal of its own for the command, even where stdin is none" },
        { 0 },
};

typedef struct {
        int wire, signals;
        Stdio stdio;
        Term *term;
        Janitor janitor; /* of the terminal */
        int status; /* -1: not known yet */
        bool box_failed; /* that is the error, and not that the box had ended */
} Session;

enum { POLL_WIRE, POLL_SIGNALS, POLL_TERM, POLL_RELAY = POLL_TERM + TERM_N_FDS, POLL_N = POLL_RELAY + 3 * RELAY_N_FDS };

static bool add_variable(GPtrArray *env, const char *typed, GError **error) {
        if (process_add_variable(env, typed))
                return true;

        g_autofree char *quoted = err_quote(typed);
        return err_usage(error, "--env: '%s' is not NAME[=VALUE]", quoted);
}

static bool add_user(GVariantDict *dict, const char *typed, GError **error) {
        const char *colon = strchr(typed, ':');
        g_autofree char *text = colon ? g_strndup(typed, (gsize) (colon - typed)) : g_strdup(typed);
        guint32 uid = 0, gid = 0;

        if (g_str_equal(typed, "self"))
                return true;
        if (!g_str_equal(typed, "root") && (!option_id("--user", text, &uid, error) || !option_id("--user", colon ? colon + 1 : text, &gid, error)))
                return false;
        g_variant_dict_insert(dict, "user", "(uu)", uid, gid);
        return true;
}

/* The body of CTL_EXEC. NULL with error. */
static GVariant *request(const VerbArgs *args, const Stdio *stdio, GError **error) {
        g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(NULL);
        g_autoptr(GPtrArray) env = g_ptr_array_new_with_free_func(g_free);
        const char *user = verb_args_get(args, "user"), *cwd = verb_args_get(args, "workdir");
        const bool *pty = stdio->plan.pty;

        if (stdio->pty_wanted && g_getenv("TERM") && !add_variable(env, "TERM", error))
                return NULL;
        for (guint i = 0; i < args->names->len; i++)
                if (g_str_equal(g_ptr_array_index(args->names, i), "env") && !add_variable(env, g_ptr_array_index(args->values, i), error))
                        return NULL;
        if (user && !add_user(&dict, user, error))
                return NULL;
        if (cwd && *cwd != '/') {
                err_usage(error, "--workdir: it must be absolute");
                return NULL;
        }
        if (cwd)
                g_variant_dict_insert(&dict, "cwd", "^ay", cwd);
        g_variant_dict_insert_value(&dict, "argv", g_variant_new_bytestring_array((const char *const *) args->rest->pdata + 1, -1));
        g_variant_dict_insert_value(&dict, "env", g_variant_new_bytestring_array((const char *const *) env->pdata, (gssize) env->len));
        g_variant_dict_insert(&dict, "stdio", "(bbb)", pty[0], pty[1], pty[2]);
        g_variant_dict_insert(&dict, "detach", "b", verb_args_has(args, "detach"));
        return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* Whether the launcher answers at all is seen before it gets our stdio, which would stay open for as long as it is stopped; and before
 * we take signals for the command's: ^C ends this wait. */
static bool greet(const BoxInfo *box, int wire, GError **error) {
        g_auto(WireMessage) m = { 0 };

        return control_ask(box, wire, WIRE_CTL_HELLO, NULL, WIRE_CTL_OK, &m, error);
}

/* What is too large for a packet goes beside it, see exec.h: *body is empty then, and *ret_fd has it. */
static bool set_aside(GVariant **body, int *ret_fd, GError **error) {
        if (g_variant_get_size(*body) <= WIRE_MAX_BODY)
                return true;
        *ret_fd = fd_sealed("usbox-exec", g_variant_get_data(*body), g_variant_get_size(*body));
        if (*ret_fd < 0)
                return err_set(error, errno, "memfd");
        g_variant_unref(*body);
        *body = g_variant_ref_sink(g_variant_new("a{sv}", NULL));
        return true;
}

/* What of stdio is the box's own terminal there is /dev/null meanwhile. */
static bool send_request(Session *x, const VerbArgs *args, GError **error) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC), aside = -1;
        g_autoptr(GVariant) body = request(args, &x->stdio, error);
        bool detach = verb_args_has(args, "detach");
        int fds[EXEC_STDIO + 1];

        if (!body)
                return err_step(error, "options");
        if (null < 0)
                return err_set(error, errno, "/dev/null");
        if (!set_aside(&body, &aside, error))
                return false;
        for (int i = 0; i < EXEC_STDIO; i++)
                fds[i] = detach || x->stdio.plan.pty[i] ? null : x->stdio.plan.fds[i];
        fds[EXEC_STDIO] = aside;
        return wire_send(x->wire, WIRE_CTL_EXEC, body, fds, aside < 0 ? EXEC_STDIO : EXEC_STDIO + 1, error);
}

/* A terminal that we set raw is not to stay so where we are killed. */
static bool start_janitor(Session *x, GError **error) {
        return x->stdio.tty < 0 || (term_share(error) && janitor_start(NULL, NULL, NULL, (int[]){ -1, -1 }, &x->janitor, error));
}

static bool start_term(Session *x, int master_take, GError **error) {
        if (!start_janitor(x, error)) {
                close(master_take);
                return err_step(error, "terminal");
        }
        x->term = stdfds_make_term(&x->stdio, master_take, error);
        if (!x->term)
                return err_step(error, "terminal");
        atexit(term_restore_now);
        return true;
}

/* What the launcher said of the box's end, as the end of this command. */
static bool take_box_failure(Session *x, const WireMessage *m, GError **error) {
        g_autoptr(GError) failure = NULL;

        x->box_failed = true;
        wire_error_to_gerror(m, &failure);
        err_set(error, 0, "the box has failed: %s", failure->message);
        if (err_get_hint(failure))
                err_hint(error, "%s", err_get_hint(failure));
        return err_step(error, "exec");
}

static bool on_message(Session *x, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(x->wire, &m, error);
        if (r == 0)
                err_set(error, EPIPE, "the box's launcher ended without a word");
        if (r <= 0)
                return err_step(error, "box");
        switch (m.type) {
        case WIRE_CTL_PTY:
                return start_term(x, wire_message_take_fd(&m, 0), error);
        case WIRE_CTL_EXITED:
                g_variant_get(m.body, "(i)", &x->status);
                if (x->term)
                        term_drain(x->term);
                return true;
        case WIRE_CTL_OK:
                x->status = 0;
                return true;
        case WIRE_ERROR:
                wire_error_to_gerror(&m, error);
                return err_step(error, "exec");
        case WIRE_CTL_FAILED:
                return take_box_failure(x, &m, error);
        default:
                return err_set(error, EPROTO, "the box's launcher said %s", wire_type_name(m.type));
        }
}

static void on_signals(Session *x) {
        struct signalfd_siginfo info;

        while (read(x->signals, &info, sizeof info) == sizeof info) {
                int sig = (int) info.ssi_signo;
                if (sig == SIGWINCH && x->term)
                        term_winch(x->term);
                bool ours = sig == SIGCHLD || sig == SIGWINCH;
                bool stop = sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
                if (!ours)
                        (void) wire_send(x->wire, WIRE_CTL_EXEC_SIGNAL, g_variant_new("(i)", stop ? SIGSTOP : sig), NULL, 0, NULL);
                if (!stop)
                        continue;
                if (x->term)
                        term_suspend(x->term);
                (void) raise(SIGSTOP);
                if (x->term)
                        term_resume(x->term);
        }
}

static bool pending(const Session *x) {
        if (x->status < 0 || (x->term && !term_drained(x->term)))
                return true;
        for (int i = 1; i < 3; i++)
                if (x->stdio.relays[i] && !relay_is_done(x->stdio.relays[i]))
                        return true;
        return false;
}

static bool dispatch(Session *x, const struct pollfd fds[static POLL_N], GError **error) {
        if (fds[POLL_WIRE].revents && x->status < 0 && !on_message(x, error))
                return false;
        if (fds[POLL_SIGNALS].revents)
                on_signals(x);
        if (x->term && !term_dispatch(x->term, fds + POLL_TERM, error))
                return err_step(error, "terminal");
        for (int i = 0; i < 3; i++)
                if (x->stdio.relays[i] && !relay_dispatch(x->stdio.relays[i], fds + POLL_RELAY + i * RELAY_N_FDS, error))
                        return err_step(error, "stdio");
        return true;
}

static bool loop(Session *x, GError **error) {
        while (pending(x)) {
                struct pollfd fds[POLL_N] = { { .fd = x->status < 0 ? x->wire : -1, .events = POLLIN }, { .fd = x->signals, .events = POLLIN } };
                for (int i = POLL_TERM; i < POLL_N; i++)
                        fds[i].fd = -1;
                if (x->term)
                        term_poll(x->term, fds + POLL_TERM);
                for (int i = 0; i < 3; i++)
                        if (x->stdio.relays[i])
                                relay_poll(x->stdio.relays[i], fds + POLL_RELAY + i * RELAY_N_FDS);
                if (poll(fds, POLL_N, x->term ? term_timeout_ms(x->term) : -1) < 0 && errno != EINTR)
                        return err_set(error, errno, "poll");
                if (!dispatch(x, fds, error))
                        return false;
        }
        return true;
}

/* A box that was about to end when it was asked has ended by now, and that is what is to be said. */
static void explain(const Spec *spec, const BoxInfo *box, GError *failure_take, GError **error) {
        g_autoptr(GError) ended = NULL;
        int e = err_get_errno(failure_take);
        bool silent = e == 0 || e == EPIPE || e == ECONNRESET; /* 0: it ended before it greeted us, for one */
        g_autoptr(BoxInfo) now = silent ? registry_find_running(&spec->caller, box->id, &ended) : NULL;

        if (ended) {
                g_propagate_error(error, g_steal_pointer(&ended));
                g_error_free(failure_take);
        } else {
                g_propagate_error(error, failure_take);
        }
}

int cmd_exec(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!fd_fill_standard(error) || !verb_args_parse(&args, "exec", exec_options, VERB_FIRST, argc, argv, error) ||
            !verb_args_count(&args, "exec", 2, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(BoxInfo) box = spec ? registry_find_running(&spec->caller, verb_args_word(&args, 0), error) : NULL;
        if (!box)
                return -1;
        spec->box.tty = verb_args_has(&args, "tty");
        g_autoptr(GError) failure = NULL;
        Session x = { .wire = control_open(box, error), .signals = -1, .stdio = STDIO_NONE, .janitor = { .life = -1 }, .status = -1 };
        bool ok = x.wire >= 0 && greet(box, x.wire, &failure) && (verb_args_has(&args, "detach") || stdfds_prepare(spec, &x.stdio, error)) &&
                  (x.signals = supervise_signals(error)) >= 0 && send_request(&x, &args, error);
        if (ok)
                stdfds_close_pipe_ends(&x.stdio);
        ok = ok && loop(&x, &failure);
        /* Of a command that could not be started, too: the script that comes on standard input goes on behind it. */
        if (x.stdio.relays[STDIN_FILENO])
                relay_give_back(x.stdio.relays[STDIN_FILENO]);
        if (failure && x.box_failed)
                g_propagate_error(error, g_steal_pointer(&failure));
        else if (failure)
                explain(spec, box, g_steal_pointer(&failure), error);
        g_clear_pointer(&x.term, term_free);
        janitor_clear(&x.janitor);
        stdfds_clear(&x.stdio);
        fd_closep(&x.signals);
        fd_closep(&x.wire);
        return ok ? x.status : -1;
}
