/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-net without the launcher: the front.
 *
 * Role: a process of its own before usbox-net. Privileges: the caller's. Threads: one. Order: from the command line to the namespace's end.
 *
 * Theory of operation. usbox-net parses what a hostile namespace sends, and for that has given up files, environment and rights. The
 * front is to it what the launcher is: it forks it off, with the configuration, has the TAP made by another fork, which enters the
 * namespace, and stays to read the host's resolv.conf, to write down what was denied, and to see when the end has come.
 *
 *      front ── wire ── usbox-net (confined) ── its agent        and, for a moment, the fork that makes the TAP
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/wire.h"
#include "netstack/alone.h"
#include "netstack/records.h"
#include "netstack/resolvconf.h"

/* For the last lines of --net-log. */
#define LAST_LINES_MS 5000

typedef struct {
        const AloneOptions *options;
        AloneTarget target;
        AloneTapMaker maker;
        pid_t pid; /* the stack; 0: none */
        int pidfd, wire, signals;
        int theirs;     /* the other end of the wire, until the stack has it, as of these: */
        NetRecords records;
        int resolv;     /* inotify; -1: the host's resolv.conf does not count */
        int mounts;     /* /proc/self/mountinfo, which says that mounts have changed; -1: the target is a process */
        guint denials;  /* that were told */
        bool owes_resolvers; /* the wire was full: the stack is stopped, and the front must not wait for it */
} Front;

/* --- the start ----------------------------------------------------------------------------------------------------- */

static bool open_signals(Front *f, GError **error) {
        f->signals = proc_take_signals((const int[]){ SIGTERM, SIGINT, SIGHUP, 0 }, error);
        return f->signals >= 0;
}

/* Another program, so that neither command line nor environment of the caller is in the memory of what parses frames. A fork that wiped both was as fast, but
 * not clean: what holes of the stack and vector registers have of a string, nobody can find. */
static bool start_stack(Front *f, GError **error) {
        char *const argv[] = { (char *) "usbox-net", (char *) "--wire", (char *) "3", f->options->config->verbose ? (char *) "--verbose" : NULL, NULL };
        int fds[NET_RECORDS_MAX];

        g_autofree char *path = proc_sibling_path("usbox-net-stack", error);
        if (!path)
                return false;
        net_records_tell(&f->records, f->options->config);
        pid_t pid = proc_spawn_helper(path, argv, f->theirs, fds, net_records_fds(&f->records, fds), &f->pidfd, error);
        if (pid < 0)
                return false;
        f->pid = pid;
        fd_closep(&f->theirs);
        net_records_close(&f->records);
        return true;
}

static bool send_config(const Front *f, GError **error) {
        NetConfig *config = f->options->config;

        if (!f->options->dns_given) {
                g_ptr_array_unref(config->resolvers);
                config->resolvers = resolvconf_servers();
        }
        config->fixed_ports = true;
        return wire_send(f->wire, WIRE_NET_CONFIG, net_config_pack(config), NULL, 0, error);
}

static bool send_resolvers(Front *f, GError **error) {
        g_autoptr(GPtrArray) servers = resolvconf_servers();
        GVariant *array = net_resolvers_pack(servers);
        GError *failure = NULL;

        f->owes_resolvers = !wire_send(f->wire, WIRE_NET_RESOLVERS, g_variant_new_tuple(&array, 1), NULL, 0, &failure);
        return !f->owes_resolvers || wire_is_full(failure, error);
}

/* Once the network is there: the kernel takes its time for a watch of /etc. They may have changed since they were read. */
static void watch_resolvers(Front *f) {
        g_autoptr(GError) failure = NULL;

        if (f->options->dns_given)
                return;
        f->resolv = resolvconf_watch(&failure);
        if (failure) {
                log_note("%s: the name servers stay those that they are now", failure->message);
                log_note("hint: %s", err_get_hint(failure));
                return;
        }
        (void) send_resolvers(f, NULL); /* where nobody is there any more, serve() says why */
}

static bool watch_target(Front *f, GError **error) {
        if (f->target.process >= 0)
                return true;
        f->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        return f->mounts >= 0 || err_set(error, errno, "/proc/self/mountinfo");
}

static bool tell_ports(GVariant *body, GError **error) {
        g_autoptr(GVariant) array = g_variant_get_child_value(body, 0);
        g_autoptr(GPtrArray) ports = net_publish_parse(array, error);

        if (!ports)
                return false;
        for (guint i = 0; i < ports->len; i++) {
                g_autofree char *text = net_publish_text(ports->pdata[i]);
                log_note("published %s for %u", text, ((const NetPublish *) ports->pdata[i])->box_port);
        }
        return true;
}

/* Where the caller let the kernel choose, nobody else knows them. */
static bool is_any_free(const GPtrArray *asked) {
        for (guint i = 0; i < asked->len; i++)
                if (((const NetPublish *) asked->pdata[i])->host_port == 0)
                        return true;
        return false;
}

static bool await_ready(Front *f, GError **error) {
        const AloneOptions *o = f->options;
        g_auto(WireMessage) m = { 0 };
        int fd = o->ready_fd;

        if (!wire_expect(f->wire, "usbox-net", WIRE_NET_READY, &m, error))
                return false;
        if ((o->config->verbose || is_any_free(o->config->publish)) && !tell_ports(m.body, error))
                return false;
        if (fd >= 0 && !fd_write_all(fd, "1", 1))
                return err_set(error, errno, "--ready-fd %d", fd);
        fd_closep(&fd);
        return true;
}

static bool open_wire(Front *f, GError **error) {
        int ends[2];

        if (!wire_pair(ends, error))
                return false;
        f->wire = ends[0];
        f->theirs = ends[1];
        return true;
}

/* All at once, as far as it can be. To load the stack takes longest, so that begins first; the TAP is made meanwhile, and goes to it without a way
 * through here, behind the configuration. */
static bool start(Front *f, GError **error) {
        const AloneOptions *o = f->options;

        if (!alone_target_open(o, &f->target, error) || !open_wire(f, error) ||
            !net_records_open(o->log_file, o->pcap_file, &f->records, error) || !open_signals(f, error))
                return false;
        if (!start_stack(f, error) || !send_config(f, error) || !alone_tap_begin(&f->target, o, f->wire, &f->maker, error) || !watch_target(f, error) ||
            !alone_tap_await(&f->maker, f->wire, error) || !await_ready(f, error))
                return false;
        alone_tap_end(&f->maker);
        if (!fd_set_nonblock(f->wire, true))
                return err_set(error, errno, "fcntl");
        watch_resolvers(f);
        return true;
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

/* A denial, or its last word. */
static bool take_message(Front *f, GError **error) {
        g_auto(WireMessage) m = { 0 };
        const char *what, *option;
        int status;

        int r = wire_receive(f->wire, &m, error);
        if (r < 0)
                return false;
        if (r == 0) {
                if (!proc_wait(f->pid, &status))
                        return err_set(error, errno, "usbox-net");
                f->pid = 0;
                g_autofree char *text = proc_status_text(status);
                return err_set(error, 0, "usbox-net ended: %s", text);
        }
        if (m.type == WIRE_ERROR)
                return wire_error_to_gerror(&m, error);
        if (m.type == WIRE_NET_PORTS) /* the agent has ended, which usbox-net itself has said; nobody asks here which ports there are */
                return true;
        if (m.type != WIRE_NET_DENIED)
                return err_set(error, EPROTO, "usbox-net said %s", wire_type_name(m.type));
        if (f->denials >= NET_DENIALS_MAX)
                return err_set(error, EPROTO, "usbox-net said NET_DENIED more than %u times", NET_DENIALS_MAX);
        g_variant_get(m.body, "(&s&s)", &what, &option);
        g_autofree char *what_quoted = err_quote(what), *option_quoted = err_quote(option);
        if (*option)
                log_note("denied by policy: %s (%s%s)", what_quoted, g_str_has_prefix(option, "--deny ") ? "" : "to allow: ", option_quoted);
        else
                log_note("denied by policy: %s", what_quoted);
        if (++f->denials == NET_DENIALS_MAX)
                log_note("that were %u denials: of more, --net-log alone tells", NET_DENIALS_MAX);
        return true;
}

/* All that there are: what was denied before somebody wants the end is told before it. */
static bool take_messages(Front *f, GError **error) {
        struct pollfd wire = { f->wire, POLLIN, 0 };

        do
                if (!take_message(f, error))
                        return false;
        while (poll(&wire, 1, 0) > 0);
        return true;
}

/* Until the namespace is gone, or somebody wants the end. */
static bool serve(Front *f, GError **error) {
        enum { WIRE, SIGNALS, PROCESS, EXIT, MOUNTS, RESOLV, N };
        struct pollfd fds[N] = { [WIRE] = { f->wire, POLLIN, 0 }, [SIGNALS] = { f->signals, POLLIN, 0 }, [PROCESS] = { f->target.process, POLLIN, 0 },
                                 [EXIT] = { f->options->exit_fd, POLLIN, 0 }, [MOUNTS] = { f->mounts, POLLPRI, 0 }, [RESOLV] = { f->resolv, POLLIN, 0 } };

        /* Between the first look and this one the path may have gone already. */
        for (bool mounts_changed = true;;) {
                fds[WIRE].events = f->owes_resolvers ? POLLIN | POLLOUT : POLLIN;
                if (mounts_changed && alone_target_is_gone(&f->target)) {
                        log_step("the network namespace is gone");
                        return true;
                }
                if (poll(fds, N, -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_set(error, errno, "poll");
                }
                mounts_changed = fds[MOUNTS].revents || fds[PROCESS].revents;
                if ((fds[WIRE].revents & ~POLLOUT) && !take_messages(f, error))
                        return false;
                if (fds[SIGNALS].revents || fds[EXIT].revents)
                        return true;
                if (((fds[WIRE].revents & POLLOUT) || (fds[RESOLV].revents && resolvconf_drain(f->resolv))) && !send_resolvers(f, error))
                        return false;
        }
}

/* That its wire closes is the word for usbox-net to write its log's last lines and to go. */
static void end(Front *f) {
        struct pollfd ended = { .fd = f->pidfd, .events = POLLIN };
        ProcOrphans orphans = { .n = 0 }; /* its agent */
        int status;

        if (f->pid > 0)
                proc_adopt(f->pid, &orphans);
        fd_closep(&f->wire);
        fd_closep(&f->theirs);
        net_records_close(&f->records);
        if (f->pid > 0 && f->pidfd >= 0) {
                if (poll(&ended, 1, LAST_LINES_MS) <= 0)
                        (void) pidfd_send_signal(f->pidfd, SIGKILL, NULL, 0);
                (void) proc_wait(f->pid, &status); /* how, nobody asks any more */
        }
        proc_reap(&orphans);
        fd_closep(&f->pidfd);
        fd_closep(&f->signals);
        fd_closep(&f->resolv);
        fd_closep(&f->mounts);
        alone_tap_end(&f->maker);
        if (f->options->config->fast_path)
                alone_target_leave(&f->target, f->options);
        alone_target_clear(&f->target);
}

static bool run(const AloneOptions *o, GError **error) {
        Front front = { .options = o, .target = ALONE_TARGET_NONE, .maker = { .pid = -1, .wire = -1 }, .pidfd = -1, .wire = -1, .theirs = -1,
                        .records = NET_RECORDS_NONE, .signals = -1, .resolv = -1, .mounts = -1 };

        signal(SIGPIPE, SIG_IGN);
        bool ok = start(&front, error) && serve(&front, error);
        end(&front);
        return ok;
}

static int failed(const GError *error) {
        const char *hint = err_get_hint(error);
        log_note("%s", error->message);
        if (hint)
                log_note("hint: %s", hint);
        return EXIT_FAILURE;
}

int alone_main(int argc, char **argv) {
        g_auto(AloneOptions) options = { 0 };
        g_autoptr(GError) error = NULL;

        log_init("usbox-net", false);
        if (!fd_fill_standard(&error) || !alone_parse(argc - 1, argv + 1, &options, &error))
                return failed(error);
        if (options.help || options.version) {
                g_autofree char *text = options.help ? alone_help() : g_strdup("usbox-net " USBOX_VERSION "\n");
                return fputs(text, stdout) < 0 || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
        }
        log_init("usbox-net", options.config->verbose);
        if (!(options.try_fast_path ? alone_try_fast_path(&error) : run(&options, &error)))
                return failed(error);
        return EXIT_SUCCESS;
}
