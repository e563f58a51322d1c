/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/events.h"
#include "netstack/packet.h"
#include "netstack/stack.h"

/* The flows that libslirp carries, as their frames show them. */
typedef struct Flows Flows;

/* To whom the resets of a flow that is cut go. */
typedef struct {
        StackSend send;                                                  /* the box; data is send_data */
        void (*input)(const uint8_t *frame, size_t len, void *data); /* libslirp */
        void *data;
} FlowsEnds;

Flows *flows_new(Events *events, Account *account, const FlowsEnds *ends);
void flows_free(Flows *flows);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Flows, flows_free)

/* A frame from the box that libslirp is about to get. decision: the one that let a new flow pass; NULL: the frame opens none. */
void flows_out(Flows *flows, const Packet *packet, const PolicyDecision *decision);

/* A frame from libslirp that the box is about to get. */
void flows_in(Flows *flows, const uint8_t *frame, size_t len);
