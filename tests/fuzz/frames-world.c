/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the fuzz target of frames runs: two network namespaces that have a loopback interface each, and nothing else.
 *
 * Role: tests only. Privileges: the caller's, and what a user namespace of its own gives. Threads: one. Order: before the first input.
 *
 * In that of the host every address is local by a route of the main table, which is not what hostaddr.c takes for the host's own: so there is an
 * internet, whose servers are sockets of the same process. By other routes nothing is reachable, or silent. A namespace without an interface to the outside
 * is what keeps an input from the real network, whatever it finds in the stack.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "frames-world.h"
#include "netstack/config.h"
#include "netstack/netlink.h"

#define LO 1
#define NEW (NLM_F_CREATE | NLM_F_EXCL)

const uint16_t world_ports[WORLD_TCP_SERVERS] = { 7, 53, 80, 443 };
int world_tcp[WORLD_TCP_SERVERS], world_udp[WORLD_UDP_SERVERS];

static int host_ns, box_ns, divert[DIVERT_FDS_MAX];

static void change_address(NetlinkBatch *b, uint16_t type, int family, const char *text) {
        const struct ifaddrmsg addr = { .ifa_family = (uint8_t) family, .ifa_prefixlen = family == AF_INET ? 32 : 128, .ifa_index = LO,
                                        .ifa_flags = IFA_F_NODAD };
        struct nlmsghdr *h = netlink_add(b, text, type, type == RTM_NEWADDR ? NEW : 0, &addr, sizeof addr);

        netlink_attr_address(b, h, IFA_LOCAL, family, text);
        netlink_attr_address(b, h, IFA_ADDRESS, family, text);
}

/* dst NULL: all. from: the address that who sends there has; NULL: no matter. */
static void add_route(NetlinkBatch *b, int family, uint8_t type, const char *dst, unsigned len, const char *from) {
        const struct rtmsg route = { .rtm_family = (uint8_t) family, .rtm_dst_len = (uint8_t) len, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
                                     .rtm_type = type, .rtm_scope = type == RTN_LOCAL && family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE };
        struct nlmsghdr *h = netlink_add(b, dst ? dst : "the route to all", RTM_NEWROUTE, NEW, &route, sizeof route);

        if (dst)
                netlink_attr_address(b, h, RTA_DST, family, dst);
        if (type == RTN_LOCAL || type == RTN_UNICAST)
                netlink_attr_u32(b, h, RTA_OIF, LO);
        if (from)
                netlink_attr_address(b, h, RTA_PREFSRC, family, from);
}

/* Make the loopback interface of the present namespace what this says. */
static bool set_up(const char *ipv4, const char *ipv6, bool host, GError **error) {
        const struct ifinfomsg up = { .ifi_index = LO, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
        NetlinkBatch b = { .n = 0 };

        (void) netlink_add(&b, "set lo up", RTM_NEWLINK, 0, &up, sizeof up);
        change_address(&b, RTM_NEWADDR, AF_INET, ipv4);
        change_address(&b, RTM_NEWADDR, AF_INET6, ipv6);
        if (!netlink_run(&b, NETLINK_ROUTE, error))
                return false;
        b = (NetlinkBatch){ .n = 0 };
        add_route(&b, AF_INET, RTN_LOCAL, NULL, 0, ipv4);
        add_route(&b, AF_INET6, RTN_LOCAL, NULL, 0, ipv6);
        if (host) {
                add_route(&b, AF_INET, RTN_UNREACHABLE, WORLD_UNREACHABLE, 25, NULL);
                add_route(&b, AF_INET, RTN_PROHIBIT, WORLD_PROHIBITED, 25, NULL);
                add_route(&b, AF_INET, RTN_UNICAST, WORLD_SILENT, 25, ipv4); /* it comes back by lo, and nobody is a router */
                add_route(&b, AF_INET6, RTN_UNREACHABLE, WORLD_UNREACHABLE_IPV6, 48, NULL);
        }
        return netlink_run(&b, NETLINK_ROUTE, error);
}

/* Of every address, as which it may answer, of one family or, with ipv6_only false, of both. */
static int open_server(int family, int type, uint16_t port, bool ipv6_only, GError **error) {
        const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        bool v4 = family == AF_INET;
        const int on = 1, only = ipv6_only;

        _cleanup_close_ int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on) < 0 ||
            (!v4 && (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0 ||
                     setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) < 0)) ||
            bind(fd, v4 ? (const struct sockaddr *) &in : (const struct sockaddr *) &in6, v4 ? sizeof in : sizeof in6) < 0 ||
            (type == SOCK_STREAM && listen(fd, 128) < 0)) {
                err_set(error, errno, "open a server on port %u", port);
                return -1;
        }
        return fd_steal(&fd);
}

static bool open_divert(GError **error) {
        static const int families[] = { AF_INET, AF_INET6 };

        for (int i = 0; i < 2; i++) {
                divert[2 * i] = open_server(families[i], SOCK_STREAM, WORLD_FAST_PORT, true, error);
                divert[2 * i + 1] = socket(families[i], SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
                if (divert[2 * i] < 0)
                        return false;
                if (divert[2 * i + 1] < 0)
                        return err_set(error, errno, "raw socket");
        }
        return true;
}

static bool open_servers(GError **error) {
        for (int i = 0; i < WORLD_TCP_SERVERS; i++)
                if ((world_tcp[i] = open_server(AF_INET6, SOCK_STREAM, world_ports[i], false, error)) < 0)
                        return false;
        for (int i = 0; i < WORLD_UDP_SERVERS; i++)
                if ((world_udp[i] = open_server(AF_INET6, SOCK_DGRAM, world_ports[i], false, error)) < 0)
                        return false;
        return true;
}

/* Of the present network namespace. */
static bool write_setting(const char *path, const char *text, GError **error) {
        return fd_write_file(AT_FDCWD, path, text) || err_set(error, errno, "write %s", path);
}

/* Of the same, where it makes inputs reach more, but nothing wrong without it. */
static void prefer(const char *path, const char *text) {
        g_autoptr(GError) error = NULL;

        if (!write_setting(path, text, &error))
                (void) fprintf(stderr, "fuzz-frames: goes without a setting: %s\n", error->message);
}

static int open_namespace(GError **error) {
        int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                err_set(error, errno, "open /proc/self/ns/net");
        return fd;
}

bool world_enter(GError **error) {
        g_autofree char *uid = g_strdup_printf("%u %u 1", (unsigned) geteuid(), (unsigned) geteuid());
        g_autofree char *gid = g_strdup_printf("%u %u 1", (unsigned) getegid(), (unsigned) getegid());
        g_autofree char *pings = g_strdup_printf("%u %u", (unsigned) getegid(), (unsigned) getegid());

        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                return err_set(error, errno, "make a user and a network namespace");
        /* The leak checker looks into this process. */
        if (prctl(PR_SET_DUMPABLE, 1) < 0)
                return err_set(error, errno, "PR_SET_DUMPABLE");
        if (!write_setting("/proc/self/setgroups", "deny", error) || !write_setting("/proc/self/uid_map", uid, error) ||
            !write_setting("/proc/self/gid_map", gid, error) || !set_up(WORLD_HOST_IPV4, WORLD_HOST_IPV6, true, error) ||
            (host_ns = open_namespace(error)) < 0 || !open_servers(error))
                return false;
        /* Thousands of connections a second are closed here: none is to keep its port for a minute. */
        prefer("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");
        prefer("/proc/sys/net/ipv4/ping_group_range", pings);
        /* Each error is told, not so many a second. */
        prefer("/proc/sys/net/ipv4/icmp_ratelimit", "0");
        prefer("/proc/sys/net/ipv6/icmp/ratelimit", "0");

        if (unshare(CLONE_NEWNET) < 0)
                return err_set(error, errno, "make the box's network namespace");
        if ((box_ns = open_namespace(error)) < 0 || !set_up(NET_BOX_IPV4, NET_BOX_IPV6, false, error) || !open_divert(error))
                return false;
        return setns(host_ns, CLONE_NEWNET) == 0 || err_set(error, errno, "setns");
}

void world_divert(int ret[DIVERT_FDS_MAX]) {
        for (int i = 0; i < DIVERT_FDS_MAX; i++)
                ret[i] = fcntl(divert[i], F_DUPFD_CLOEXEC, 0);
}

int world_program(int family) {
        const int on = 1;

        g_assert_no_errno(setns(box_ns, CLONE_NEWNET));
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        g_assert_no_errno(setns(host_ns, CLONE_NEWNET));
        if (fd >= 0)
                (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        return fd;
}

bool world_late_address(bool there) {
        NetlinkBatch b = { .n = 0 };
        g_autoptr(GError) error = NULL;

        change_address(&b, there ? RTM_NEWADDR : RTM_DELADDR, AF_INET, WORLD_LATE_ADDRESS);
        if (netlink_run(&b, NETLINK_ROUTE, &error))
                return true;
        g_assert_cmpint(err_get_errno(error), ==, EMFILE);
        return false;
}

void world_reset(int *fd) {
        static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

        if (*fd >= 0)
                (void) setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        fd_closep(fd);
}

static void clear_listener(int fd) {
        int one;

        while ((one = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
                world_reset(&one);
}

void world_clear(void) {
        char byte;

        for (int i = 0; i < WORLD_TCP_SERVERS; i++)
                clear_listener(world_tcp[i]);
        for (int i = 0; i < DIVERT_FDS_MAX; i += 2)
                clear_listener(divert[i]);
        for (int i = 0; i < WORLD_UDP_SERVERS; i++)
                while (recv(world_udp[i], &byte, 1, MSG_DONTWAIT | MSG_TRUNC) >= 0 || errno != EAGAIN)
                        ;
}
