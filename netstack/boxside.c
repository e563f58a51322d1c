/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A network namespace's side of the network: loopback, TAP, addresses, routes.
 *
 * Role: the payload under usbox, a process of usbox-net's that has joined the namespace where that runs by itself. Privileges: CAP_NET_ADMIN
 * over the namespace. Threads: one. Order: before the root is built, because /dev/net/tun is the host's.
 */
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"
#include "netstack/boxside.h"
#include "netstack/config.h"
#include "netstack/divert.h"
#include "netstack/netlink.h"
#include "netstack/subnet.h"

static void add_link_up(NetlinkBatch *b, const char *what, int index, uint32_t mtu) {
        struct ifinfomsg link = { .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
        struct nlmsghdr *h = netlink_add(b, what, RTM_NEWLINK, 0, &link, sizeof link);
        if (mtu)
                netlink_attr_u32(b, h, IFLA_MTU, mtu);
}

static void add_address(NetlinkBatch *b, const char *what, int index, int family, const char *text, uint8_t prefix) {
        /* No duplicate address detection: the address would be unusable for a second, and nobody else is on this link. */
        struct ifaddrmsg msg = { .ifa_family = (uint8_t) family, .ifa_prefixlen = prefix, .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
                                 .ifa_index = (uint32_t) index };
        struct nlmsghdr *h = netlink_add(b, what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &msg, sizeof msg);

        netlink_attr_address(b, h, IFA_LOCAL, family, text);
        if (family == AF_INET)
                netlink_attr_address(b, h, IFA_ADDRESS, family, text);
}

static void add_default_route(NetlinkBatch *b, const char *what, int index, int family, const char *gateway) {
        struct rtmsg msg = { .rtm_family = (uint8_t) family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
                             .rtm_type = RTN_UNICAST };
        struct nlmsghdr *h = netlink_add(b, what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &msg, sizeof msg);

        netlink_attr_address(b, h, RTA_GATEWAY, family, gateway);
        netlink_attr_u32(b, h, RTA_OIF, (uint32_t) index);
}

#ifndef TUN_F_USO4 /* headers from Linux 6.2 on */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

bool boxside_offload(int tap) {
        const unsigned long usual = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;

        return ioctl(tap, TUNSETOFFLOAD, usual | TUN_F_USO4 | TUN_F_USO6) == 0 || ioctl(tap, TUNSETOFFLOAD, usual) == 0;
}

static int open_tap(const BoxSide *side, int *ret_index, GError **error) {
        _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
                int saved = errno;
                err_set(error, saved, "/dev/net/tun");
                err_hint(error, "%s%s",
                         saved == ENOENT || saved == ENODEV ? "sudo modprobe tun (in a container, or a box: give it --device /dev/net/tun when it is started)"
                                                            : "sudo chmod 0666 /dev/net/tun",
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
        if (!side->framed && !boxside_offload(fd)) {
                err_set(error, errno, "set what %s takes over", side->tap);
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

static void add_network(NetlinkBatch *b, const BoxSide *side, int index) {
        add_link_up(b, "set the TAP up", index, side->mtu);
        add_address(b, "set the IPv4 address", index, AF_INET, subnet_ipv4()->box_text, (uint8_t) subnet_ipv4()->len);
        add_default_route(b, "set the IPv4 route", index, AF_INET, subnet_ipv4()->gateway_text);
        if (side->ipv6) {
                add_address(b, "set the IPv6 address", index, AF_INET6, NET_BOX_IPV6, NET_PREFIX_IPV6);
                add_default_route(b, "set the IPv6 route", index, AF_INET6, NET_GATEWAY_IPV6);
        }
}

bool boxside_set_up(const BoxSide *side, int proc_sys, int *ret_tap, GError **error) {
        NetlinkBatch batch = { .n = 0 };
        _cleanup_close_ int tap = -1;
        int index;

        *ret_tap = -1;
        if (!side->bare)
                add_link_up(&batch, "set lo up", 1, 0); /* lo is always the first */
        if (side->tap) {
                tap = open_tap(side, &index, error);
                if (tap < 0 || (!side->ipv6 && !switch_ipv6_off(side, proc_sys, error)))
                        return false;
                if (!side->bare)
                        add_network(&batch, side, index);
        }
        if (!netlink_run(&batch, NETLINK_ROUTE, error))
                return false;
        *ret_tap = fd_steal(&tap);
        return true;
}

bool boxside_hand_over(const BoxSide *side, int wire, WireType type, int tap, int netns, GError **error) {
        int fds[2 + DIVERT_FDS_MAX] = { tap, netns };
        g_autoptr(GError) why = NULL;
        unsigned n = 2;

        if (side->fast_path && divert_set_up(side, fds + n, &why))
                n += side->ipv6 ? DIVERT_FDS_MAX : DIVERT_FDS_IPV4;
        bool ok = wire_send(wire, type, g_variant_new("(s)", why ? why->message : ""), fds, n, error);
        while (n > 2)
                close(fds[--n]);
        return ok;
}
