/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/account.h"
#include "netstack/config.h"
#include "netstack/dns.h"
#include "netstack/dnstcp.h"
#include "netstack/events.h"
#include "netstack/fastpath.h"
#include "netstack/flows.h"
#include "netstack/forward.h"
#include "netstack/hostaddr.h"
#include "netstack/pcap.h"
#include "netstack/ping.h"
#include "netstack/policy.h"
#include "netstack/reassembly.h"
#include "netstack/publish.h"
#include "netstack/shape.h"
#include "netstack/stack.h"
#include "netstack/tap.h"
#include "netstack/udp.h"

/* All that runs: what main() has made and the loop uses. */
typedef struct {
        Events *events;
        int wire;        /* the launcher */
        int spare;       /* control.c's; -1: none */
        int tap;         /* the box; -1 before it has come, and after its network namespace is gone */
        bool offloads;   /* frames of the TAP may be longer than its MTU (tap.h) */
        HostAddr host;
        NetConfig *config; /* rules and name servers of it change while the box runs */
        Names *names;
        Policy policy;   /* its host is host.prefixes, its rules the config's, its names those */
        Account *account;
        Flows *flows;    /* libslirp's */
        Udp *udp;
        Ping *ping;
        Reassembly *reassembly;
        Shape *shape;    /* NULL: frames go at once */
        Pcap pcap;
        Dns *dns;
        DnsTcp *dns_tcp;
        Stack *stack;
        Forward *forward;
        int agent;           /* -1: none */
        SplicePipes *pipes;
        Publish *publish;
        GPtrArray *published; /* of NetPublish *: ports.c's */
        FastPath *fast_path; /* NULL: TCP is libslirp's */
        /* The loop's own. */
        EventSource on_wire, on_host, on_tap;
        EventTimer unmap; /* helper.c's */
        uint8_t *read_buf; /* the frame that is being taken (tap_read()) */
        uint8_t *dns_frame; /* one of libslirp's that is being changed */
        TapHeld held;    /* one of libslirp's, until it has said that no other follows */
        bool ended;
        GError *error;   /* why, if not because the launcher has gone */
} Net;

/* The two ends of net->shape. */
void loop_shaped_up(uint8_t *frame, size_t len, void *net);
void loop_shaped_down(uint8_t *frame, size_t len, void *net);

/* A frame for the box, by way of the TAP; lost where that is full. Fits StackSend, net is a Net *. */
void loop_send(const void *frame, size_t len, void *net);

/* UdpSend, net is a Net *. For where frames of the TAP need not be whole (net_config_offloads()). */
bool loop_send_datagrams(uint8_t *frame, size_t len, uint16_t segment, void *net);

/* The same, for a frame of libslirp's, whose flow is accounted for. */
void loop_send_counted(const void *frame, size_t len, void *net);

/* Watch what there is to watch, once all of net is made. From then on each events_turn() moves packets, until net->ended. */
bool loop_start(Net *net, GError **error);

/* loop_start(), and move packets until the launcher closes the wire (true), or something fails (false). */
bool loop_run(Net *net, GError **error);
