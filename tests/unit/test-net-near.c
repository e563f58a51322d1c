/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Of which peers what may wait is bounded (netstack/near.c): by how long the kernel says that they take to answer.
 */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "netstack/near.h"

#define NEAR_RTT 100 /* µs, as in near.c */
#define TRIES 1000   /* on a busy machine the peer beside us may be far, too */

/* ret[0] has connected to ret[1], over loopback. */
static void tcp_pair(int ret[2]) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof to;
        _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        g_assert_true(bind(listener, (struct sockaddr *) &to, sizeof to) == 0 && listen(listener, 1) == 0);
        g_assert_true(getsockname(listener, (struct sockaddr *) &to, &len) == 0);
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_true(connect(ret[0], (struct sockaddr *) &to, sizeof to) == 0);
        ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(ret[1], >=, 0);
}

static unsigned rtt_of(int fd) {
        struct tcp_info info;
        socklen_t len = sizeof info;

        g_assert_true(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
        return info.tcpi_rtt;
}

static int number(int fd, int level, int name) {
        int value = -1;
        socklen_t len = sizeof value;

        g_assert_true(getsockopt(fd, level, name, &value, &len) == 0);
        return value;
}

static void test_near(void) {
        bool bounded = false;

        for (int i = 0; i < TRIES && !bounded; i++) {
                int pair[2];
                tcp_pair(pair);
                int before = number(pair[0], SOL_SOCKET, SO_RCVBUF);
                bool near = rtt_of(pair[0]) <= NEAR_RTT;
                near_bound(pair[0]);
                int after = number(pair[0], SOL_SOCKET, SO_RCVBUF);
                if (near) {
                        g_assert_cmpint(after, !=, before);
                        /* What was asked for, doubled; the window is told, too. */
                        g_assert_cmpint(number(pair[0], IPPROTO_TCP, TCP_WINDOW_CLAMP), ==, after);
                        bounded = true;
                } else {
                        g_assert_cmpint(after, ==, before);
                }
                close(pair[0]);
                close(pair[1]);
        }
        g_assert_true(bounded);
}

/* It says after 40 ms only that it has got a byte (a delayed ACK), which the kernel takes for the time that it takes. */
static void test_far(void) {
        int pair[2], off = 0, queued, before;

        tcp_pair(pair);
        g_assert_true(setsockopt(pair[1], IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off) == 0);
        before = number(pair[0], SOL_SOCKET, SO_RCVBUF);
        g_assert_true(send(pair[0], "x", 1, MSG_NOSIGNAL) == 1);
        do {
                g_usleep(1000);
                g_assert_true(ioctl(pair[0], SIOCOUTQ, &queued) == 0);
        } while (queued > 0);
        g_assert_cmpuint(rtt_of(pair[0]), >, NEAR_RTT);
        near_bound(pair[0]);
        g_assert_cmpint(number(pair[0], SOL_SOCKET, SO_RCVBUF), ==, before);
        close(pair[0]);
        close(pair[1]);
}

/* What is no connection yet says nothing of its peer. */
static void test_unconnected(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int before = number(fd, SOL_SOCKET, SO_RCVBUF), others = number(other, SOL_SOCKET, SO_RCVBUF);

        near_bound(fd);
        near_bound(other);
        g_assert_cmpint(number(fd, SOL_SOCKET, SO_RCVBUF), ==, before);
        g_assert_cmpint(number(other, SOL_SOCKET, SO_RCVBUF), ==, others);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-near/near", test_near);
        g_test_add_func("/net-near/far", test_far);
        g_test_add_func("/net-near/unconnected", test_unconnected);
        return g_test_run();
}
