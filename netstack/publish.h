/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/config.h"
#include "netstack/events.h"
#include "netstack/splice.h"

/* Published TCP ports, by sockets on both sides. */
typedef struct Publish Publish;

/* None yet, and nothing is accepted before publish_start(). */
Publish *publish_new(Events *events, SplicePipes *pipes);
void publish_free(Publish *publish);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Publish, publish_free)

/* Listen on a TCP port of the host for the box. Returns the port that it is, which differs where 0 was asked; 0 with error. At any time. */
guint16 publish_open(Publish *p, const NetPublish *publish, GError **error);

/* Listen no more on that port (host_addr and host_port as publish_open() left them); connections that stand go on. False: there is none. */
bool publish_close(Publish *p, const NetPublish *publish);

/* lost is called when the agent has ended, and with it all ports. NULL: nobody is told. */
void publish_on_lost(Publish *publish, void (*lost)(void *data), void *data);

/* Accept: the agent (borrowed) has joined the box's network and makes sockets there. account gets the connections. */
bool publish_start(Publish *publish, int agent, Account *account, GError **error);
