/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The policy: which flows the box may open, and what of its frames reaches libslirp.
 *
 * Role: usbox-net. Privileges: none. Threads: any; pure functions. Order: between the TAP and libslirp, for each frame; before the connect(2) of
 * each flow that does not go through frames.
 *
 * policy_decide() is asked once for a flow, and again where the host's addresses change (account_cut()): the user's rules in their order, then the
 * defaults. The host and the metadata addresses are closed unless a rule names them; the rest is open unless there is an --allow.
 *
 * A rule by name speaks of an address if the box's own DNS gave it for that name (names.c). Whoever owns an allowed name decides about its
 * addresses, so by a name nothing is opened that lies behind the user's own door: an answer with a private address (a
 * "rebinding") is of no use unless a rule is of that class, or the address is of the user's own giving (--add-host).
 *
 * libslirp opens a flow for whatever it is given, in the host's network namespace and to whatever address the frame names.
 * Its own disable_host_loopback only stops what is addressed to the gateway: a raw frame to 127.0.0.1, 0.0.0.0 or the host's
 * address on its LAN goes through. So what counts as the host is decided here, before libslirp, in every spelling:
 * loopback, the unspecified address, IPv4 inside IPv6 (address.c), and all that the host's kernel calls local (hostaddr.c).
 *
 * Fragments do not pass at all (packet.c): one lone last fragment kills libslirp 4.7. Those of UDP are put together before (reassembly.c).
 *
 * TCP is judged by the segment that would open a flow, a SYN without ACK; libslirp opens none by any other. Later segments
 * must pass whatever their address: the peer of a published port may well be one of the host's own.
 *
 * DHCPv6 and TFTP never pass, since nobody needs libslirp's: the former writes past its buffer when a request is long.
 */
#include <arpa/inet.h>

#include "netstack/policy.h"
#include "netstack/subnet.h"

#define PORT_DNS 53
#define PORT_HTTPS 443
#define PORT_DHCP_SERVER 67
#define PORT_DHCP_CLIENT 68

#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define NDP_ROUTER_SOLICIT 133
#define NDP_NEIGHBOUR_SOLICIT 135
#define NDP_NEIGHBOUR_ADVERT 136

/* The box's own IPv6 network: NET_*_IPV6 of config.h; a unit test holds the two together. That of IPv4 is subnet_ipv4(). */
#define V4(a, b, c, d) { .s6_addr = { [10] = 0xff, 0xff, a, b, c, d } }
#define V6(...) { .s6_addr = { __VA_ARGS__ } }

static const AddressPrefix subnet_ipv6 = { V6(0xfd), 64 };
static const struct in6_addr gateway_ipv6 = V6(0xfd, [15] = 2), dns_ipv6 = V6(0xfd, [15] = 3);
static const struct in6_addr any_broadcast_ipv4 = V4(255, 255, 255, 255), any_ipv4 = V4(0, 0, 0, 0);
static const struct in6_addr loopback_ipv4 = V4(127, 0, 0, 1), loopback_ipv6 = V6([15] = 1);
static const AddressPrefix link_local_ipv6 = { V6(0xfe, 0x80), 10 }, multicast_ipv6 = { V6(0xff), 8 },
                           multicast_ipv4 = { V4(224, 0, 0, 0), 96 + 4 };

/* What a name alone never opens. Of the user's own giving, it opens what is not of the machine. */
#define CLOSED_TO_NAMES (ADDRESS_HOST | ADDRESS_PRIVATE | ADDRESS_LINK_LOCAL | ADDRESS_METADATA)
#define CLOSED_TO_GIVEN (ADDRESS_HOST | ADDRESS_METADATA)

bool policy_is_subnet(int family, const struct in6_addr *addr) {
        return address_prefix_has(family == AF_INET ? &subnet_ipv4()->prefix : &subnet_ipv6, addr);
}

bool policy_is_gateway(int family, const struct in6_addr *addr) {
        return address_same(addr, family == AF_INET ? &subnet_ipv4()->gateway : &gateway_ipv6);
}

bool policy_is_resolver(int family, const struct in6_addr *addr) {
        return address_same(addr, family == AF_INET ? &subnet_ipv4()->dns : &dns_ipv6);
}

bool policy_is_host(const Policy *policy, const struct in6_addr *addr) {
        for (guint i = 0; policy->host && i < policy->host->len; i++)
                if (address_prefix_has(&g_array_index(policy->host, AddressPrefix, i), addr))
                        return true;
        return false;
}

static unsigned classes_of(const Policy *policy, int family, const struct in6_addr *addr) {
        unsigned classes = address_classes(family, addr);
        struct in6_addr inner[ADDRESS_EMBEDDED_MAX];
        unsigned n = family == AF_INET6 ? address_embedded(addr, inner) : 0;
        bool host = policy_is_host(policy, addr);

        for (unsigned i = 0; i < n && !host; i++)
                host = policy_is_host(policy, &inner[i]);
        if (host)
                classes |= ADDRESS_HOST;
        return classes;
}

static unsigned rule_protocol(uint8_t protocol) {
        return protocol == IPPROTO_TCP ? RULE_TCP : protocol == IPPROTO_UDP ? RULE_UDP : RULE_ICMP;
}

static RuleTarget target_of(const Policy *policy, uint8_t protocol, int family, const struct in6_addr *addr, uint16_t port) {
        RuleTarget target = { .protocol = rule_protocol(protocol), .port = port, .addr = *addr };

        /* Before the host's own addresses: the host may have the same ones. */
        target.gateway = policy_is_gateway(family, addr);
        if (target.gateway)
                target.classes = ADDRESS_HOST;
        else if (policy_is_subnet(family, addr))
                target.classes = ADDRESS_INVALID;
        else
                target.classes = classes_of(policy, family, addr);
        return target;
}

/* The name of the address that the rule speaks of and may decide by; NULL: none. *ret_closed: one that may not. */
static const NameEntry *rule_name(const NetRule *rule, const NameEntry *names, unsigned classes, bool *ret_closed) {
        for (const NameEntry *e = names; e; e = e->next) {
                if (!net_rule_has_name(rule, e->name) || (rule->allow && e->source == NAME_ALIAS))
                        continue;
                if (!rule->allow || !(classes & (e->source == NAME_GIVEN ? CLOSED_TO_GIVEN : CLOSED_TO_NAMES)))
                        return e;
                *ret_closed = true;
        }
        return NULL;
}

/* The first rule that speaks of it, into d. False: none. */
static bool decide_by_rules(const Policy *policy, const RuleTarget *target, const NameEntry *names, PolicyDecision *d) {
        for (guint i = 0; policy->rules && i < policy->rules->list->len; i++) {
                const NetRule *rule = policy->rules->list->pdata[i];
                bool closed = false;
                if (!net_rule_has_port(rule, target))
                        continue;
                /* Whom QUIC asks for cannot be seen: without it programs take TCP. */
                if (policy->tls_names && target->protocol == RULE_UDP && target->port == PORT_HTTPS && rule->allow && rule->name)
                        continue;
                const NameEntry *entry = rule_name(rule, names, target->classes, &closed);
                if (closed && !d->rule)
                        d->rule = rule; /* for the reason, if nothing else speaks of it */
                if (!entry && !net_rule_has_address(rule, target))
                        continue;
                d->rule = rule;
                d->reason = POLICY_BY_RULE;
                d->verdict = rule->allow ? POLICY_PASS : POLICY_REFUSE;
                if (entry)
                        d->name = entry->name;
                return true;
        }
        return false;
}

static void decide_by_default(const Policy *policy, PolicyDecision *d) {
        if (d->classes & (ADDRESS_HOST | ADDRESS_METADATA))
                d->reason = d->rule ? POLICY_BY_REBINDING : POLICY_BY_CLASS;
        else if (policy->rules && policy->rules->closed)
                d->reason = d->rule ? POLICY_BY_REBINDING : POLICY_BY_UNMATCHED;
        else
                d->reason = POLICY_BY_DEFAULT;
        d->verdict = d->reason == POLICY_BY_DEFAULT ? POLICY_PASS : POLICY_REFUSE;
        if (d->reason != POLICY_BY_REBINDING)
                d->rule = NULL;
}

PolicyDecision policy_decide(const Policy *policy, uint8_t protocol, int family, const struct in6_addr *addr, uint16_t port) {
        PolicyDecision d = { .verdict = POLICY_REFUSE, .reason = POLICY_BY_ADDRESS, .to = *addr };

        if (policy_is_resolver(family, addr) && port == PORT_DNS && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)) {
                d.verdict = POLICY_DNS;
                return d;
        }
        RuleTarget target = target_of(policy, protocol, family, addr, port);
        d.classes = target.classes;
        if (target.classes & ADDRESS_INVALID || (family == AF_INET6 && !policy->ipv6))
                return d;
        const NameEntry *names = policy->names ? names_of(policy->names, addr) : NULL;
        d.name = names ? names->name : NULL;
        if (!decide_by_rules(policy, &target, names, &d))
                decide_by_default(policy, &d);
        if (target.gateway)
                d.to = family == AF_INET ? loopback_ipv4 : loopback_ipv6;
        return d;
}

bool policy_rule_speaks(const Policy *policy, const NetRule *rule, uint8_t protocol, int family, const struct in6_addr *addr, uint16_t port,
                        const char *name) {
        RuleTarget target = target_of(policy, protocol, family, addr, port);
        bool closed = false;

        if (!net_rule_has_port(rule, &target))
                return false;
        const NameEntry *names = policy->names ? names_of(policy->names, addr) : NULL;
        return net_rule_has_address(rule, &target) || (name && net_rule_has_name(rule, name)) || rule_name(rule, names, target.classes, &closed);
}

static bool by_name(const NetRule *rule) {
        return rule && (rule->kind == RULE_NAME || rule->kind == RULE_WILDCARD);
}

bool policy_wants_tls_name(const Policy *policy, uint16_t port, const PolicyDecision *decision) {
        return policy->tls_names && port == PORT_HTTPS && decision->reason == POLICY_BY_RULE && by_name(decision->rule);
}

bool policy_tls_name(const Policy *policy, int family, const struct in6_addr *addr, uint16_t port, const char *name) {
        RuleTarget target = target_of(policy, IPPROTO_TCP, family, addr, port);
        g_autofree char *normal = net_name_normal(name);

        for (guint i = 0; normal && policy->rules && i < policy->rules->list->len; i++) {
                const NetRule *rule = policy->rules->list->pdata[i];
                if (net_rule_has_port(rule, &target) && (net_rule_has_name(rule, normal) || net_rule_has_address(rule, &target)))
                        return rule->allow;
        }
        return normal && !(policy->rules && policy->rules->closed);
}

static bool is_gateway(const Packet *p) {
        return policy_is_gateway(p->family, &p->dst);
}

static bool is_multicast(const Packet *p) {
        if (p->family == AF_INET)
                return address_prefix_has(&multicast_ipv4, &p->dst) || address_same(&p->dst, &any_broadcast_ipv4) ||
                       address_same(&p->dst, &subnet_ipv4()->broadcast);
        return address_prefix_has(&multicast_ipv6, &p->dst);
}

/* An address that one of the box's interfaces can have. */
static bool is_box_source(const Packet *p) {
        if (!policy_is_subnet(p->family, &p->src))
                return false;
        const Subnet *s = subnet_ipv4();
        if (p->family == AF_INET)
                return !address_same(&p->src, &s->prefix.addr) && !address_same(&p->src, &s->gateway) && !address_same(&p->src, &s->dns) &&
                       !address_same(&p->src, &s->broadcast);
        return !address_same(&p->src, &subnet_ipv6.addr) && !address_same(&p->src, &gateway_ipv6) && !address_same(&p->src, &dns_ipv6);
}

/* Neighbour discovery (RFC 4861), the only ICMPv6 besides echo that may pass. Hop limit 255: of this link. */
static bool is_neighbour_discovery(const Packet *p) {
        if (p->protocol != IPPROTO_ICMPV6 || p->hops != 255 || p->icmp_code != 0)
                return false;
        size_t minimum = p->icmp_type == NDP_ROUTER_SOLICIT ? 8 : 24;
        return (p->icmp_type == NDP_ROUTER_SOLICIT || p->icmp_type == NDP_NEIGHBOUR_SOLICIT ||
                p->icmp_type == NDP_NEIGHBOUR_ADVERT) &&
               p->l4_len >= minimum &&
               (policy_is_subnet(AF_INET6, &p->src) || address_prefix_has(&link_local_ipv6, &p->src) ||
                IN6_IS_ADDR_UNSPECIFIED(&p->src));
}

static bool is_dhcp(const Packet *p) {
        return p->family == AF_INET && p->protocol == IPPROTO_UDP && p->sport == PORT_DHCP_CLIENT &&
               p->dport == PORT_DHCP_SERVER && (address_same(&p->src, &any_ipv4) || is_box_source(p)) &&
               (address_same(&p->dst, &any_broadcast_ipv4) || is_gateway(p));
}

static PolicyVerdict judge_icmp(const Policy *policy, const Packet *p, PolicyDecision *ret_decision, bool *ret_judged) {
        if (p->icmp_type != (p->protocol == IPPROTO_ICMP ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST) || p->icmp_code != 0)
                return POLICY_DROP;
        if (is_gateway(p) || policy_is_resolver(p->family, &p->dst))
                return POLICY_PASS; /* libslirp answers itself */
        if (!policy->ping)
                return POLICY_REFUSE;
        *ret_judged = true;
        *ret_decision = policy_decide(policy, p->protocol, p->family, &p->dst, 0);
        return ret_decision->verdict;
}

PolicyVerdict policy_frame(const Policy *policy, const uint8_t *frame, size_t len, Packet *ret_packet, PolicyDecision *ret_decision,
                           bool *ret_judged) {
        Packet *p = ret_packet;

        *ret_judged = false;
        if (!packet_parse(frame, len, p))
                return POLICY_DROP;
        if (p->family == AF_UNSPEC)
                return POLICY_PASS; /* ARP: libslirp's tables know the box's network alone */
        if (p->family == AF_INET6 && !policy->ipv6)
                return POLICY_DROP;
        if (is_neighbour_discovery(p) || is_dhcp(p))
                return POLICY_PASS;
        if (p->hops == 0 || !is_box_source(p) || is_multicast(p))
                return POLICY_DROP;
        if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6)
                return judge_icmp(policy, p, ret_decision, ret_judged);

        if (p->protocol == IPPROTO_TCP && (p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) != PACKET_TCP_SYN)
                return policy_is_resolver(p->family, &p->dst) && p->dport == PORT_DNS ? POLICY_DNS : POLICY_PASS;
        *ret_judged = true;
        *ret_decision = policy_decide(policy, p->protocol, p->family, &p->dst, p->dport);
        return ret_decision->verdict;
}
