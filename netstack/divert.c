/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's network namespace made ready for the TCP fast path.
 *
 * Role: who sets the network up: the payload under usbox, a process of usbox-net's that has joined the namespace where that runs by itself.
 * Privileges: CAP_NET_ADMIN and CAP_NET_RAW over that namespace. Threads: one. Order: right after boxside.c, before anything runs there.
 *
 * Four things lead the box's TCP (fastpath.c tells the story of a connection):
 *
 *   - A routing rule for "ipproto tcp": all of it that is not for the box itself is local to the box. A socket looks its route up once,
 *     so this costs a packet nothing, and there is no connection tracking and no translation of addresses.
 *   - A chain for output: a SYN that leaves that way gets the mark of a held one, by which its route is another, to a neighbour on the
 *     TAP that is there for this alone.
 *   - A routing rule for SYNs that are let go, which carry a mark of their raw socket's: they are local like the rest.
 *   - A chain for input: those, and no others, meet the listener, whatever their destination (TPROXY).
 *
 * In a framed network, one that is shaped or captured, both ends are the box's kernel's as well, and each segment between them is a frame of the TAP:
 *
 *   - The program's end has no rule of its own. Its segments leave by the TAP like all else.
 *   - usbox-net puts them, having shaped them, on their way by the raw socket, and by its mark they meet our end of the connection (TPROXY finds it).
 *   - Our end, a socket with the mark of a held SYN, sends to the neighbour on the TAP, although the program's address is one of the box's: the rule
 *     of marks comes before the one of local addresses. usbox-net shapes that, too, and sends it back to the box, where it comes in as from outside.
 *
 * Marks are set by who has CAP_NET_ADMIN or CAP_NET_RAW in the box's outer user namespace. The payload has neither.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "divert-rules.h" /* made by divert-rules.c */
#include "netstack/config.h"
#include "netstack/divert.h"
#include "netstack/netlink.h"
#include "netstack/subnet.h"

#define TABLE_LOCAL 100 /* everything is the box itself's */
#define TABLE_HELD 101  /* everything is behind the neighbour DIVERT_MAC */
#define NEIGHBOUR_IPV6 "fd00::4"

#define BACKLOG 4096

/* Bytes of a segment on lo at most: what the kernel hands over at once and would cut for a wire ("BIG TCP"). */
#define SEGMENT_MAX (256u * 1024)
#define SEGMENT_USUAL 65536u
#define LINK_GSO_IPV4_MAX_SIZE 63 /* IFLA_GSO_IPV4_MAX_SIZE of headers from Linux 6.3 on */

/* What may wait for us of one connection (the kernel doubles it, and net.core.rmem_max is that much everywhere): beside a neighbour it is a few microseconds'
 * worth, and more than the processors' caches hold of some connections makes each copy of it slower. */
#define LISTENER_RCVBUF 212992

/* As compiled by divert-rules.c. */
static bool set_rules(uint16_t port, GError **error) {
        const uint16_t port_be = htons(port);
        NetlinkBatch b = { .len = sizeof divert_rules, .n = G_N_ELEMENTS(divert_rules_what) };

        G_STATIC_ASSERT(sizeof divert_rules <= sizeof b.buf && sizeof divert_rules_what <= sizeof b.what);
        memcpy(b.buf.bytes, divert_rules, sizeof divert_rules);
        memcpy(b.buf.bytes + DIVERT_RULES_PORT, &port_be, sizeof port_be);
        memcpy(b.what, divert_rules_what, sizeof divert_rules_what);
        return netlink_run(&b, NETLINK_NETFILTER, error);
}

/* --- routes -------------------------------------------------------------------------------------------------------- */

#define NEW (NLM_F_CREATE | NLM_F_EXCL)

/* A request about a routing rule, to make or to delete it. */
static struct nlmsghdr *route_rule(NetlinkBatch *b, const char *what, uint16_t type, uint8_t family, uint32_t priority, uint32_t table) {
        const struct fib_rule_hdr rule = { .family = family, .action = FR_ACT_TO_TBL };
        struct nlmsghdr *h = netlink_add(b, what, type, type == RTM_NEWRULE ? NEW : 0, &rule, sizeof rule);

        netlink_attr_u32(b, h, FRA_PRIORITY, priority);
        netlink_attr_u32(b, h, FRA_TABLE, table);
        return h;
}

/* mark 0: whatever its mark is, if it is TCP */
static void add_route_rule(NetlinkBatch *b, uint8_t family, uint32_t priority, uint32_t mark, uint32_t table) {
        struct nlmsghdr *h = route_rule(b, "make a routing rule", RTM_NEWRULE, family, priority, table);
        const uint8_t tcp = IPPROTO_TCP;

        if (mark) {
                netlink_attr_u32(b, h, FRA_FWMARK, mark);
                netlink_attr_u32(b, h, FRA_FWMASK, UINT32_MAX);
        } else {
                netlink_attr(b, h, FRA_IP_PROTO, &tcp, sizeof tcp);
        }
}

/* The kernel's own first rule, which leads what is for an address of the box to lo, gets a place behind those of marks. The new one comes first: at no
 * time is there none. */
static void move_local_rule(NetlinkBatch *b, uint8_t family) {
        (void) route_rule(b, "make the routing rule of the box's own addresses", RTM_NEWRULE, family, 102, RT_TABLE_LOCAL);
        (void) route_rule(b, "move the routing rule of the box's own addresses", RTM_DELRULE, family, 0, RT_TABLE_LOCAL);
}

static void add_routes(NetlinkBatch *b, uint8_t family, uint32_t tap, bool framed) {
        bool v4 = family == AF_INET;
        const struct rtmsg local = { .rtm_family = family, .rtm_table = TABLE_LOCAL, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_LOCAL,
                                     .rtm_scope = v4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE },
                           held = { .rtm_family = family, .rtm_table = TABLE_HELD, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST,
                                    .rtm_scope = RT_SCOPE_UNIVERSE },
                           resolver = { .rtm_family = family, .rtm_table = TABLE_LOCAL, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_THROW,
                                        .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_dst_len = v4 ? 32 : 128 };
        const struct ndmsg neighbour = { .ndm_family = family, .ndm_ifindex = (int) tap, .ndm_state = NUD_PERMANENT };
        const char *beyond = v4 ? subnet_ipv4()->neighbour_text : NEIGHBOUR_IPV6;
        struct nlmsghdr *h;

        h = netlink_add(b, "make the route to listeners", RTM_NEWROUTE, NEW, &local, sizeof local);
        netlink_attr_u32(b, h, RTA_OIF, DIVERT_LO_INDEX);
        netlink_attr_address(b, h, RTA_PREFSRC, family, v4 ? subnet_ipv4()->box_text : NET_BOX_IPV6);
        size_t metrics = netlink_nest(b, h, RTA_METRICS);
        netlink_attr(b, h, RTAX_CC_ALGO, DIVERT_CONGESTION, sizeof DIVERT_CONGESTION);
        netlink_nest_end(b, metrics);
        h = netlink_add(b, "make the route of held SYNs", RTM_NEWROUTE, NEW, &held, sizeof held);
        netlink_attr_u32(b, h, RTA_OIF, tap);
        netlink_attr_address(b, h, RTA_GATEWAY, family, beyond);
        h = netlink_add(b, "make the neighbour of held SYNs", RTM_NEWNEIGH, NEW, &neighbour, sizeof neighbour);
        netlink_attr_address(b, h, NDA_DST, family, beyond);
        netlink_attr(b, h, NDA_LLADDR, DIVERT_MAC, sizeof DIVERT_MAC);
        /* The resolver is libslirp's: on to the next rule. */
        h = netlink_add(b, "make the route to the resolver", RTM_NEWROUTE, NEW, &resolver, sizeof resolver);
        netlink_attr_address(b, h, RTA_DST, family, v4 ? subnet_ipv4()->dns_text : NET_DNS_IPV6);
        add_route_rule(b, family, 100, DIVERT_MARK_HELD, TABLE_HELD);
        add_route_rule(b, family, 101, DIVERT_MARK_FREE, TABLE_LOCAL);
        if (framed)
                move_local_rule(b, family);
        else
                add_route_rule(b, family, 102, 0, TABLE_LOCAL);
}

/* What comes over the TAP may be from an address that a rule now calls local: resets, errors, libslirp's packets. */
static void accept_local(NetlinkBatch *b, uint32_t tap) {
        const struct ifinfomsg link = { .ifi_index = (int) tap };
        struct nlmsghdr *h = netlink_add(b, "set accept_local", RTM_NEWLINK, 0, &link, sizeof link);
        size_t spec = netlink_nest(b, h, IFLA_AF_SPEC), inet = netlink_nest(b, h, AF_INET), conf = netlink_nest(b, h, IFLA_INET_CONF);

        netlink_attr_u32(b, h, IPV4_DEVCONF_ACCEPT_LOCAL, 1);
        netlink_nest_end(b, conf);
        netlink_nest_end(b, inet);
        netlink_nest_end(b, spec);
}

/* Both ends of a stream are on lo: fewer and longer segments are that much less to do for both. By IPv4, where that takes no header of its own; before
 * Linux 6.3 they are as long as ever. */
static void set_segments(uint32_t max) {
        const struct ifinfomsg lo = { .ifi_index = DIVERT_LO_INDEX };
        NetlinkBatch b = { .n = 0 };

        struct nlmsghdr *h = netlink_add(&b, "", RTM_NEWLINK, 0, &lo, sizeof lo);
        netlink_attr_u32(&b, h, LINK_GSO_IPV4_MAX_SIZE, max);
        (void) netlink_run(&b, NETLINK_ROUTE, NULL);
}

/* The kernel's own first rule back in its place, the others away; then the two routes that do not go with the TAP. */
static void clear_routes(uint8_t family) {
        const struct rtmsg route = { .rtm_family = family, .rtm_table = TABLE_LOCAL, .rtm_scope = RT_SCOPE_NOWHERE };
        struct rtmsg resolver = route;
        const uint8_t kernel = RTPROT_KERNEL; /* else it would be another rule to it, and there would be two */
        NetlinkBatch b = { .n = 0 };

        struct nlmsghdr *h = route_rule(&b, "", RTM_NEWRULE, family, 0, RT_TABLE_LOCAL);
        netlink_attr(&b, h, FRA_PROTOCOL, &kernel, sizeof kernel);
        (void) route_rule(&b, "", RTM_DELRULE, family, 100, TABLE_HELD);
        (void) route_rule(&b, "", RTM_DELRULE, family, 101, TABLE_LOCAL);
        (void) route_rule(&b, "", RTM_DELRULE, family, 102, TABLE_LOCAL);
        (void) route_rule(&b, "", RTM_DELRULE, family, 102, RT_TABLE_LOCAL);
        (void) netlink_add(&b, "", RTM_DELROUTE, 0, &route, sizeof route);
        resolver.rtm_dst_len = family == AF_INET ? 32 : 128;
        h = netlink_add(&b, "", RTM_DELROUTE, 0, &resolver, sizeof resolver);
        netlink_attr_address(&b, h, RTA_DST, family, family == AF_INET ? subnet_ipv4()->dns_text : NET_DNS_IPV6);
        (void) netlink_run(&b, NETLINK_ROUTE, NULL);
}

/* A request about our table. */
static void add_table_request(NetlinkBatch *b, uint16_t type) {
        const struct nfgenmsg inet = { .nfgen_family = NFPROTO_INET };
        struct nlmsghdr *h = netlink_add(b, "", (uint16_t) ((NFNL_SUBSYS_NFTABLES << 8) | type), 0, &inet, sizeof inet);

        netlink_attr(b, h, NFTA_TABLE_NAME, DIVERT_TABLE, sizeof DIVERT_TABLE);
}

/* Is our table there? To delete what is not there would undo the batch, for which the kernel waits until no processor looks at its rules, longer than all
 * else here takes. And as it is made before the routes and goes after them, there are none where it is not. */
static bool has_table(void) {
        NetlinkBatch get = { .n = 0 };

        add_table_request(&get, NFT_MSG_GETTABLE);
        return netlink_run(&get, NETLINK_NETFILTER, NULL);
}

static void clear_rules(void) {
        const struct nfgenmsg batch = { .nfgen_family = AF_UNSPEC, .res_id = htons(NFNL_SUBSYS_NFTABLES) };
        NetlinkBatch delete = { .n = 0 };

        (void) netlink_add(&delete, NULL, NFNL_MSG_BATCH_BEGIN, 0, &batch, sizeof batch);
        add_table_request(&delete, NFT_MSG_DELTABLE);
        (void) netlink_add(&delete, NULL, NFNL_MSG_BATCH_END, 0, &batch, sizeof batch);
        (void) netlink_run(&delete, NETLINK_NETFILTER, NULL);
}

void divert_clear(void) {
        if (!has_table())
                return;
        /* All requests of a batch are carried out, whatever becomes of one: what is not there need not go. */
        clear_routes(AF_INET);
        clear_routes(AF_INET6);
        set_segments(SEGMENT_USUAL);
        clear_rules();
}

static bool set_routes(const BoxSide *side, GError **error) {
        uint32_t tap = if_nametoindex(side->tap);
        NetlinkBatch b = { .n = 0 };

        if (tap == 0)
                return err_set(error, errno, "index of %s", side->tap);
        accept_local(&b, tap);
        add_routes(&b, AF_INET, tap, side->framed);
        if (side->ipv6)
                add_routes(&b, AF_INET6, tap, side->framed);
        if (!side->framed)
                set_segments(SEGMENT_MAX);
        return netlink_run(&b, NETLINK_ROUTE, error);
}

/* --- sockets ------------------------------------------------------------------------------------------------------- */

int divert_open_own(int family) {
        const uint32_t mark = DIVERT_MARK_HELD;
        bool v4 = family == AF_INET;
        int on = 1;

        _cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0)
                return -1;
        return fd_steal(&fd);
}

/* On the loopback address, where nobody but the box's own programs can reach it otherwise: theirs are connections that nobody has asked for. */
static int open_listener(int family, bool framed, uint16_t *port, GError **error) {
        const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(*port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        bool v4 = family == AF_INET;
        struct sockaddr_storage bound;
        socklen_t len = sizeof bound;
        int on = 1, most = LISTENER_RCVBUF;

        _cleanup_close_ int fd = divert_open_own(family);
        if (fd >= 0 && !framed)
                (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &most, sizeof most);
        /* SO_REUSEADDR is for the accepted ones, which inherit it: the port that a program has connected to is a local one to the box's kernel,
         * and a server of the box may want to bind it. */
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, DIVERT_CONGESTION, strlen(DIVERT_CONGESTION)) < 0 ||
            bind(fd, v4 ? (const struct sockaddr *) &in : (const struct sockaddr *) &in6, v4 ? sizeof in : sizeof in6) < 0 ||
            listen(fd, BACKLOG) < 0 || getsockname(fd, (struct sockaddr *) &bound, &len) < 0) {
                err_set(error, errno, "listener in the box's network");
                return -1;
        }
        *port = net_sockaddr_port(&bound);
        return fd_steal(&fd);
}

/* Its protocol is that of packets with headers of their own; it never receives any. */
static int open_raw(int family, GError **error) {
        const uint32_t mark = DIVERT_MARK_FREE;

        _cleanup_close_ int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0) {
                err_set(error, errno, "raw socket in the box's network");
                return -1;
        }
        return fd_steal(&fd);
}

static bool open_sockets(const BoxSide *side, int fds[DIVERT_FDS_MAX], uint16_t *port, GError **error) {
        fds[DIVERT_LISTENER_IPV4] = open_listener(AF_INET, side->framed, port, error);
        if (fds[DIVERT_LISTENER_IPV4] < 0)
                return false;
        fds[DIVERT_RAW_IPV4] = open_raw(AF_INET, error);
        if (fds[DIVERT_RAW_IPV4] < 0 || !side->ipv6)
                return fds[DIVERT_RAW_IPV4] >= 0;
        fds[DIVERT_LISTENER_IPV6] = open_listener(AF_INET6, side->framed, port, error);
        if (fds[DIVERT_LISTENER_IPV6] < 0)
                return false;
        fds[DIVERT_RAW_IPV6] = open_raw(AF_INET6, error);
        return fds[DIVERT_RAW_IPV6] >= 0;
}

bool divert_set_up(const BoxSide *side, int ret_fds[DIVERT_FDS_MAX], GError **error) {
        uint16_t port = 0;

        for (int i = 0; i < DIVERT_FDS_MAX; i++)
                ret_fds[i] = -1;
        /* The routing rules come last: what stands before them does nothing without them. */
        if (open_sockets(side, ret_fds, &port, error) && set_rules(port, error) && set_routes(side, error))
                return true;
        for (int i = 0; i < DIVERT_FDS_MAX; i++)
                fd_closep(&ret_fds[i]);
        return false;
}
