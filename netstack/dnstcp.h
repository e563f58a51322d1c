/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/dns.h"

/* The box's resolver by TCP. */
typedef struct DnsTcp DnsTcp;

/* dns is borrowed. */
DnsTcp *dns_tcp_new(Events *events, Dns *dns);
void dns_tcp_free(DnsTcp *tcp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DnsTcp, dns_tcp_free)

/*
 * A TCP frame to port 53 of the box's resolver becomes, in place, one to our listener, by way of the
 * gateway's address. False: there is no listener (a descriptor is missing, or IPv6).
 */
bool dns_tcp_frame_out(DnsTcp *tcp, uint8_t *frame, const Packet *packet);

/* A frame of libslirp's for the box: what comes from our listener is to come from the resolver. It is copied to out then; else false. */
bool dns_tcp_frame_in(const DnsTcp *tcp, const uint8_t *frame, size_t len, uint8_t *out);
