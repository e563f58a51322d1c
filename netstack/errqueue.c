/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ICMP errors that the kernel keeps for a socket (ip(7), IP_RECVERR): with the router's address, type and code, so that the box can get
 * them as they were.
 *
 * Role: usbox-net. Privileges: none. Threads: any. Order: under udp.c and ping.c.
 */
#include <time.h> /* first: the next wants it */

#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#include "netstack/errqueue.h"

static bool is_told(const struct sock_extended_err *e) {
        if (e->ee_origin == SO_EE_ORIGIN_ICMP)
                return e->ee_type == ICMP_DEST_UNREACH || e->ee_type == ICMP_TIME_EXCEEDED;
        return e->ee_origin == SO_EE_ORIGIN_ICMP6 &&
               (e->ee_type == ICMP6_DST_UNREACH || e->ee_type == ICMP6_TIME_EXCEEDED || e->ee_type == ICMP6_PACKET_TOO_BIG);
}

static bool take_error(struct cmsghdr *c, ErrqueueError *ret) {
        struct sock_extended_err e;

        memcpy(&e, CMSG_DATA(c), sizeof e);
        if (!is_told(&e))
                return false;
        const struct sockaddr *offender = SO_EE_OFFENDER((struct sock_extended_err *) (void *) CMSG_DATA(c));
        ret->icmp = (ReplyIcmp){ .type = e.ee_type, .code = e.ee_code, .info = e.ee_info,
                                 .from = address_of_socket(offender, &ret->from, NULL) ? &ret->from : NULL };
        return true;
}

bool errqueue_take(int fd, ErrqueueError *ret, bool *ret_told) {
        union {
                struct cmsghdr align;
                char space[512];
        } control;
        struct iovec iov = { .iov_base = ret->quoted, .iov_len = sizeof ret->quoted };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };

        *ret_told = false;
        ssize_t n = recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
        if (n < 0)
                return false;
        ret->quoted_len = (size_t) n;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c && !*ret_told; c = CMSG_NXTHDR(&msg, c))
                if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
                        *ret_told = take_error(c, ret);
        return true;
}

bool errqueue_want(int fd, int family) {
        const int on = 1;
        return setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &on, sizeof on) == 0;
}
