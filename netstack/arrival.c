/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams of a socket that is bound to all of the host's addresses: answers come from the one that was asked.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: under forward.c.
 *
 * Left to itself the kernel chooses by the way back, and a host mostly has several addresses: those of its networks, by IPv6 that of the day and that
 * which stays. Who has connected his socket never gets an answer from another one than he wrote to.
 */
#include <string.h>
#include <sys/socket.h>

#include "netstack/arrival.h"

typedef union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
} Control;

bool arrival_want(int fd, int family) {
        const int on = 1;
        return setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO, &on, sizeof on) == 0;
}

static void take_info(const struct cmsghdr *c, struct in6_addr *ret) {
        struct in_pktinfo info;
        struct in6_pktinfo info6;

        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                memcpy(&info, CMSG_DATA(c), sizeof info);
                *ret = address_mapped((const uint8_t *) &info.ipi_spec_dst); /* of a broadcast, the host's own */
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
                memcpy(&info6, CMSG_DATA(c), sizeof info6);
                if (!IN6_IS_ADDR_MULTICAST(&info6.ipi6_addr))
                        *ret = info6.ipi6_addr;
        }
}

ssize_t arrival_receive(int fd, void *data, size_t len, Arrival *ret) {
        Control control;
        struct iovec iov = { .iov_base = data, .iov_len = len };

        *ret = (Arrival){ .from_len = 0 };
        struct msghdr msg = { .msg_name = &ret->from, .msg_namelen = sizeof ret->from, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
        ssize_t n = recvmsg(fd, &msg, 0);
        if (n < 0)
                return -1;
        ret->from_len = msg.msg_namelen;
        for (const struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, (struct cmsghdr *) c))
                take_info(c, &ret->to);
        return n;
}

ssize_t arrival_answer(int fd, const void *data, size_t len, const Arrival *arrival) {
        bool v4 = arrival->from.ss_family == AF_INET;
        Control control = { 0 };
        struct in_pktinfo info = { 0 };
        struct in6_pktinfo info6 = { .ipi6_addr = arrival->to };
        struct iovec iov = { .iov_base = (void *) data, .iov_len = len };
        struct msghdr msg = { .msg_name = (void *) &arrival->from, .msg_namelen = arrival->from_len, .msg_iov = &iov, .msg_iovlen = 1 };

        if (!IN6_IS_ADDR_UNSPECIFIED(&arrival->to)) {
                size_t size = v4 ? sizeof info : sizeof info6;
                memcpy(&info.ipi_spec_dst, arrival->to.s6_addr + 12, sizeof info.ipi_spec_dst);
                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(size);
                struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
                c->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
                c->cmsg_len = CMSG_LEN(size);
                memcpy(CMSG_DATA(c), v4 ? (const void *) &info : (const void *) &info6, size);
        }
        return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}
