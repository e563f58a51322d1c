/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests to the kernel by netlink(7), put together and sent as one packet.
 *
 * Role: who sets a box's network up: the payload under usbox, a process of usbox-net's that has joined the namespace where that runs by
 * itself. Privileges: whatever the requests ask for. Threads: one.
 *
 * A handful of fixed messages, whose answers are read together, is less than a library's start would cost each run.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/netlink.h"

struct nlmsghdr *netlink_add(NetlinkBatch *b, const char *what, guint16 type, guint16 flags, const void *body, size_t len) {
        struct nlmsghdr *h = (struct nlmsghdr *) (b->buf.bytes + b->len);

        g_assert(b->n < NETLINK_REQUESTS_MAX && b->len + NLMSG_SPACE(len) <= sizeof b->buf);
        *h = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(len), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags, .nlmsg_seq = b->n };
        memcpy(NLMSG_DATA(h), body, len);
        b->what[b->n++] = what;
        b->len += NLMSG_ALIGN(h->nlmsg_len);
        return h;
}

void netlink_attr(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, const void *data, size_t len) {
        struct rtattr *a = (struct rtattr *) (b->buf.bytes + b->len);

        g_assert(b->len + RTA_SPACE(len) <= sizeof b->buf);
        memset(a, 0, RTA_SPACE(len));
        *a = (struct rtattr){ .rta_type = type, .rta_len = (unsigned short) RTA_LENGTH(len) };
        memcpy(RTA_DATA(a), data, len);
        b->len += RTA_SPACE(len);
        h->nlmsg_len += (guint32) RTA_SPACE(len);
}

void netlink_attr_u32(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, guint32 value) {
        netlink_attr(b, h, type, &value, sizeof value);
}

void netlink_attr_address(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, int family, const char *text) {
        guint8 addr[16];
        int r = inet_pton(family, text, addr);

        g_assert(r == 1);
        netlink_attr(b, h, type, addr, family == AF_INET ? 4 : 16);
}

size_t netlink_nest(NetlinkBatch *b, struct nlmsghdr *h, guint16 type) {
        size_t at = b->len;

        netlink_attr(b, h, type, "", 0);
        return at;
}

void netlink_nest_end(NetlinkBatch *b, size_t nest) {
        struct rtattr *a = (struct rtattr *) (b->buf.bytes + nest);
        a->rta_len = (unsigned short) (b->len - nest);
}

bool netlink_run(const NetlinkBatch *b, int family, GError **error) {
        struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
        union {
                struct nlmsghdr align;
                guint8 bytes[8192];
        } answer;

        if (b->n == 0)
                return true;
        _cleanup_close_ int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
        if (nl < 0 || sendto(nl, b->buf.bytes, b->len, 0, (struct sockaddr *) &kernel, sizeof kernel) < 0)
                return err_set(error, errno, "netlink %d", family);
        unsigned answered = 0;
        for (unsigned i = 0; i < b->n; i++)
                answered += b->what[i] ? 0 : 1;
        while (answered < b->n) {
                ssize_t n = recv(nl, answer.bytes, sizeof answer.bytes, 0);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_set(error, errno, "netlink %d", family);
                }
                for (struct nlmsghdr *h = &answer.align; NLMSG_OK(h, (size_t) n); h = NLMSG_NEXT(h, n)) {
                        if (h->nlmsg_type != NLMSG_ERROR)
                                continue;
                        const struct nlmsgerr *e = NLMSG_DATA(h);
                        const char *what = h->nlmsg_seq < b->n ? b->what[h->nlmsg_seq] : NULL;
                        answered++;
                        if (e->error != 0)
                                return err_set(error, -e->error, "%s", what ? what : "netlink");
                }
        }
        return true;
}
