/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-net: the network of one box, without rights; from NET_CONFIG to the loop.
 *
 * Role: helper of the launcher. Privileges: the caller's at first, none from confinement_apply() on. Threads: one.
 *
 * Theory of operation. The box's network namespace holds one TAP interface; what the box sends appears on its descriptor as
 * Ethernet frames. libslirp speaks ARP, neighbour discovery, DHCP and TCP to the box, and has, as UDP and pings have here, an ordinary
 * socket of ours in the host's network namespace for each flow: to the rest of the world the box's connections are
 * ours. Nothing on the host has to be configured, and no right is needed for any of it.
 *
 *      box's kernel ⇄ TAP ⇄ loop ⇄ policy ⇄ libslirp (stack) ⇄ sockets ⇄ host's kernel
 *
 * Whatever the box sends has to pass the policy first; what that refuses is answered here (reply), so that a program gets
 * its error at once. The host itself is out of reach: hostaddr knows what the kernel calls its own.
 *
 * The launcher (or, where there is none, the command usbox-net: alone.c) speaks first, over the wire: NET_CONFIG. While it makes the box's namespaces,
 * usbox-net opens the published ports, sets up libslirp, and confines itself; all that is left to do when NET_TAP brings the descriptor is to answer
 * NET_READY and to loop. The wire says nothing more; that it is closed means that the launcher is gone, and so is usbox-net. An error before READY goes
 * over the wire, since only the launcher prints.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/wire.h"
#include "netstack/agent.h"
#include "netstack/config.h"
#include "netstack/confinement.h"
#include "netstack/control.h"
#include "netstack/helper.h"
#include "netstack/loop.h"
#include "netstack/parts.h"
#include "netstack/ports.h"
#include "netstack/unmap.h"

/* One flow is one descriptor and, in libslirp, up to 256 KiB: this many bound what a box can make us hold. */
#define NOFILE_MAX 65536

static void raise_nofile(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        rlim_t wanted = MIN(limit.rlim_max, NOFILE_MAX);
        if (limit.rlim_cur == wanted)
                return;
        limit.rlim_cur = wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                log_note("descriptor limit: %s", err_text(errno));
}

/* Only published ports need the agent. */
static bool may_publish(const Net *net) {
        return !net->config->fixed_ports || net->config->publish->len > 0;
}

/* All that can be done before the TAP is there, and needs rights. */
static bool prepare(Net *net, const NetConfig *config, GError **error) {
        raise_nofile();
        if (config->fast_path && may_publish(net) && (net->agent = agent_start(error)) < 0)
                return false;
        if (!parts_make(net, error))
                return false;
        log_step("stack made, %u ports published", net->published->len);
        return true;
}

static bool confine(const NetConfig *config, pid_t launcher, GError **error) {
        if (!confinement_apply(launcher, config->best_effort_confine, error)) {
                g_prefix_error(error, "confine usbox-net: ");
                return false;
        }
        log_step("confined");
        return true;
}

/* Where it cannot be had, TCP goes by libslirp: slower, and as a program sees it the same. */
static bool go_without_fast_path(Net *net, const char *why, GError **error) {
        if (net->config->tls_names) {
                err_set(error, 0, "--tls-names: no TCP fast path: %s", why);
                return err_hint(error, "it needs nf_tables and nft_tproxy of the kernel: sudo modprobe -a nf_tables nft_tproxy; "
                                       "without --tls-names a rule by name opens all that stands at its addresses");
        }
        log_step("no TCP fast path, all TCP goes by libslirp: %s", why);
        fd_closep(&net->agent);
        return ports_by_frames(net, error);
}

/* Nobody waits for the agent where no ports are published yet. tap: NET_TAP, less the TAP. */
static bool start_fast_path(Net *net, WireMessage *tap, GError **error) {
        int fds[DIVERT_FDS_MAX];
        const char *why;

        g_variant_get(tap->body, "(&s)", &why);
        if (tap->n_fds < 2 + DIVERT_FDS_IPV4)
                return go_without_fast_path(net, why, error);
        for (unsigned i = 0; i < DIVERT_FDS_MAX; i++)
                fds[i] = wire_message_take_fd(tap, 2 + i);
        if (net->published->len > 0 && !agent_take_join(net->agent, error)) {
                g_prefix_error(error, "published ports: ");
                return false;
        }
        const FastPathParts parts = { .events = net->events, .pipes = net->pipes, .account = net->account, .policy = &net->policy, .send = loop_send,
                                      .send_data = net, .framed = !net_config_offloads(net->config) };
        net->fast_path = fastpath_new_take(fds, &parts, error);
        if (!net->fast_path || (net->agent >= 0 && !publish_start(net->publish, net->agent, net->account, error)))
                return false;
        publish_on_lost(net->publish, control_agent_lost, net);
        log_step("TCP fast path made");
        return true;
}

/* The TAP; the agent sets to work with what else comes, and nobody waits for that yet. */
static bool receive_tap(Net *net, const NetConfig *config, WireMessage *ret, GError **error) {
        if (!wire_expect(net->wire, "launcher", WIRE_NET_TAP, ret, error))
                return false;
        net->tap = wire_message_take_fd(ret, 0);
        if (!fd_set_nonblock(net->tap, true))
                return err_set(error, errno, "make the TAP non-blocking");
        net->offloads = net_config_offloads(config);
        return net->agent < 0 || agent_ask_join(net->agent, ret->fds[1]) || err_set(error, errno, "speak to the agent of usbox-net");
}

/* Something, or the end. */
static bool is_readable(int fd) {
        struct pollfd waited = { .fd = fd, .events = POLLIN };
        return poll(&waited, 1, 0) > 0;
}

/* From the configuration to where the loop may begin. A TAP that is there early is taken at once: the agent, which ports that are published wait for,
 * and the confinement take as long as each other. No byte of it is read before its end. */
static bool make_ready(Net *net, const NetConfig *config, pid_t launcher, GError **error) {
        g_auto(WireMessage) tap = { 0 };

        if (!prepare(net, config, error) || (is_readable(net->wire) && !receive_tap(net, config, &tap, error)) || !confine(config, launcher, error) ||
            (net->tap < 0 && !receive_tap(net, config, &tap, error)))
                return false;
        if (config->fast_path)
                return start_fast_path(net, &tap, error);
        log_step("all TCP goes by libslirp: --no-fast-path");
        return true;
}

/* Not at once: a box that has just started needs the processors, and many have ended by then. */
#define UNMAP_MS 200

static void on_unmap(EventTimer *timer) {
        const Net *net = EVENTS_OWNER(timer, Net, unmap);

        timer->at = -1;
        if (net->agent >= 0) /* one that has ended has nothing to give back */
                (void) agent_ask_unmap(net->agent);
        unmap_start();
}

static NetConfig *receive_config(const Net *net, GError **error) {
        g_auto(WireMessage) m = { 0 };
        return wire_expect(net->wire, "launcher", WIRE_NET_CONFIG, &m, error) ? net_config_parse(m.body, error) : NULL;
}

static bool run(Net *net, pid_t launcher, bool verbose, GError **error) {
        net->config = receive_config(net, error);
        if (!net->config)
                return false;
        log_init("usbox-net", verbose || net->config->verbose);

        if (!make_ready(net, net->config, launcher, error))
                return false;
        GVariant *ports = net_publish_pack(net->published);
        if (!wire_send(net->wire, WIRE_NET_READY, g_variant_new_tuple(&ports, 1), NULL, 0, error))
                return false;
        log_step("ready");
        net->unmap = (EventTimer){ .fire = on_unmap, .at = events_now(net->events) + UNMAP_MS };
        events_add_timer(net->events, &net->unmap);
        bool done = loop_run(net, error);
        parts_end_flows(net);
        return done;
}

_Noreturn void helper_main(int wire, pid_t launcher, bool verbose) {
        Net net = { .wire = wire, .tap = -1, .pcap.fd = -1, .agent = -1, .host.fd = -1 };

        log_init("usbox-net", verbose);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGCHLD, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN); /* a log that may not grow any more (RLIMIT_FSIZE) is like one on a full disk */

        g_autoptr(GError) error = NULL;
        bool done = confine_wake_without_parent(&error);
        (void) prctl(PR_SET_NAME, "usbox-net", 0, 0, 0); /* as messages call it, and not its file */
        done = done && run(&net, launcher, verbose, &error);
        if (!done) {
                err_step(&error, "network");
                wire_send_error(net.wire, error);
        }
        /* At once: the kernel closes what is open, and what runs at exit(3) may need more than the filter gives. */
        _exit(done ? EXIT_SUCCESS : EXIT_FAILURE);
}
