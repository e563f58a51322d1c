/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/config.h"
#include "netstack/packet.h"
#include "netstack/stack.h"

typedef struct Forward Forward;

/* Published UDP ports, none yet, their sockets in events; send gets the frames for the box. Peers are told to account (borrowed). */
Forward *forward_new(Events *events, Account *account, StackSend send, void *data);
void forward_free(Forward *forward);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Forward, forward_free)

/* Open a UDP port of the host for the box. Returns the port that it is, which differs where 0 was asked; 0 with error. */
guint16 forward_publish(Forward *forward, const NetPublish *publish, GError **error);

/* No more; named as it came out. */
void forward_unpublish(Forward *forward, const NetPublish *publish);

/* A peer's address and port, as the box is to see them by that family: its own, or the gateway's where the box could not answer to that. */
void forward_visible(int family, const struct sockaddr_storage *real, struct in6_addr *ret_addr, guint16 *ret_port);

/* A frame from the box, well-formed: an answer to somebody who wrote to a published port is sent there. False: it is none. */
bool forward_input(Forward *forward, const Packet *packet);
