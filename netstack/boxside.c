/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A network namespace's side of the network: loopback, TAP, addresses, routes.
 *
 * Role: the payload under usbox, a process of usbox-net's that has joined the namespace where that runs by itself. Privileges: CAP_NET_ADMIN
 * over the namespace. Threads: one. Order: before the root is built, because /dev/net/tun is the host's.
 *
 * The requests go to rtnetlink(7) as one packet and their answers are read together: a handful of fixed messages is less
 * than a library's start would cost each run.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/boxside.h"
#include "netstack/config.h"
#include "netstack/subnet.h"

#define BATCH_MAX 2048
#define REQUESTS_MAX 16

/* Requests that go out together. what[i] names the request with sequence number i, for the error. */
typedef struct {
        union {
                struct nlmsghdr align;
                uint8_t bytes[BATCH_MAX];
        } buf;
        size_t len;
        unsigned n;
        const char *what[REQUESTS_MAX];
} Batch;

static struct nlmsghdr *batch_add(Batch *b, const char *what, uint16_t type, uint16_t flags, const void *body, size_t len) {
        struct nlmsghdr *h = (struct nlmsghdr *) (b->buf.bytes + b->len);

        g_assert(b->n < REQUESTS_MAX && b->len + NLMSG_SPACE(len) <= BATCH_MAX);
        *h = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(len), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags, .nlmsg_seq = b->n };
        memcpy(NLMSG_DATA(h), body, len);
        b->what[b->n++] = what;
        b->len += NLMSG_ALIGN(h->nlmsg_len);
        return h;
}

static void batch_attr(Batch *b, struct nlmsghdr *h, uint16_t type, const void *data, size_t len) {
        struct rtattr *a = (struct rtattr *) (b->buf.bytes + b->len);

        g_assert(b->len + RTA_SPACE(len) <= BATCH_MAX);
        *a = (struct rtattr){ .rta_type = type, .rta_len = (unsigned short) RTA_LENGTH(len) };
        memcpy(RTA_DATA(a), data, len);
        b->len += RTA_SPACE(len);
        h->nlmsg_len += (uint32_t) RTA_SPACE(len);
}

static void add_link_up(Batch *b, const char *what, int index, uint32_t mtu) {
        struct ifinfomsg link = { .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
        struct nlmsghdr *h = batch_add(b, what, RTM_NEWLINK, 0, &link, sizeof link);
        if (mtu)
                batch_attr(b, h, IFLA_MTU, &mtu, sizeof mtu);
}

static void add_address(Batch *b, const char *what, int index, int family, const char *text, uint8_t prefix) {
        uint8_t addr[16];
        size_t len = family == AF_INET ? 4 : 16;
        /* No duplicate address detection: the address would be unusable for a second, and nobody else is on this link. */
        struct ifaddrmsg msg = { .ifa_family = (uint8_t) family, .ifa_prefixlen = prefix, .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
                                 .ifa_index = (uint32_t) index };

        g_assert(inet_pton(family, text, addr) == 1);
        struct nlmsghdr *h = batch_add(b, what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &msg, sizeof msg);
        batch_attr(b, h, IFA_LOCAL, addr, len);
        if (family == AF_INET)
                batch_attr(b, h, IFA_ADDRESS, addr, len);
}

static void add_default_route(Batch *b, const char *what, int index, int family, const char *gateway) {
        uint8_t addr[16];
        size_t len = family == AF_INET ? 4 : 16;
        uint32_t oif = (uint32_t) index;
        struct rtmsg msg = { .rtm_family = (uint8_t) family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
                             .rtm_type = RTN_UNICAST };

        g_assert(inet_pton(family, gateway, addr) == 1);
        struct nlmsghdr *h = batch_add(b, what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &msg, sizeof msg);
        batch_attr(b, h, RTA_GATEWAY, addr, len);
        batch_attr(b, h, RTA_OIF, &oif, sizeof oif);
}

/* Send the batch and read one answer for each request. */
static bool batch_run(const Batch *b, int nl, GError **error) {
        struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
        union {
                struct nlmsghdr align;
                uint8_t bytes[8192];
        } answer;

        if (b->n == 0)
                return true;
        if (sendto(nl, b->buf.bytes, b->len, 0, (struct sockaddr *) &kernel, sizeof kernel) < 0)
                return err_set(error, errno, "rtnetlink");
        for (unsigned seen = 0; seen < b->n;) {
                ssize_t n = recv(nl, answer.bytes, sizeof answer.bytes, 0);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_set(error, errno, "rtnetlink");
                }
                for (struct nlmsghdr *h = &answer.align; NLMSG_OK(h, (size_t) n); h = NLMSG_NEXT(h, n)) {
                        if (h->nlmsg_type != NLMSG_ERROR)
                                continue;
                        const struct nlmsgerr *e = NLMSG_DATA(h);
                        seen++;
                        if (e->error != 0)
                                return err_set(error, -e->error, "%s", h->nlmsg_seq < b->n ? b->what[h->nlmsg_seq] : "rtnetlink");
                }
        }
        return true;
}

static int open_tap(const BoxSide *side, int *ret_index, GError **error) {
        _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
                int saved = errno;
                err_set(error, saved, "/dev/net/tun");
                err_hint(error, "%s%s", saved == ENOENT || saved == ENODEV ? "sudo modprobe tun" : "sudo chmod 0666 /dev/net/tun",
                         side->or_else ? side->or_else : "");
                return -1;
        }
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        g_strlcpy(request.ifr_name, side->tap, sizeof request.ifr_name);
        if (ioctl(fd, TUNSETIFF, &request) < 0) {
                err_set(error, errno, "create %s", side->tap);
                if (errno == EBUSY)
                        err_hint(error, "another program has an interface of that name there");
                return -1;
        }
        *ret_index = (int) if_nametoindex(side->tap);
        if (*ret_index == 0) {
                err_set(error, errno, "index of %s", side->tap);
                return -1;
        }
        return fd_steal(&fd);
}

bool boxside_has_ipv6(int proc_sys) {
        return faccessat(proc_sys, "net/ipv6", F_OK, 0) == 0;
}

/* Before the TAP is up, when the kernel would give it a link-local address of its own accord. */
static bool switch_ipv6_off(const BoxSide *side, int proc_sys, GError **error) {
        g_autofree char *path = g_strdup_printf("net/ipv6/conf/%s/disable_ipv6", side->tap);
        return !boxside_has_ipv6(proc_sys) || fd_write_file(proc_sys, path, "1") || err_set(error, errno, "switch IPv6 off");
}

static void add_network(Batch *b, const BoxSide *side, int index) {
        add_link_up(b, "set the TAP up", index, side->mtu);
        add_address(b, "set the IPv4 address", index, AF_INET, subnet_ipv4()->box_text, (uint8_t) subnet_ipv4()->len);
        add_default_route(b, "set the IPv4 route", index, AF_INET, subnet_ipv4()->gateway_text);
        if (side->ipv6) {
                add_address(b, "set the IPv6 address", index, AF_INET6, NET_BOX_IPV6, NET_PREFIX_IPV6);
                add_default_route(b, "set the IPv6 route", index, AF_INET6, NET_GATEWAY_IPV6);
        }
}

bool boxside_set_up(const BoxSide *side, int proc_sys, int *ret_tap, GError **error) {
        Batch batch = { .n = 0 };
        _cleanup_close_ int tap = -1;
        int index;

        *ret_tap = -1;
        _cleanup_close_ int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        if (nl < 0)
                return err_set(error, errno, "rtnetlink");
        if (!side->bare)
                add_link_up(&batch, "set lo up", 1, 0); /* lo is always the first */
        if (side->tap) {
                tap = open_tap(side, &index, error);
                if (tap < 0 || (!side->ipv6 && !switch_ipv6_off(side, proc_sys, error)))
                        return false;
                if (!side->bare)
                        add_network(&batch, side, index);
        }
        if (!batch_run(&batch, nl, error))
                return false;
        *ret_tap = fd_steal(&tap);
        return true;
}
