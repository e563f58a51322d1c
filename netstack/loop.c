/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop: one poll(2) over the launcher's wire, the host's address changes, the TAP and libslirp's sockets.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: last, until the end.
 *
 * In each turn a change of the host's addresses is taken in before the frames that it could concern, and libslirp sees
 * its sockets after new frames: only then does it send what had waited for one (an ARP answer). Its clock goes on only
 * then too, so that it stands for as long as poll(2) waits, a second at most, and has to be set before the first frame.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/wire.h"
#include "netstack/loop.h"
#include "netstack/reply.h"

/* An Ethernet header before the largest packet that a TAP can carry. */
#define FRAME_MAX (PACKET_ETH_LEN + 65536)

/* Frames taken in one turn, so that what comes from the host has its turn too. */
#define FRAMES_PER_TURN 64

enum { POLL_WIRE, POLL_HOST, POLL_TAP, POLL_OWN };

void loop_send(const void *frame, size_t len, void *data) {
        const Net *net = data;

        if (net->tap < 0)
                return;
        /* A full queue loses the frame, as any wire does: TCP sends it again, waiting would stop all other flows. An
         * interface that is down or gone (EIO, EBADFD) is seen where frames are read. */
        ssize_t n;
        do
                n = write(net->tap, frame, len);
        while (n < 0 && errno == EINTR);
}

static void take_frame(Net *net, const uint8_t *frame, size_t len) {
        uint8_t reply[REPLY_MAX];
        PolicyDecision decision;
        Packet packet;
        bool judged;

        PolicyVerdict verdict = policy_frame(&net->policy, frame, len, &packet, &decision, &judged);
        if (verdict == POLICY_DROP)
                return;
        /* Whom a published port's answer may go to is more than the policy can know: it holds even where that refuses. */
        if (forward_input(net->forward, &packet))
                return;

        switch (verdict) {
        case POLICY_PASS:
        case POLICY_DNS:
                stack_input(net->stack, frame, packet.len);
                break;
        case POLICY_REFUSE: {
                size_t n = reply_refuse(&packet, reply);
                if (n > 0)
                        loop_send(reply, n, net);
                break;
        }
        case POLICY_DROP:
                break;
        }
}

/* Take what frames there are, a turn's worth at most. */
static bool take_frames(Net *net, uint8_t *buf, GError **error) {
        for (int i = 0; i < FRAMES_PER_TURN; i++) {
                ssize_t n = read(net->tap, buf, FRAME_MAX);
                if (n >= 0) {
                        take_frame(net, buf, (size_t) n);
                        continue;
                }
                if (errno == EAGAIN || errno == EINTR)
                        return true;
                if (errno == EBADFD || errno == EIO) {
                        /* The interface went with its namespace: the box has ended, and the launcher will say so. */
                        log_step("the box's interface is gone");
                        fd_closep(&net->tap);
                        return true;
                }
                return err_set(error, errno, "read from the TAP");
        }
        return true;
}

/* Nothing is said to usbox-net after READY. 1: go on, 0: the launcher has gone, -1: error. */
static int check_wire(const Net *net, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(net->wire, &m, error);
        if (r > 0) {
                err_set(error, EPROTO, "unexpected message %s", wire_type_name(m.type));
                return -1;
        }
        return r;
}

bool loop_run(Net *net, GError **error) {
        g_autoptr(GArray) fds = g_array_new(false, false, sizeof(struct pollfd));
        g_autofree uint8_t *buf = g_malloc(FRAME_MAX);

        stack_prepare(net->stack, fds);
        stack_dispatch(net->stack, fds);

        for (;;) {
                const struct pollfd own[POLL_OWN] = {
                        [POLL_WIRE] = { .fd = net->wire, .events = POLLIN },
                        [POLL_HOST] = { .fd = net->host.fd, .events = POLLIN },
                        [POLL_TAP] = { .fd = net->tap, .events = POLLIN },
                };
                g_array_set_size(fds, 0);
                g_array_append_vals(fds, own, POLL_OWN);
                forward_prepare(net->forward, fds);
                int timeout = stack_prepare(net->stack, fds);

                if (poll((struct pollfd *) (void *) fds->data, fds->len, timeout) < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_set(error, errno, "poll");
                }

                if (g_array_index(fds, struct pollfd, POLL_WIRE).revents) {
                        int r = check_wire(net, error);
                        if (r <= 0)
                                return r == 0;
                }
                if (g_array_index(fds, struct pollfd, POLL_HOST).revents) {
                        if (!hostaddr_update(&net->host, error))
                                return false;
                        net->policy.host = net->host.prefixes;
                }
                if (g_array_index(fds, struct pollfd, POLL_TAP).revents && !take_frames(net, buf, error))
                        return false;
                forward_dispatch(net->forward, fds);
                stack_dispatch(net->stack, fds);
        }
}
