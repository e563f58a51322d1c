/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/address.h"
#include "netstack/names.h"
#include "netstack/packet.h"
#include "netstack/rules.h"

typedef enum {
        POLICY_PASS,   /* the flow may be opened; of a frame: libslirp may have it */
        POLICY_DROP,   /* of a frame alone. Nobody answers: malformed, or of a kind that has no answer */
        POLICY_REFUSE, /* the box is told: reply_refuse(), a reset */
        POLICY_DNS,    /* to the box's own resolver, port 53 of UDP or TCP: dns.c answers, nothing is connected */
} PolicyVerdict;

typedef enum {
        POLICY_BY_RULE,      /* PolicyDecision.rule */
        POLICY_BY_DEFAULT,   /* nothing speaks of it, and there is no --allow */
        POLICY_BY_UNMATCHED, /* nothing speaks of it, and there is an --allow */
        POLICY_BY_CLASS,     /* the host or metadata, which no rule names */
        POLICY_BY_REBINDING, /* a rule by name would allow it, but the address is of a class that only a rule of its own opens */
        POLICY_BY_ADDRESS,   /* no flow can go there, whatever the rules say */
} PolicyReason;

/* What was decided about one flow. rule and name are borrowed: until rules or names change. */
typedef struct {
        PolicyVerdict verdict; /* PASS, REFUSE or DNS */
        PolicyReason reason;
        const NetRule *rule; /* BY_RULE, BY_REBINDING; else NULL */
        const char *name;    /* by which the box knows the address: the rule's if that is by name, else the latest; NULL: none */
        unsigned classes;    /* AddressClass of the address */
        struct in6_addr to;  /* PASS: where to connect. Not the address that was asked for if that is the gateway's: then loopback */
} PolicyDecision;

typedef struct {
        bool ipv6;             /* the box has IPv6 */
        bool ping;             /* the host lets usbox-net send echo requests */
        bool tls_names;        /* --tls-names */
        GArray *host;          /* of AddressPrefix: what the host itself answers to; borrowed, may be NULL */
        const NetRules *rules; /* borrowed; NULL: none */
        const Names *names;    /* borrowed; NULL: none */
} Policy;

/*
 * May the box open a flow of this protocol (IPPROTO_TCP, _UDP, _ICMP or _ICMPV6; port 0 for the latter two) to addr and port (host order)?
 * family and addr as in Packet. Pure: the one place where that is decided, for frames, for the TCP fast path, and for flows that live
 * when rules change. (--tls-names adds a second look, at the name that TLS says.)
 */
PolicyDecision policy_decide(const Policy *policy, uint8_t protocol, int family, const struct in6_addr *addr, uint16_t port);

/* Does this one rule, a new one, speak of such a flow, known by that name (NULL: none)? For flows that live. */
bool policy_rule_speaks(const Policy *policy, const NetRule *rule, uint8_t protocol, int family, const struct in6_addr *addr, uint16_t port,
                        const char *name);

/* With --tls-names: has a TCP flow to this port to name its server by TLS? One to port 443 that a rule by name allowed. */
bool policy_wants_tls_name(const Policy *policy, uint16_t port, const PolicyDecision *decision);

/* The rule by which --tls-names judges: may a flow to addr and port, allowed by a rule by name, be to this name? Pure. */
bool policy_tls_name(const Policy *policy, int family, const struct in6_addr *addr, uint16_t port, const char *name);

/*
 * May this frame of len bytes go on? Pure: looks at its arguments alone. *ret_packet is the frame taken apart; it is valid
 * (and borrows frame) only if the verdict is not POLICY_DROP. *ret_decision is set where the frame would open a flow (TCP without SYN: not),
 * which *ret_judged says.
 */
PolicyVerdict policy_frame(const Policy *policy, const uint8_t *frame, size_t len, Packet *ret_packet, PolicyDecision *ret_decision,
                           bool *ret_judged);

/* Is addr within the network between box and usbox-net? Is it the gateway's? The resolver's? */
bool policy_is_subnet(int family, const struct in6_addr *addr);
bool policy_is_gateway(int family, const struct in6_addr *addr);
bool policy_is_resolver(int family, const struct in6_addr *addr);

/* Is it one to which the host itself answers? */
bool policy_is_host(const Policy *policy, const struct in6_addr *addr);
