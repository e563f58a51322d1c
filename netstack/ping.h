/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/events.h"
#include "netstack/packet.h"
#include "netstack/stack.h"

/* The box's echo requests, ICMP and ICMPv6: a ping socket of the host's for each program that pings and each of its destinations. */
typedef struct Ping Ping;

/* send gets frames for the box. */
Ping *ping_new(Events *events, Account *account, StackSend send, void *data);
void ping_free(Ping *ping);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ping, ping_free)

/* Is an echo request of the box's one of a flow that lives? */
bool ping_has(const Ping *ping, const Packet *packet);

/* The host's addresses are others: the next request of who pings from one which it has no more goes by another. */
void ping_host_changed(Ping *ping, const Policy *policy);

/* An echo request of the box's that the policy has passed. */
void ping_input(Ping *ping, const Packet *packet, const PolicyDecision *decision);
