/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's network namespace made ready for the TCP fast path.
 *
 * Role: usbox-net's agent. Privileges: CAP_NET_ADMIN and CAP_NET_RAW over that namespace. Threads: one. Order: once, when usbox-net has got
 * the TAP, before the payload starts.
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
 * Marks are set by who has CAP_NET_ADMIN or CAP_NET_RAW in the box's outer user namespace. The payload has neither.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/config.h"
#include "netstack/divert.h"
#include "netstack/subnet.h"

#define MARK_HELD 1u /* a SYN on its way to usbox-net */
#define MARK_FREE 2u /* a SYN that usbox-net lets go */

#define TABLE_LOCAL 100 /* everything is the box itself's */
#define TABLE_HELD 101  /* everything is behind the neighbour DIVERT_MAC */
#define NEIGHBOUR_IPV6 "fd00::4"

#define LO_INDEX 1 /* always the first */
#define TABLE_NAME "usbox"

#define BACKLOG 4096
#define BATCH_SIZE 8192

/* A batch of messages for one netlink family, and what each of them is, for errors. */
typedef struct {
        char buf[BATCH_SIZE];
        struct mnl_nlmsg_batch *batch;
        const char *what[32];
        uint32_t n;
} Batch;

static void batch_begin(Batch *b) {
        b->n = 0;
        b->batch = mnl_nlmsg_batch_start(b->buf, sizeof b->buf / 2);
}

/* Where the next message goes; its sequence number is b->n - 1. */
static char *next_message(Batch *b, const char *what) {
        g_assert(b->n < G_N_ELEMENTS(b->what));
        b->what[b->n++] = what;
        return mnl_nlmsg_batch_current(b->batch);
}

static void message_done(Batch *b) {
        bool fits = mnl_nlmsg_batch_next(b->batch);
        g_assert(fits);
}

/* Send them all, and read an answer for each that asked for one. */
static bool batch_run(Batch *b, int family, uint32_t answers, GError **error) {
        struct mnl_socket *nl = mnl_socket_open2(family, SOCK_CLOEXEC);
        char buf[BATCH_SIZE];
        bool ok = true;

        if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
            mnl_socket_sendto(nl, mnl_nlmsg_batch_head(b->batch), mnl_nlmsg_batch_size(b->batch)) < 0)
                ok = err_set(error, errno, "netlink %d", family);
        while (ok && answers > 0) {
                ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof buf);
                if (n < 0) {
                        ok = errno == EINTR || err_set(error, errno, "netlink %d", family);
                        continue;
                }
                int left = (int) n;
                for (const struct nlmsghdr *h = (void *) buf; ok && mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
                        if (h->nlmsg_type != NLMSG_ERROR)
                                continue;
                        const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
                        answers--;
                        if (e->error != 0)
                                ok = err_set(error, -e->error, "%s", h->nlmsg_seq < b->n ? b->what[h->nlmsg_seq] : "netlink");
                }
        }
        if (nl)
                mnl_socket_close(nl);
        mnl_nlmsg_batch_stop(b->batch);
        return ok;
}

/* --- nftables ------------------------------------------------------------------------------------------------------ */

static const uint8_t tcp = IPPROTO_TCP;

static void add_meta(struct nftnl_rule *rule, uint32_t key, const void *wanted, uint32_t size) {
        struct nftnl_expr *e = nftnl_expr_alloc("meta"), *cmp = nftnl_expr_alloc("cmp");

        nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
        nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, e);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
        nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, wanted, size);
        nftnl_rule_add_expr(rule, cmp);
}

static void add_immediate(struct nftnl_rule *rule, const void *data, uint32_t size) {
        struct nftnl_expr *e = nftnl_expr_alloc("immediate");

        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
        nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, data, size);
        nftnl_rule_add_expr(rule, e);
}

/* SYN and not ACK. */
static void add_is_syn(struct nftnl_rule *rule) {
        struct nftnl_expr *load = nftnl_expr_alloc("payload"), *mask = nftnl_expr_alloc("bitwise"), *cmp = nftnl_expr_alloc("cmp");
        const uint8_t syn_ack = TH_SYN | TH_ACK, zero = 0, syn = TH_SYN;

        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, 13);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, 1);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, load);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_LEN, 1);
        nftnl_expr_set(mask, NFTNL_EXPR_BITWISE_MASK, &syn_ack, 1);
        nftnl_expr_set(mask, NFTNL_EXPR_BITWISE_XOR, &zero, 1);
        nftnl_rule_add_expr(rule, mask);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
        nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, &syn, 1);
        nftnl_rule_add_expr(rule, cmp);
}

static struct nftnl_rule *new_rule(const char *chain) {
        struct nftnl_rule *rule = nftnl_rule_alloc();

        nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, TABLE_NAME);
        nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
        nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
        return rule;
}

static struct nlmsghdr *nft_message(Batch *b, const char *what, uint16_t type, uint16_t flags) {
        char *at = next_message(b, what);
        return nftnl_nlmsg_build_hdr(at, type, NFPROTO_INET, NLM_F_CREATE | NLM_F_ACK | flags, b->n - 1);
}

static void add_rule_take(Batch *b, const char *what, struct nftnl_rule *rule) {
        struct nlmsghdr *h = nft_message(b, what, NFT_MSG_NEWRULE, NLM_F_APPEND);
        nftnl_rule_nlmsg_build_payload(h, rule);
        nftnl_rule_free(rule);
        message_done(b);
}

static void add_chain(Batch *b, const char *what, const char *name, const char *type, uint32_t hook) {
        struct nftnl_chain *chain = nftnl_chain_alloc();

        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, TABLE_NAME);
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, type);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
        nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, -150); /* mangle's */
        struct nlmsghdr *h = nft_message(b, what, NFT_MSG_NEWCHAIN, 0);
        nftnl_chain_nlmsg_build_payload(h, chain);
        nftnl_chain_free(chain);
        message_done(b);
}

/* A SYN that is routed to lo and not let go yet: to be held. */
static struct nftnl_rule *rule_hold(void) {
        struct nftnl_rule *rule = new_rule("hold");
        struct nftnl_expr *set = nftnl_expr_alloc("meta");
        const uint32_t lo = LO_INDEX, none = 0, mark = MARK_HELD;

        add_meta(rule, NFT_META_OIF, &lo, sizeof lo);
        add_meta(rule, NFT_META_L4PROTO, &tcp, sizeof tcp);
        add_meta(rule, NFT_META_MARK, &none, sizeof none);
        add_is_syn(rule);
        add_immediate(rule, &mark, sizeof mark);
        nftnl_expr_set_u32(set, NFTNL_EXPR_META_KEY, NFT_META_MARK);
        nftnl_expr_set_u32(set, NFTNL_EXPR_META_SREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, set);
        return rule;
}

/* One that is let go meets the listener. */
static struct nftnl_rule *rule_meet(uint16_t port) {
        struct nftnl_rule *rule = new_rule("meet");
        struct nftnl_expr *tproxy = nftnl_expr_alloc("tproxy");
        const uint32_t lo = LO_INDEX, mark = MARK_FREE;
        const uint16_t port_be = htons(port);

        add_meta(rule, NFT_META_IIF, &lo, sizeof lo);
        add_meta(rule, NFT_META_MARK, &mark, sizeof mark);
        add_meta(rule, NFT_META_L4PROTO, &tcp, sizeof tcp);
        add_immediate(rule, &port_be, sizeof port_be);
        nftnl_expr_set_u32(tproxy, NFTNL_EXPR_TPROXY_FAMILY, NFPROTO_UNSPEC);
        nftnl_expr_set_u32(tproxy, NFTNL_EXPR_TPROXY_REG_PORT, NFT_REG_1);
        nftnl_rule_add_expr(rule, tproxy);
        return rule;
}

static bool set_rules(uint16_t port, GError **error) {
        Batch b;
        struct nftnl_table *table = nftnl_table_alloc();

        nftnl_table_set_str(table, NFTNL_TABLE_NAME, TABLE_NAME);
        batch_begin(&b);
        nftnl_batch_begin(next_message(&b, "nftables"), 0);
        message_done(&b);
        struct nlmsghdr *h = nft_message(&b, "make an nftables table", NFT_MSG_NEWTABLE, 0);
        nftnl_table_nlmsg_build_payload(h, table);
        nftnl_table_free(table);
        message_done(&b);
        add_chain(&b, "make an nftables chain for output", "hold", "route", NF_INET_LOCAL_OUT);
        add_chain(&b, "make an nftables chain for input", "meet", "filter", NF_INET_PRE_ROUTING);
        add_rule_take(&b, "nftables rule that holds SYNs", rule_hold());
        add_rule_take(&b, "nftables rule with TPROXY", rule_meet(port));

        nftnl_batch_end(next_message(&b, "nftables"), b.n);
        message_done(&b);
        return batch_run(&b, NETLINK_NETFILTER, 5, error);
}

/* --- routes -------------------------------------------------------------------------------------------------------- */

static struct nlmsghdr *route_message(Batch *b, const char *what, uint16_t type, const void *body, size_t len) {
        struct nlmsghdr *h = mnl_nlmsg_put_header(next_message(b, what));
        h->nlmsg_type = type;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        h->nlmsg_seq = b->n - 1;
        memcpy(mnl_nlmsg_put_extra_header(h, len), body, len);
        return h;
}

static void put_address(struct nlmsghdr *h, uint16_t type, uint8_t family, const char *text) {
        uint8_t addr[16];
        int r = inet_pton(family, text, addr);
        g_assert(r == 1);
        mnl_attr_put(h, type, family == AF_INET ? 4 : 16, addr);
}

/* mark 0: whatever its mark is, if it is TCP */
static void add_route_rule(Batch *b, uint8_t family, uint32_t priority, uint32_t mark, uint32_t table) {
        const struct fib_rule_hdr rule = { .family = family, .action = FR_ACT_TO_TBL };
        struct nlmsghdr *h = route_message(b, "make a routing rule", RTM_NEWRULE, &rule, sizeof rule);

        mnl_attr_put_u32(h, FRA_PRIORITY, priority);
        mnl_attr_put_u32(h, FRA_TABLE, table);
        if (mark) {
                mnl_attr_put_u32(h, FRA_FWMARK, mark);
                mnl_attr_put_u32(h, FRA_FWMASK, UINT32_MAX);
        } else {
                mnl_attr_put_u8(h, FRA_IP_PROTO, IPPROTO_TCP);
        }
        message_done(b);
}

static void add_routes(Batch *b, uint8_t family, uint32_t tap) {
        bool v4 = family == AF_INET;
        const struct rtmsg local = { .rtm_family = family, .rtm_table = TABLE_LOCAL, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_LOCAL,
                                     .rtm_scope = v4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE },
                           held = { .rtm_family = family, .rtm_table = TABLE_HELD, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST,
                                    .rtm_scope = RT_SCOPE_UNIVERSE },
                           resolver = { .rtm_family = family, .rtm_table = TABLE_LOCAL, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_THROW,
                                        .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_dst_len = v4 ? 32 : 128 };
        const struct ndmsg neighbour = { .ndm_family = family, .ndm_ifindex = (int) tap, .ndm_state = NUD_PERMANENT };
        struct nlmsghdr *h;

        h = route_message(b, "make the route to listeners", RTM_NEWROUTE, &local, sizeof local);
        mnl_attr_put_u32(h, RTA_OIF, LO_INDEX);
        put_address(h, RTA_PREFSRC, family, v4 ? subnet_ipv4()->box_text : NET_BOX_IPV6);
        struct nlattr *metrics = mnl_attr_nest_start(h, RTA_METRICS);
        mnl_attr_put_strz(h, RTAX_CC_ALGO, DIVERT_CONGESTION);
        mnl_attr_nest_end(h, metrics);
        message_done(b);
        h = route_message(b, "make the route of held SYNs", RTM_NEWROUTE, &held, sizeof held);
        mnl_attr_put_u32(h, RTA_OIF, tap);
        put_address(h, RTA_GATEWAY, family, v4 ? subnet_ipv4()->neighbour_text : NEIGHBOUR_IPV6);
        message_done(b);
        h = route_message(b, "make the neighbour of held SYNs", RTM_NEWNEIGH, &neighbour, sizeof neighbour);
        put_address(h, NDA_DST, family, v4 ? subnet_ipv4()->neighbour_text : NEIGHBOUR_IPV6);
        mnl_attr_put(h, NDA_LLADDR, 6, DIVERT_MAC);
        message_done(b);
        /* The resolver is libslirp's: on to the next rule. */
        h = route_message(b, "make the route to the resolver", RTM_NEWROUTE, &resolver, sizeof resolver);
        put_address(h, RTA_DST, family, v4 ? subnet_ipv4()->dns_text : NET_DNS_IPV6);
        message_done(b);
        add_route_rule(b, family, 100, MARK_HELD, TABLE_HELD);
        add_route_rule(b, family, 101, MARK_FREE, TABLE_LOCAL);
        add_route_rule(b, family, 102, 0, TABLE_LOCAL);
}

/* What comes over the TAP may be from an address that a rule now calls local: resets, errors, libslirp's packets. */
static void accept_local(Batch *b, uint32_t tap) {
        const struct ifinfomsg link = { .ifi_index = (int) tap };
        struct nlmsghdr *h = route_message(b, "set accept_local", RTM_NEWLINK, &link, sizeof link);
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC), *inet = mnl_attr_nest_start(h, AF_INET),
                      *conf = mnl_attr_nest_start(h, IFLA_INET_CONF);
        mnl_attr_put_u32(h, IPV4_DEVCONF_ACCEPT_LOCAL, 1);
        mnl_attr_nest_end(h, conf);
        mnl_attr_nest_end(h, inet);
        mnl_attr_nest_end(h, spec);
        message_done(b);
}

static bool set_routes(const char *tap_name, bool ipv6, GError **error) {
        uint32_t tap = if_nametoindex(tap_name);
        Batch b;

        if (tap == 0)
                return err_set(error, errno, "index of %s", tap_name);
        batch_begin(&b);
        accept_local(&b, tap);
        add_routes(&b, AF_INET, tap);
        if (ipv6)
                add_routes(&b, AF_INET6, tap);
        return batch_run(&b, NETLINK_ROUTE, b.n, error);
}

/* --- sockets ------------------------------------------------------------------------------------------------------- */

/* On the loopback address, where nobody but the box's own programs can reach it otherwise: theirs are connections that nobody has asked for. */
static int open_listener(int family, uint16_t *port, GError **error) {
        const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(*port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        bool v4 = family == AF_INET;
        struct sockaddr_storage bound;
        socklen_t len = sizeof bound;
        int on = 1;

        _cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* SO_REUSEADDR is for the accepted ones, which inherit it: the port that a program has connected to is a local one to the box's kernel,
         * and a server of the box may want to bind it. */
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on) < 0 ||
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
        const uint32_t mark = MARK_FREE;

        _cleanup_close_ int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0) {
                err_set(error, errno, "raw socket in the box's network");
                return -1;
        }
        return fd_steal(&fd);
}

static bool open_sockets(bool ipv6, int fds[DIVERT_FDS_MAX], uint16_t *port, GError **error) {
        fds[DIVERT_LISTENER_IPV4] = open_listener(AF_INET, port, error);
        if (fds[DIVERT_LISTENER_IPV4] < 0)
                return false;
        fds[DIVERT_RAW_IPV4] = open_raw(AF_INET, error);
        if (fds[DIVERT_RAW_IPV4] < 0 || !ipv6)
                return fds[DIVERT_RAW_IPV4] >= 0;
        fds[DIVERT_LISTENER_IPV6] = open_listener(AF_INET6, port, error);
        if (fds[DIVERT_LISTENER_IPV6] < 0)
                return false;
        fds[DIVERT_RAW_IPV6] = open_raw(AF_INET6, error);
        return fds[DIVERT_RAW_IPV6] >= 0;
}

bool divert_set_up(const char *tap, bool ipv6, int ret_fds[DIVERT_FDS_MAX], GError **error) {
        uint16_t port = 0;

        for (int i = 0; i < DIVERT_FDS_MAX; i++)
                ret_fds[i] = -1;
        /* The routing rules come last: what stands before them does nothing without them. */
        if (open_sockets(ipv6, ret_fds, &port, error) && set_rules(port, error) && set_routes(tap, ipv6, error))
                return true;
        for (int i = 0; i < DIVERT_FDS_MAX; i++)
                fd_closep(&ret_fds[i]);
        return false;
}
