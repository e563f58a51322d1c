/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Programs in fuzz-frames: the host's servers, those who speak to published ports, and those of the box that are on the fast path.
 *
 * Role: tests only. Privileges: those of frames-world.c. Threads: one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "frames-check.h"
#include "frames-world.h"
#include "frames.h"

#define PEERS_MAX 16

static int peers[PEERS_MAX], programs[PORTS], clients[PORTS]; /* -1: none */

/* The last datagram that this server has, or was answered already. */
typedef struct {
        struct sockaddr_in6 from;
        struct in6_pktinfo to; /* as whom it is answered */
        size_t len;            /* in data; it is of the name server alone */
        uint8_t data[1024];
} Asked;
static Asked asked[WORLD_UDP_SERVERS];

void peers_begin(void) {
        for (int i = 0; i < PEERS_MAX; i++)
                peers[i] = -1;
        for (int i = 0; i < PORTS; i++)
                programs[i] = clients[i] = -1;
        memset(asked, 0, sizeof asked);
}

void peers_reset(void) {
        for (int i = 0; i < PEERS_MAX; i++)
                world_reset(&peers[i]);
        for (int i = 0; i < PORTS; i++) {
                world_reset(&programs[i]);
                world_reset(&clients[i]);
        }
}

/* Where there is no place for one more, or no descriptor, he waits. */
void peers_accept(void) {
        struct pollfd waiting[WORLD_TCP_SERVERS];
        int next = 0;

        for (int i = 0; i < WORLD_TCP_SERVERS; i++)
                waiting[i] = (struct pollfd){ .fd = world_tcp[i], .events = POLLIN };
        if (poll(waiting, WORLD_TCP_SERVERS, 0) <= 0)
                return;
        for (int i = 0; i < WORLD_TCP_SERVERS; i++)
                while (waiting[i].revents && next < PEERS_MAX)
                        if (peers[next] >= 0)
                                next++;
                        else if ((peers[next] = accept4(world_tcp[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0)
                                break;
}

/* One end of a connection does something. */
static void act(Input *in, int *fd, uint8_t what) {
        if (*fd < 0)
                return;
        switch (what % 8) {
        case 0:
                (void) send(*fd, frames_buf, take_into(in, frames_buf, take8(in)), MSG_NOSIGNAL | MSG_DONTWAIT);
                break;
        case 1:
                memset(frames_buf, 0x55, 65536);
                (void) send(*fd, frames_buf, (size_t) take8(in) * 256, MSG_NOSIGNAL | MSG_DONTWAIT);
                break;
        case 2:
                (void) send(*fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_OOB);
                break;
        case 3:
                (void) recv(*fd, frames_buf, 65536, MSG_DONTWAIT);
                break;
        case 4:
                (void) shutdown(*fd, SHUT_WR);
                break;
        case 5:
                fd_closep(fd);
                break;
        case 6:
                world_reset(fd);
                break;
        case 7:
                (void) shutdown(*fd, SHUT_RD);
                break;
        }
}

void peers_act(Input *in) {
        uint8_t what = take8(in);
        act(in, &peers[what / 8 % PEERS_MAX], what);
}

void peers_program(Input *in) {
        uint8_t what = take8(in), who = take8(in);
        int i = what / 8 % PORTS, *fd = &programs[i];
        struct sockaddr_storage own, to;
        socklen_t len;

        if (*fd >= 0) {
                act(in, fd, what);
                return;
        }
        const char *text = box_destination(who);
        int family = strchr(text, ':') ? AF_INET6 : AF_INET;
        (void) net_address_parse(text, WORLD_FAST_PORT, &to, &len);
        (void) net_address_parse(family == AF_INET ? NET_BOX_IPV4 : NET_BOX_IPV6, (uint16_t) (PORT_BASE + i), &own, &len);
        *fd = world_program(family);
        if (*fd >= 0 && (bind(*fd, (struct sockaddr *) &own, len) < 0 || (connect(*fd, (struct sockaddr *) &to, len) < 0 && errno != EINPROGRESS)))
                world_reset(fd);
}

/* What this server has got, the last of it. False: nothing ever. */
static bool take_asked(int server) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        } control;
        Asked *a = &asked[server];
        ssize_t n;

        for (;;) {
                struct iovec iov = { .iov_base = a->data, .iov_len = sizeof a->data };
                struct msghdr msg = { .msg_name = &a->from, .msg_namelen = sizeof a->from, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                                      .msg_controllen = sizeof control };
                if ((n = recvmsg(world_udp[server], &msg, MSG_DONTWAIT)) < 0)
                        return a->from.sin6_port != 0;
                a->len = (size_t) n;
                for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
                        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
                                memcpy(&a->to, CMSG_DATA(c), sizeof a->to);
        }
}

static void answer(int server, const uint8_t *data, size_t len) {
        Asked *a = &asked[server];
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        } control = { 0 };
        struct iovec iov = { .iov_base = (void *) data, .iov_len = len };
        struct msghdr msg = { .msg_name = &a->from, .msg_namelen = sizeof a->from, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };

        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = IPPROTO_IPV6;
        c->cmsg_type = IPV6_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof a->to);
        a->to.ipi6_ifindex = 0;
        memcpy(CMSG_DATA(c), &a->to, sizeof a->to);
        (void) sendmsg(world_udp[server], &msg, MSG_DONTWAIT);
}

void peers_answer(Input *in) {
        uint8_t n = take8(in);
        unsigned lengths = take16(in);

        size_t len = take_payload(in, frames_buf, lengths & 0x8000, lengths & 0x8000 ? lengths & 0x7fff : lengths & 0x1ff);
        const int segment = n & 0x80 ? (int) take16(in) : 0; /* many by one call */
        (void) setsockopt(world_udp[0], SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
        for (int i = 0; take_asked(0) && i < n % 8 + 1; i++)
                answer(0, frames_buf, len);
}

/* The question that was asked again, an address or what the input has as its answer; by UDP or on that connection. */
void peers_name(Input *in) {
        uint8_t how = take8(in), *msg = frames_buf + 2;
        unsigned flags = take16(in);
        const uint8_t *question = asked[1].data;
        size_t len = 0, at = 12;
        int *peer = &peers[how / 4 % PEERS_MAX];

        if (how & 1) {
                ssize_t n = *peer >= 0 ? recv(*peer, frames_buf + 4096, 1024, MSG_DONTWAIT) : -1;
                len = n > 2 ? (size_t) n - 2 : 0;
                question = frames_buf + 4096 + 2;
        } else if (take_asked(1)) {
                len = asked[1].len;
        }
        while (at < len && question[at] != 0)
                at += question[at] + 1u;
        if (at + 5 > len)
                return;
        memcpy(msg, question, at + 5);
        packet_put16(msg + 2, flags);
        packet_put16(msg + 6, how & 2 ? 1 : flags % 3);
        packet_put32(msg + 8, 0);
        at += 5;
        if (how & 2) { /* an address of the first half of the list */
                memcpy(msg + at, "\xc0\x0c\0\1\0\1\0\0\0\x20\0\4", 12);
                g_assert_cmpint(inet_pton(AF_INET, box_destination((flags >> 4) % 12), msg + at + 12), ==, 1);
                at += 16;
        } else {
                at += take_into(in, msg + at, take8(in));
        }
        check_answered = true;
        packet_put16(frames_buf, (unsigned) at);
        if (!(how & 1))
                answer(1, msg, at);
        else if (*peer >= 0)
                (void) send(*peer, frames_buf, at + 2, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The host's own programs: TCP, or by the highest bit UDP. */
void peers_client(Input *in) {
        uint8_t what = take8(in);
        bool udp = what & 0x80;
        int i = what / 8 % (PORTS / 2) + (udp ? PORTS / 2 : 0), *fd = &clients[i];
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(udp ? CHECK_HOST_UDP_PORT : CHECK_HOST_TCP_PORT) };

        if (!check_published)
                return;
        if (*fd >= 0) {
                act(in, fd, udp && what % 8 > 1 ? (uint8_t) 3 : what); /* that of UDP is not closed: the stack may answer it yet */
                return;
        }
        to.sin_addr.s_addr = htonl(what & 1 ? INADDR_LOOPBACK : 0xc000024d);
        *fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (*fd < 0)
                return;
        if (connect(*fd, (struct sockaddr *) &to, sizeof to) < 0 && errno != EINPROGRESS)
                fd_closep(fd);
        else if (udp)
                check_client(*fd);
}
