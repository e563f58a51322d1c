/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: all that usbox-net does with frames, from the TAP to the sockets of the host and back.
 *
 * The input's first byte says how the network is set up (CONFIG_*); then come steps, of a byte each that says what (STEP_*), and what belongs to it. After each
 * the loop has some turns, unless the step says otherwise (STEP_AT_ONCE). What stands for the TAP is a pair of sockets; time goes only as a step says.
 *
 * A network is made for each input, and freed. That takes less than a millisecond; what happens is then that input's doing alone, and what it leaves
 * behind, memory or descriptors, is seen at once.
 *
 * Held against rules of their own, not against policy.c's: where sockets are connected to, what frames for the box look like and from whom they are.
 *
 * Role: tests only. Privileges: those of frames-world.c. Threads: one.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/wire.h"
#include "frames-check.h"
#include "frames-world.h"
#include "frames.h"
#include "fuzz.h"
#include "netstack/parts.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

#define STEPS_MAX 200
#define TURNS 3
#define DRAINS 3

#define CONFIG_FAST 0x01
#define CONFIG_FRAMED 0x02
#define CONFIG_SHORT 0x04
#define CONFIG_NO_IPV6 0x08
#define CONFIG_PUBLISH 0x40
#define CONFIG_RULES(config) (((config) >> 4) & 3)

#define STEP_AT_ONCE 0x80 /* the loop has no turn after it */

typedef enum {
        STEP_FRAME,    /* as it stands: FRAME_*, length, bytes */
        STEP_TCP,      /* a segment that is made up, by what was said before */
        STEP_UDP,      /* a datagram */
        STEP_TIME,     /* goes on */
        STEP_PEER,     /* a server does something with a connection */
        STEP_ANSWER,   /* a server answers the last datagram */
        STEP_NAME,     /* the name server answers */
        STEP_PROGRAM,  /* a program in the box does something on the fast path */
        STEP_CLIENT,   /* of a published port */
        STEP_LAUNCHER, /* says something */
        STEP_FLOOD,    /* the last frame again and again, each from another port */
        STEP_MAX,
} Step;

static Net net;
static uint8_t config;
static int tap, launcher; /* our ends */
static int flows;         /* a memfd, for the list of them */
bool frames_fast;
uint8_t *frames_buf;

/* --- the launcher -------------------------------------------------------------------------------------------------- */

static void rule(bool allow, const char *text) {
        GVariantBuilder hosts;

        g_variant_builder_init(&hosts, G_VARIANT_TYPE("a(ss)"));
        g_variant_builder_add(&hosts, "(ss)", "given.example", CHECK_LATE_GIVEN);
        g_assert_true(wire_send(launcher, WIRE_NET_RULE, g_variant_new("(ubsa(ss))", 1, allow, text, &hosts), NULL, 0, NULL));
}

/* A turn takes one message of the launcher's, and there may be some. */
static void turn_until_heard(void) {
        struct pollfd wire = { .fd = net.wire, .events = POLLIN };

        do
                frames_turn();
        while (poll(&wire, 1, 0) > 0);
}

static void publish(uint8_t how) {
        bool udp = how & 1, open = how & 2;

        check_published = true; /* from now on, or what is on its way still */
        g_assert_true(wire_send(launcher, WIRE_NET_PUBLISH, g_variant_new("(ub(ssqsq))", 3, open, udp ? "udp" : "tcp", how & 4 ? WORLD_HOST_IPV4 : "",
                                                                          udp ? CHECK_HOST_UDP_PORT : CHECK_HOST_TCP_PORT, "",
                                                                          udp ? CHECK_BOX_UDP_PORT : CHECK_BOX_TCP_PORT), NULL, 0, NULL));
}

/* Or the machine changes. */
static void step_launcher(Input *in) {
        static const char *const resolvers[] = { WORLD_HOST_IPV4, NULL };

        switch (take8(in) % 7) {
        case 0: /* what is on its way must not count against the rule */
                frames_turn();
                rule(false, CHECK_LATE_DENY);
                turn_until_heard();
                check_late_deny = true;
                break;
        case 1:
                check_late_allow = true;
                rule(true, CHECK_LATE_ALLOW);
                break;
        case 2:
                rule(false, "*.example");
                break;
        case 3: /* it has a descriptor, whatever the stack has left */
                g_assert_no_errno(ftruncate(flows, 0));
                g_assert_true(wire_send(launcher, WIRE_NET_FLOWS, g_variant_new("(u)", 2), &flows, 1, NULL));
                break;
        case 4:
                g_assert_true(wire_send(launcher, WIRE_NET_RESOLVERS, g_variant_new("(^as)", resolvers), NULL, 0, NULL));
                break;
        case 5:
                publish(take8(in));
                break;
        case 6: { /* the host has one more address */
                if (check_late_host)
                        break;
                frames_turn();
                bool there = world_late_address(true);
                frames_turn();
                check_late_host = there;
                break;
        }
        }
}

/* --- one network ----------------------------------------------------------------------------------------------------- */

/* What the box has got: it is looked at, and remembered where connections are. */
static void receive(void) {
        ssize_t n;

        while ((n = recv(tap, frames_buf, HEADER + FRAME_MAX + 1, MSG_DONTWAIT)) > 0) {
                check_frame(frames_buf, (size_t) n, &net);
                box_received(frames_buf + HEADER, (size_t) n - HEADER);
        }
        while (recv(launcher, frames_buf, 65536, MSG_DONTWAIT) > 0)
                ;
}

void frames_turn(void) {
        g_autoptr(GError) error = NULL;

        machine_in_stack = true;
        bool ok = events_turn(net.events, &error);
        machine_in_stack = false;
        g_assert_no_error(error);
        g_assert_true(ok);
        g_assert_no_error(net.error);
        g_assert_false(net.ended);
        receive();
        peers_accept();
}

static NetConfig *make_config(void) {
        NetConfig *c = net_config_new();
        unsigned rules = CONFIG_RULES(config);

        c->mtu = config & CONFIG_SHORT ? 1500 : NET_MTU_MAX;
        c->ipv6 = !(config & CONFIG_NO_IPV6);
        c->fast_path = config & CONFIG_FAST;
        c->tls_names = rules == CHECK_RULES_TLS && c->fast_path;
        if (config & CONFIG_FRAMED)
                c->shape.delay_us = 1000;
        g_ptr_array_add(c->resolvers, g_strdup(WORLD_LOCAL_RESOLVER));
        g_ptr_array_add(c->resolvers, g_strdup(WORLD_HOST_IPV4));
        g_ptr_array_add(c->hosts, net_host_new("own.example", CHECK_GIVEN));
        check_add_rules(rules, c->rules);
        if (config & CONFIG_PUBLISH) {
                g_ptr_array_add(c->publish, net_publish_new(true, "", CHECK_HOST_UDP_PORT, "", CHECK_BOX_UDP_PORT));
                g_ptr_array_add(c->publish, net_publish_new(false, "", CHECK_HOST_TCP_PORT, "", CHECK_BOX_TCP_PORT));
        }
        return c;
}

static void make(void) {
        g_autoptr(GError) error = NULL;
        int fds[DIVERT_FDS_MAX], taps[2], wires[2];

        net = (Net){ .wire = -1, .tap = -1, .pcap.fd = -1, .agent = -1, .host.fd = -1, .config = make_config() };
        g_assert_no_errno(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, taps));
        g_assert_true(wire_pair(wires, &error));
        tap = taps[0];
        net.tap = taps[1];
        launcher = wires[0];
        net.wire = wires[1];
        net.offloads = net_config_offloads(net.config);
        machine_in_stack = true;
        bool ok = parts_make(&net, &error);
        if (ok && (config & CONFIG_FAST)) {
                const FastPathParts parts = { .events = net.events, .pipes = net.pipes, .account = net.account, .policy = &net.policy, .send = loop_send,
                                              .send_data = &net, .framed = !net.offloads };
                world_divert(fds);
                net.fast_path = fastpath_new_take(fds, &parts, &error);
                ok = net.fast_path;
        }
        ok = ok && loop_start(&net, &error);
        machine_in_stack = false;
        g_assert_no_error(error);
        g_assert_true(ok);
}

static void clear(void) {
        peers_reset();
        /* What waits in libslirp for an address to be resolved it forgets after a second, but not when it is freed. */
        for (int i = 0; i < DRAINS; i++) {
                machine_clock += (int64_t) 1100 * 1000000;
                frames_turn();
                frames_turn();
        }
        peers_reset();
        parts_free(&net);
        g_clear_pointer(&net.config, net_config_free);
        fd_closep(&net.tap);
        fd_closep(&net.wire);
        fd_closep(&tap);
        fd_closep(&launcher);
        world_clear();
        if (check_late_host)
                g_assert_true(world_late_address(false));
}

static unsigned count_descriptors(void) {
        g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
        unsigned n = 0;

        g_assert_nonnull(dir);
        while (g_dir_read_name(dir))
                n++;
        return n;
}

static void do_step(Input *in, Step step) {
        static void (*const steps[STEP_MAX])(Input *in) = {
                [STEP_FRAME] = box_frame,       [STEP_TCP] = box_tcp,         [STEP_UDP] = box_udp,           [STEP_PEER] = peers_act,
                [STEP_ANSWER] = peers_answer,   [STEP_NAME] = peers_name,     [STEP_CLIENT] = peers_client,   [STEP_LAUNCHER] = step_launcher,
                [STEP_PROGRAM] = peers_program, [STEP_FLOOD] = box_flood,
        };

        if (step == STEP_TIME)
                machine_clock += (int64_t) 1000000 << take8(in) % 24; /* 1 ms to 2 hours */
        else
                steps[step](in);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        g_autoptr(GError) error = NULL;

        log_init("fuzz-frames", false);
        if (!world_enter(&error)) {
                (void) fprintf(stderr, "fuzz-frames: not outside of namespaces of its own: %s\n", error->message);
                exit(EXIT_FAILURE);
        }
        (void) signal(SIGPIPE, SIG_IGN); /* as helper.c */
        g_assert_no_errno(flows = memfd_create("flows", MFD_CLOEXEC));
        frames_buf = g_malloc0(HEADER + FRAME_MAX + 1);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = { .data = data, .size = size };
        unsigned descriptors = count_descriptors();

        config = take8(&in);
        frames_fast = config & CONFIG_FAST;
        machine_begin();
        peers_begin();
        check_begin(CONFIG_RULES(config), config & CONFIG_FRAMED);
        check_published = config & CONFIG_PUBLISH;
        make();
        box_begin(tap);
        for (int i = 0; i < STEPS_MAX && in.size > 0; i++) {
                uint8_t step = take8(&in);
                do_step(&in, (step & ~STEP_AT_ONCE) % STEP_MAX);
                for (int j = 0; j < TURNS && !(step & STEP_AT_ONCE); j++)
                        frames_turn();
        }
        frames_turn();
        clear();
        g_assert_cmpuint(count_descriptors(), ==, descriptors);
        return 0;
}
