/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/events.h"
#include "netstack/packet.h"
#include "netstack/stack.h"

/* The box's UDP: a connected socket of the host's for each flow. */
typedef struct Udp Udp;

/* Datagrams for the box, by packet_write_udp_unsummed(), as tap_write_udp() has them; TAP_ROOM bytes before them may be overwritten. False: the kernel does not
 * take more than one at a time, and none was sent. */
typedef bool (*UdpSend)(uint8_t *frame, size_t len, uint16_t segment, void *data);

/* send gets frames for the box; send_datagrams (NULL: send) those with data. */
Udp *udp_new(Events *events, Account *account, StackSend send, UdpSend send_datagrams, void *data);
void udp_free(Udp *udp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Udp, udp_free)

/* Is a datagram of the box's (UDP) one of a flow that lives? */
bool udp_has(const Udp *udp, const Packet *packet);

/* A datagram of the box's that the policy has passed, or some (Packet.segment). It may wait for udp_flush(). */
void udp_input(Udp *udp, const Packet *packet, const PolicyDecision *decision);


/* A frame of the box's as it was read: where it is the next datagram of the flow whose datagrams wait, with the same headers, it is as the one before was
 * judged, and waits with them. False: it is another's, or has to be looked at. */
bool udp_input_next(Udp *udp, const uint8_t *frame, size_t len, uint16_t segment);

/* The host's addresses are others: flows that were by one which it has no more go on by another, with their next datagram. */
void udp_host_changed(Udp *udp, const Policy *policy);

/* There are no more frames for now: what waits goes. */
void udp_flush(Udp *udp);
