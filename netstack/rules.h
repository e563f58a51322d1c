/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "netstack/address.h"

/* The name under which the box finds its host: the gateway's address. */
#define RULES_HOST_NAME "host.usbox"

/* A name has at most so many bytes (RFC 1035, without the final dot). */
#define RULES_NAME_MAX 253

typedef enum {
        RULE_NAME,     /* github.com */
        RULE_WILDCARD, /* *.debian.org: every name below, not that name itself */
        RULE_PREFIX,   /* an address, or a CIDR */
        RULE_CLASS,    /* host, private, link-local, metadata */
        RULE_ANY,      /* any */
        RULE_GATEWAY,  /* host.usbox, and --expose-host */
} RuleKind;

typedef enum { RULE_TCP = 1 << 0, RULE_UDP = 1 << 1, RULE_ICMP = 1 << 2 } RuleProtocol;

/* --allow RULE, --deny RULE, --expose-host PORT. */
typedef struct {
        bool allow;
        bool exposes; /* of --expose-host: does not close what no rule speaks of */
        RuleKind kind;
        char *name;           /* NAME, WILDCARD (what follows "*."): lower case, without the final dot */
        AddressPrefix prefix; /* PREFIX */
        unsigned classes;     /* CLASS: an AddressClass */
        uint16_t first, last; /* ports, 0 to 65535 where none is given */
        unsigned protocols;   /* RuleProtocol; ICMP only where neither ports nor a protocol are given */
        char *text;           /* as it was given */
} NetRule;

/* Rules in the order in which they are asked. */
typedef struct NetRules {
        GPtrArray *list; /* of NetRule *, which it owns */
        bool closed;     /* there was an --allow from the start: what no rule speaks of is denied. Set where one is appended */
} NetRules;

/* What a rule is asked about. */
typedef struct {
        unsigned protocol; /* one RuleProtocol */
        uint16_t port;     /* of TCP and UDP */
        struct in6_addr addr;
        unsigned classes; /* AddressClass, ADDRESS_HOST of the host's own addresses too */
        bool gateway;     /* the gateway's address */
} RuleTarget;

/*
 * [allow-]TARGET[:PORT[-PORT]][/tcp|/udp], as CLI.md has it. The prefix "allow-" is for the classes alone, since a name may begin
 * so. NULL with a usage error that names the option; else the caller's.
 */
NetRule *net_rule_parse(bool allow, const char *text, GError **error);

/* How a rule's text speaks of the machine that DNS calls name: a word that would be a class, or is refused, has a dot behind. The caller's. */
char *net_rule_name_text(const char *name);

/* --expose-host: that port of the host's loopback, TCP and UDP. */
NetRule *net_rule_expose(uint16_t port);
void net_rule_free(NetRule *rule);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetRule, net_rule_free)

/* No rules; append one; put one in a place (0: before all others, where a running box's new rules go). rule is taken. */
NetRules *net_rules_new(void);
void net_rules_free(NetRules *rules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetRules, net_rules_free)
void net_rules_append(NetRules *rules, NetRule *rule_take);
void net_rules_insert(NetRules *rules, guint place, NetRule *rule_take);

/* Are port and protocol of the target the rule's? */
bool net_rule_has_port(const NetRule *rule, const RuleTarget *target);

/*
 * Does a rule that is not by name speak of this address? A rule that allows does not speak of the host's and the clouds' metadata
 * addresses unless it is of every such class that the address has, or of that one address.
 * One that denies an IPv4 address speaks of the IPv6 addresses that have it inside, too (address_embedded()).
 */
bool net_rule_has_address(const NetRule *rule, const RuleTarget *target);

/* Is it a rule by name, and of this one? name is lower case, without the final dot. */
bool net_rule_has_name(const NetRule *rule, const char *name);

/* May this name be asked of the DNS? Yes if it could be that what comes is allowed; *ret_rule: the rule by that name which decides, or NULL. */
bool net_rules_name_asked(const NetRules *rules, const char *name, const NetRule **ret_rule);

/* A name as rules have it, from text: lower case, no final dot. NULL: it is none (RFC 1035, and "_"). The caller's. */
char *net_name_normal(const char *text);
