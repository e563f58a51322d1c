/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The addresses of the host, for the policy to deny.
 *
 * Role: usbox-net, in the host's network namespace. Privileges: none needed. Threads: one. Order: opened before the
 * confinement, since its filter lets no netlink socket be made.
 *
 * The question is not which addresses stand on an interface but what the kernel delivers to itself, and that is what the
 * routing table "local" says: every address, the whole prefix of an address on lo, prefixes routed to lo by hand, anycast
 * and broadcast addresses. Its changes come as notifications of routes; each makes us read the table anew, which is
 * small. Of other tables it is the single addresses that are local: those of interfaces in a VRF, to which routes may lead from outside of it. Not the
 * prefixes there: transparent proxies keep "local default" in a table of their own, for marked packets.
 */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/address.h"
#include "netstack/hostaddr.h"

/* A dump is asked for again when a change came into it; a host where that never ends is not usable. */
#define DUMP_TRIES 100

/* netlink(7): a page at least, and as large as what the kernel likes to fill. */
#define RECEIVE_SIZE 32768

typedef enum { REPLY_MORE, REPLY_DONE, REPLY_FAILED } ReplyState;

void hostaddr_close(HostAddr *hostaddr) {
        fd_closep(&hostaddr->fd);
        g_clear_pointer(&hostaddr->prefixes, g_array_unref);
}

/* table: RT_TABLE_LOCAL, or RT_TABLE_UNSPEC for what is local in others. */
static bool request_dump(HostAddr *h, int family, unsigned char table, GError **error) {
        struct {
                struct nlmsghdr header;
                struct rtmsg route;
        } request = {
                .header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_GETROUTE,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = ++h->sequence },
                .route = { .rtm_family = (unsigned char) family, .rtm_table = table,
                           .rtm_type = table == RT_TABLE_UNSPEC ? RTN_LOCAL : RTN_UNSPEC },
        };

        h->table = table;
        if (send(h->fd, &request, request.header.nlmsg_len, 0) < 0)
                return err_set(error, errno, "ask for the host's addresses");
        return true;
}

static bool is_ours(const struct rtmsg *route) {
        return route->rtm_type == RTN_LOCAL || (route->rtm_table == RT_TABLE_LOCAL && (route->rtm_type == RTN_ANYCAST || route->rtm_type == RTN_BROADCAST));
}

/* Is this message about a route of the table "local", or a local one of another? With prefixes, add its destination. */
static bool take_route(const HostAddr *h, const struct nlmsghdr *header, GArray *prefixes) {
        if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg)))
                return false;
        const struct rtmsg *route = NLMSG_DATA(header);
        size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(struct rtmsg)), size = route->rtm_family == AF_INET ? 4 : 16;

        if ((route->rtm_family != AF_INET && route->rtm_family != AF_INET6) || !is_ours(route))
                return false;
        if (!prefixes || route->rtm_dst_len > size * 8)
                return true;
        /* All are sent where the table unspecified is asked for; and where an old kernel does not look at it. */
        bool local = route->rtm_table == RT_TABLE_LOCAL;
        if (local != (h->table == RT_TABLE_LOCAL) || (!local && route->rtm_dst_len != size * 8))
                return true;

        AddressPrefix prefix = { .len = (uint8_t) (route->rtm_dst_len + (size == 4 ? 96 : 0)) };
        uint8_t dst[16] = { 0 };
        for (const struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left))
                if (a->rta_type == RTA_DST && RTA_PAYLOAD(a) == size)
                        memcpy(dst, RTA_DATA(a), size);
        if (size == 4)
                prefix.addr = address_mapped(dst);
        else
                memcpy(&prefix.addr, dst, size);
        g_array_append_val(prefixes, prefix);
        return true;
}

/* One packet from the kernel, n bytes: what belongs to the dump goes to prefixes, what does not sets *ret_changed. */
static ReplyState take_packet(const HostAddr *h, const uint8_t *buf, size_t n, GArray *prefixes, bool *ret_changed,
                              int *ret_errno) {
        for (const struct nlmsghdr *m = (const void *) buf; NLMSG_OK(m, n); m = NLMSG_NEXT(m, n)) {
                if (m->nlmsg_seq != h->sequence || !prefixes) {
                        if (m->nlmsg_type == RTM_NEWROUTE || m->nlmsg_type == RTM_DELROUTE)
                                *ret_changed |= take_route(h, m, NULL);
                        continue;
                }
                if (m->nlmsg_flags & NLM_F_DUMP_INTR)
                        *ret_changed = true;
                if (m->nlmsg_type == NLMSG_ERROR) {
                        *ret_errno = m->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? -*(const int *) NLMSG_DATA(m) : EPROTO;
                        return REPLY_FAILED;
                }
                if (m->nlmsg_type == NLMSG_DONE)
                        return REPLY_DONE;
                if (m->nlmsg_type == RTM_NEWROUTE)
                        take_route(h, m, prefixes);
        }
        return REPLY_MORE;
}

/* All of one family's table, or of all; *ret_changed: it has to be read again. The kernel answers at once, so this waits for nobody. */
static bool dump_table(HostAddr *h, int family, unsigned char table, GArray *prefixes, bool *ret_changed, GError **error) {
        g_autofree uint8_t *buf = g_malloc(RECEIVE_SIZE);

        if (!request_dump(h, family, table, error))
                return false;
        for (;;) {
                int errnum = 0;
                ssize_t n = recv(h->fd, buf, RECEIVE_SIZE, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == ENOBUFS) { /* notifications were lost */
                        *ret_changed = true;
                        continue;
                }
                if (n < 0)
                        return err_set(error, errno, "read the host's addresses");
                switch (take_packet(h, buf, (size_t) n, prefixes, ret_changed, &errnum)) {
                case REPLY_DONE:
                        return true;
                case REPLY_FAILED:
                        if (family == AF_INET6 && (errnum == EOPNOTSUPP || errnum == EAFNOSUPPORT))
                                return true; /* a kernel without IPv6 */
                        return err_set(error, errnum, "read the host's addresses");
                case REPLY_MORE:
                        break;
                }
        }
}

static bool dump(HostAddr *h, GError **error) {
        for (int i = 0; i < DUMP_TRIES; i++) {
                g_autoptr(GArray) prefixes = g_array_new(false, false, sizeof(AddressPrefix));
                bool changed = false;
                if (!dump_table(h, AF_INET, RT_TABLE_LOCAL, prefixes, &changed, error) || !dump_table(h, AF_INET6, RT_TABLE_LOCAL, prefixes, &changed, error) ||
                    !dump_table(h, AF_INET, RT_TABLE_UNSPEC, prefixes, &changed, error) || !dump_table(h, AF_INET6, RT_TABLE_UNSPEC, prefixes, &changed, error))
                        return false;
                g_clear_pointer(&h->prefixes, g_array_unref);
                h->prefixes = g_steal_pointer(&prefixes);
                if (!changed)
                        return true;
        }
        return err_set(error, EAGAIN, "read the host's addresses");
}

bool hostaddr_open(HostAddr *ret, GError **error) {
        g_auto(HostAddr) h = { .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) };
        struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE };
        int on = 1;

        if (h.fd < 0 || bind(h.fd, (struct sockaddr *) &addr, sizeof addr) < 0)
                return err_set(error, errno, "netlink socket");
        /* Only then does the kernel look at the table in the request, rather than sending all of them. */
        (void) setsockopt(h.fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
        if (!dump(&h, error))
                return false;

        *ret = h;
        h = (HostAddr){ .fd = -1 };
        return true;
}

bool hostaddr_update(HostAddr *hostaddr, bool *ret_changed, GError **error) {
        g_autofree uint8_t *buf = g_malloc(RECEIVE_SIZE);
        bool changed = false;

        for (;;) {
                int errnum;
                ssize_t n = recv(hostaddr->fd, buf, RECEIVE_SIZE, MSG_DONTWAIT);
                if (n >= 0)
                        (void) take_packet(hostaddr, buf, (size_t) n, NULL, &changed, &errnum);
                else if (errno == ENOBUFS)
                        changed = true;
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        return err_set(error, errno, "read changes of the host's addresses");
        }
        *ret_changed = changed;
        return !changed || dump(hostaddr, error);
}
