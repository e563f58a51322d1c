/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/events.h"
#include "netstack/fastpath.h"
#include "netstack/forward.h"
#include "netstack/hostaddr.h"
#include "netstack/policy.h"
#include "netstack/publish.h"
#include "netstack/stack.h"

/* All that runs: what main() has made and the loop uses. */
typedef struct {
        Events *events;
        int wire;        /* the launcher */
        int tap;         /* the box; -1 before it has come, and after its network namespace is gone */
        HostAddr host;
        Policy policy;   /* its host is host.prefixes */
        Stack *stack;
        Forward *forward;
        int agent;           /* -1: none */
        SplicePipes *pipes;
        Publish *publish;
        FastPath *fast_path; /* NULL: TCP is libslirp's */
        /* The loop's own. */
        EventSource on_wire, on_host, on_tap;
        uint8_t *frame;  /* the one that is being taken */
        bool ended;
        GError *error;   /* why, if not because the launcher has gone */
} Net;

/* A frame for the box, by way of the TAP; lost where that is full. Fits StackSend, net is a Net *. */
void loop_send(const void *frame, size_t len, void *net);

/* Move packets until the launcher closes the wire (true), or something fails (false). */
bool loop_run(Net *net, GError **error);
