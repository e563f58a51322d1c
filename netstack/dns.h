/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/config.h"
#include "netstack/events.h"
#include "netstack/names.h"
#include "netstack/packet.h"
#include "netstack/stack.h"

/* The box's resolver. */
typedef struct Dns Dns;

/* Who asks; a member of what it belongs to. */
typedef struct DnsAsker DnsAsker;
struct DnsAsker {
        /* The answer, or NULL with 0: there is none, not even an error. Called once for each dns_ask(), perhaps from within it. */
        void (*reply)(DnsAsker *asker, const uint8_t *msg, size_t len);
        bool tcp;
};

/* A question that waits for its answer. */
typedef struct DnsQuestion DnsQuestion;

/* config (its rules and name servers may change), names and account are borrowed; send gets frames for the box. */
Dns *dns_new(Events *events, const NetConfig *config, Names *names, Account *account, StackSend send, void *data);
/* Who still waits gets an error for an answer. */
void dns_free(Dns *dns);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dns, dns_free)

/* A message of the box's. NULL: reply was called already; else what to give dns_cancel(). */
DnsQuestion *dns_ask(Dns *dns, const uint8_t *msg, size_t len, DnsAsker *asker);

/* reply is not called any more. */
void dns_cancel(DnsQuestion *question);

/* A datagram of the box's to its resolver, or some: a frame for which the policy says POLICY_DNS. */
void dns_input(Dns *dns, const Packet *packet);

/* The name servers are others: what the old ones said is forgotten. */
void dns_resolvers_changed(Dns *dns);
