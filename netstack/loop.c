/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop: the launcher's wire, the host's address changes, and the TAP; libslirp's sockets and all others are their modules'.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: last, until the end.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/control.h"
#include "netstack/loop.h"
#include "netstack/reply.h"
#include "netstack/tap.h"

/* An Ethernet header before the largest packet that a TAP can carry. */
#define FRAME_MAX (PACKET_ETH_LEN + 65536)
#define READ_SIZE (TAP_ROOM + FRAME_MAX)

/* Frames taken in one turn, so that what comes from the host has its turn too. */
#define FRAMES_PER_TURN 64

/* What libslirp has sent last goes, if it was held back. */
static void send_held(void *data) {
        Net *net = data;

        if (net->held.len > 0 && net->tap >= 0)
                (void) tap_write_held(net->tap, &net->held, net->config->mtu);
}

static void send_now(Net *net, const void *frame, size_t len) {
        if (net->tap < 0)
                return;
        send_held(net); /* the order stays */
        pcap_frame(&net->pcap, frame, len);
        /* A full queue loses the frame, as any wire does: TCP sends it again, waiting would stop all other flows. An
         * interface that is down or gone (EIO, EBADFD) is seen where frames are read. */
        ssize_t n;
        do
                n = tap_write(net->tap, frame, len, net->config->mtu);
        while (n < 0 && errno == EINTR);
}

bool loop_send_datagrams(uint8_t *frame, size_t len, uint16_t segment, void *data) {
        Net *net = data;
        ssize_t n;

        if (net->tap < 0)
                return true;
        send_held(net);
        do
                n = tap_write_udp(net->tap, frame, len, segment);
        while (n < 0 && errno == EINTR);
        return n >= 0 || errno != EINVAL;
}

void loop_shaped_down(uint8_t *frame, size_t len, void *data) {
        send_now(data, frame, len);
}

void loop_send(const void *frame, size_t len, void *data) {
        Net *net = data;

        if (net->shape)
                shape_put(net->shape, SHAPE_DOWN, frame, len);
        else
                send_now(net, frame, len);
}

/* A stream's frames of libslirp's, two as one where the second comes at once. False: this one is to go as it is. */
static bool put_together(Net *net, const void *frame, size_t len) {
        Packet packet;

        if (net->tap < 0 || !packet_parse(frame, len, &packet) || packet.family == AF_UNSPEC)
                return false;
        if (tap_joins(&net->held, &packet)) {
                (void) tap_write_joined(net->tap, &net->held, &packet, net->config->mtu);
                return true;
        }
        send_held(net);
        return tap_hold(&net->held, &packet);
}

/* StackSend for libslirp's frames. */
void loop_send_counted(const void *frame, size_t len, void *data) {
        Net *net = data;

        if (dns_tcp_frame_in(net->dns_tcp, frame, len, net->dns_frame))
                frame = net->dns_frame;
        else
                flows_in(net->flows, frame, len);
        if (!net->offloads || !put_together(net, frame, len))
                loop_send(frame, len, net);
}

static void say_denied(Net *net, const Packet *packet, const PolicyDecision *decision) {
        const AccountKey key = account_key_of(packet);
        account_denied(net->account, &key, decision);
}

/* UDP and echo requests are judged by the frame. What went by a name goes on when that is too old for a new flow, as a connection does; a rule that
 * denies it has cut it. */
static bool goes_on(const Net *net, const Packet *packet, const PolicyDecision *decision) {
        if (decision->reason != POLICY_BY_UNMATCHED || packet->protocol == IPPROTO_TCP)
                return false;
        return packet->protocol == IPPROTO_UDP ? udp_has(net->udp, packet) : ping_has(net->ping, packet);
}

static void take_frame(Net *net, uint8_t *frame, size_t len, const TapLeft *left) {
        uint8_t reply[REPLY_MAX];
        PolicyDecision decision;
        Packet packet;
        bool judged, whole = false;

        if (udp_input_next(net->udp, frame, len, left->segment))
                return;
        if (reassembly_is_fragment(frame, len)) {
                frame = reassembly_take(net->reassembly, frame, len, events_now(net->events), &len);
                if (!frame)
                        return;
                whole = true;
        }
        names_expire(net->names, events_now(net->events));
        PolicyVerdict verdict = policy_frame(&net->policy, frame, len, &packet, &decision, &judged);
        if (verdict == POLICY_DROP || (whole && !judged)) /* not to libslirp */
                return;
        if (left->unsummed && (whole || packet.protocol != IPPROTO_UDP))
                return;
        packet.segment = left->segment;
        if (verdict == POLICY_REFUSE && judged && goes_on(net, &packet, &decision))
                verdict = POLICY_PASS;
        /* A program can bind its socket to the TAP; by frames nobody would look at the name. */
        if (verdict == POLICY_PASS && judged && packet.protocol == IPPROTO_TCP && !fastpath_wants(net->fast_path, &packet) &&
            policy_wants_tls_name(&net->policy, packet.dport, &decision))
                verdict = POLICY_REFUSE;
        /* Whom a published port's answer may go to is more than the policy can know: it holds even where that refuses. */
        if (forward_input(net->forward, &packet))
                return;

        switch (verdict) {
        case POLICY_DNS:
                if (packet.protocol == IPPROTO_UDP)
                        dns_input(net->dns, &packet);
                else if (dns_tcp_frame_out(net->dns_tcp, frame, &packet))
                        stack_input(net->stack, frame, packet.len);
                break;
        case POLICY_PASS:
                if (fastpath_wants(net->fast_path, &packet)) {
                        if (judged)
                                fastpath_syn(net->fast_path, &packet, &decision);
                        else
                                fastpath_segment(net->fast_path, &packet);
                        break;
                }
                if (judged && packet.protocol == IPPROTO_UDP) {
                        udp_input(net->udp, &packet, &decision);
                        break;
                }
                if (left->unsummed)
                        tap_sum_udp(frame, &packet);
                if (judged && (packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6)) {
                        ping_input(net->ping, &packet, &decision);
                        break;
                }
                flows_out(net->flows, &packet, judged ? &decision : NULL);
                if (net->offloads && packet.protocol == IPPROTO_TCP && (packet.tcp_flags & PACKET_TCP_SYN))
                        tap_raise_mss(frame, &packet);
                stack_input(net->stack, frame, packet.len);
                break;
        case POLICY_REFUSE: {
                if (judged)
                        say_denied(net, &packet, &decision);
                if (left->unsummed)
                        tap_sum_udp(frame, &packet);
                size_t n = reply_refuse(&packet, reply);
                if (n > 0)
                        loop_send(reply, n, net);
                break;
        }
        case POLICY_DROP:
                break;
        }
}

void loop_shaped_up(uint8_t *frame, size_t len, void *data) {
        Net *net = data;

        /* The kernel leaves nothing to us in such a network (net_config_offloads()). */
        take_frame(net, frame, len, &(TapLeft){ .unsummed = false });
        udp_flush(net->udp);
}

/* One that was read. */
static void take_read(Net *net, uint8_t *frame, size_t len, const TapLeft *left) {
        if (fastpath_turn_back(net->fast_path, frame, len)) {
                loop_send(frame, len, net);
                return;
        }
        pcap_frame(&net->pcap, frame, len);
        if (net->shape)
                shape_put(net->shape, SHAPE_UP, frame, len);
        else
                take_frame(net, frame, len, left);
}

/* Take what frames there are, a turn's worth at most. */
static bool take_frames(Net *net, GError **error) {
        TapLeft left;

        for (int i = 0; i < FRAMES_PER_TURN; i++) {
                ssize_t n = tap_read(net->tap, net->read_buf, READ_SIZE, &left);
                if (n >= 0) {
                        take_read(net, net->read_buf + TAP_ROOM, (size_t) n, &left);
                        continue;
                }
                if (errno == EAGAIN || errno == EINTR)
                        return true;
                if (errno == EBADFD || errno == EIO) {
                        /* The interface went with its namespace: the box has ended, and the launcher will say so. */
                        log_step("the box's interface is gone");
                        events_remove(net->events, &net->on_tap);
                        fd_closep(&net->tap);
                        return true;
                }
                return err_set(error, errno, "read from the TAP");
        }
        return true;
}

static void on_wire(EventSource *source, uint32_t events) {
        Net *net = EVENTS_OWNER(source, Net, on_wire);

        if (control_receive(net, &net->error) <= 0)
                net->ended = true;
}

static void on_host(EventSource *source, uint32_t events) {
        Net *net = EVENTS_OWNER(source, Net, on_host);
        bool changed = false;

        if (!hostaddr_update(&net->host, &changed, &net->error))
                net->ended = true;
        net->policy.host = net->host.prefixes;
        /* A socket that is connected would go on, to the host itself. */
        if (!changed || net->ended)
                return;
        (void) account_cut(net->account, &net->policy, NULL);
        udp_host_changed(net->udp, &net->policy);
        ping_host_changed(net->ping, &net->policy);
}

static void on_tap(EventSource *source, uint32_t events) {
        Net *net = EVENTS_OWNER(source, Net, on_tap);

        if (!take_frames(net, &net->error))
                net->ended = true;
        udp_flush(net->udp);
}

static bool watch(Net *net, EventSource *source, int fd, void (*ready)(EventSource *source, uint32_t events), GError **error) {
        source->ready = ready;
        return events_add(net->events, source, fd, EPOLLIN) || err_set(error, errno, "epoll_ctl");
}

bool loop_start(Net *net, GError **error) {
        net->read_buf = g_malloc(READ_SIZE);
        net->dns_frame = g_malloc(FRAME_MAX);
        if (!watch(net, &net->on_wire, net->wire, on_wire, error) || !watch(net, &net->on_host, net->host.fd, on_host, error) ||
            !watch(net, &net->on_tap, net->tap, on_tap, error))
                return false;
        control_begin(net);
        stack_on_sent(net->stack, send_held);
        /* Before the first frame, so that libslirp's clock is set. */
        stack_turn(net->stack);
        return true;
}

bool loop_run(Net *net, GError **error) {
        if (!loop_start(net, error))
                return false;
        while (!net->ended)
                if (!events_turn(net->events, error))
                        return false;
        if (!net->error)
                return true;
        g_propagate_error(error, g_steal_pointer(&net->error));
        return false;
}
