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
        ACCOUNT_FRAMES, /* by frames: libslirp, or our own UDP */
        ACCOUNT_SPLICE, /* the TCP fast path */
} AccountPath;

/* Who speaks to whom. Addresses and family as in Packet, ports in host order; ICMP has none. */
typedef struct {
        uint8_t protocol; /* IPPROTO_* */
        int family;
        struct in6_addr src, dst;
        uint16_t sport, dport;
} AccountKey;

/* End a flow at once, because a new rule denies it: the carrier's affair. It calls account_end() before it returns. */
typedef void (*AccountCut)(AccountFlow *flow, void *carrier);

/* A new flow, after policy_decide() said PASS and before its first byte. carrier is what cut gets. Never NULL. */
AccountFlow *account_start(Account *account, const AccountKey *key, const PolicyDecision *decision, AccountPath path, AccountCut cut, void *carrier);

/* Bytes of payload and packets (or, of the fast path, pieces) that went: out of the box, into the box. */
void account_moved(AccountFlow *flow, guint64 out_bytes, guint64 out_packets, guint64 in_bytes, guint64 in_packets);

/* The flow is over; flow is invalid afterwards. how: static, a word for the log ("closed", "reset", "timeout", "refused", "denied"). */
void account_end(Account *account, AccountFlow *flow, const char *how);

/* policy_decide() said REFUSE: to be said before the box is told, so that it is known before the box can end. */
void account_denied(Account *account, const AccountKey *key, const PolicyDecision *decision);
