/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/policy.h"

/* Every flow of the box: who, how much, how long, what was decided. For `usbox net --flows`, --net-log and the note after the run. */
typedef struct Account Account;

/* One flow that was allowed. Owned by the account; whoever carries it holds it until account_end(). */
typedef struct AccountFlow AccountFlow;

typedef enum {
        ACCOUNT_FRAMES, /* by frames, through libslirp */
        ACCOUNT_UDP,    /* by frames, through our own sockets */
        ACCOUNT_SPLICE, /* the TCP fast path */
        ACCOUNT_PORT,   /* in by a published port: from the client, to the box */
} AccountPath;

/* Who speaks to whom. Addresses and family as in Packet, ports in host order; ICMP has none. */
typedef struct {
        uint8_t protocol; /* IPPROTO_* */
        int family;
        struct in6_addr src, dst;
        uint16_t sport, dport;
} AccountKey;

/* Of a packet of the box's, UDP's or TCP's (of another protocol: without what stands for ports there). */
static inline AccountKey account_key_of(const Packet *packet) {
        return (AccountKey){ .protocol = packet->protocol, .family = packet->family, .src = packet->src, .dst = packet->dst, .sport = packet->sport,
                             .dport = packet->dport };
}

/* For tables of flows by their key. */
guint account_key_hash(gconstpointer key);
gboolean account_key_equal(gconstpointer a, gconstpointer b);

/* End a flow at once, because a new rule denies it: the carrier's affair. It calls account_end() before it returns. */
typedef void (*AccountCut)(AccountFlow *flow, void *carrier);

/* Something was denied that was not before: what ("github.com:443/tcp"), and the option that would allow it, or what else denies it; "": none does. */
typedef void (*AccountTell)(const char *what, const char *option, void *data);

/* log_fd (borrowed): where JSON lines go; -1: nowhere. */
Account *account_new(int log_fd, AccountTell tell, void *tell_data);

/* Says the end of all flows that are left to the log. */
void account_free(Account *account);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Account, account_free)

/* A new flow, after policy_decide() said PASS and before its first byte. carrier is what cut gets. Never NULL. decision and cut NULL: it came in by
 * a published port, of which no rule speaks. */
AccountFlow *account_start(Account *account, const AccountKey *key, const PolicyDecision *decision, AccountPath path, AccountCut cut, void *carrier);

/* Bytes of payload and packets (or, of the fast path, pieces) that went: out of the box, into the box. */
void account_moved(AccountFlow *flow, guint64 out_bytes, guint64 out_packets, guint64 in_bytes, guint64 in_packets);

/* The flow is over; flow is invalid afterwards. how: static, a word for the log ("closed", "reset", "timeout", "refused", "denied"). */
void account_end(Account *account, AccountFlow *flow, const char *how);

/* policy_decide() said REFUSE: to be said before the box is told, so that it is known before the box can end. */
void account_denied(Account *account, const AccountKey *key, const PolicyDecision *decision);

/* DNS refused a question for this name; rule: which one, NULL: no --allow is of it. Like account_denied(). */
void account_denied_name(Account *account, const char *name, const NetRule *rule);

/* DNS answered: for the log. addresses: of struct in6_addr, may be empty. */
void account_answered(Account *account, const char *name, const GArray *addresses);

/* A rule that denies was put before all others: cut the flows that it speaks of. rule NULL: the host has other addresses, policy knows them, and cut are
 * the flows to those that are closed now. Returns how many. */
guint account_cut(Account *account, const Policy *policy, const NetRule *rule);

/* The present flows and the sums of each destination, as one JSON object; the caller's. */
char *account_json(const Account *account);
