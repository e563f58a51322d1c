/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/config.h"
#include "netstack/dnswire.h"
#include "netstack/events.h"

/* The name servers outside, and what is being asked of them. */
typedef struct DnsUpstream DnsUpstream;

/* One question on its way. */
typedef struct DnsExchange DnsExchange;

/* The answer; msg is borrowed, and may be written to. NULL: no name server gave one. */
typedef void (*DnsDone)(uint8_t *msg, size_t len, const DnsAnswer *answer, void *data);

/* config is borrowed: its resolvers are looked at for each question. */
DnsUpstream *dns_upstream_new(Events *events, const NetConfig *config);
/* What is on its way has no answer: done is called. */
void dns_upstream_free(DnsUpstream *up);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DnsUpstream, dns_upstream_free)

/* Ask; done is called later, never from within. NULL: too many are on their way. */
DnsExchange *dns_upstream_ask(DnsUpstream *up, const DnsQuery *query, bool tcp, DnsDone done, void *data);

/* Nobody waits for it any more: done is not called. */
void dns_exchange_cancel(DnsExchange *x);
