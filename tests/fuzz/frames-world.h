/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "netstack/divert.h"

/*
 * The world that fuzz-frames runs in: a network namespace with no way out of this machine, in which every address but those below is a server's, and one that
 * stands for the box's, for the fast path.
 */

#define WORLD_HOST_IPV4 "192.0.2.77"      /* what the host has beside its loopback */
#define WORLD_HOST_IPV6 "2001:db8:77::1"
#define WORLD_LATE_ADDRESS "203.0.113.9"  /* and this one where world_late_address() says so */
#define WORLD_LOCAL_RESOLVER "127.0.0.53" /* the host's name servers: this one and the host itself */
#define WORLD_UNREACHABLE "198.51.100.0"  /* and the 127 after it */
#define WORLD_PROHIBITED "198.51.100.128" /* likewise */
#define WORLD_SILENT "203.0.113.128"      /* likewise: nobody answers */
#define WORLD_UNREACHABLE_IPV6 "2001:db8:51::" /* a /48 */

#define WORLD_TCP_SERVERS 4
extern const uint16_t world_ports[WORLD_TCP_SERVERS]; /* of TCP; the first two of UDP, too */
#define WORLD_UDP_SERVERS 2
#define WORLD_FAST_PORT 443 /* on the fast path only connections to that port come to be */

extern int world_tcp[WORLD_TCP_SERVERS], world_udp[WORLD_UDP_SERVERS]; /* listeners, sockets: of both families, non-blocking */

/* Enter it, with the caller's rights alone. False with error: this machine does not let us. Once, with one thread. */
bool world_enter(GError **error);

/* What fastpath_new_take() takes. */
void world_divert(int ret[DIVERT_FDS_MAX]);

/* A TCP socket, non-blocking, of a program in the box; -1: no descriptors. */
int world_program(int family);

/* The host gets one more address, or loses it. False: no descriptors. */
bool world_late_address(bool there);

/* Close what nobody has accepted, and read what nobody has read. */
void world_clear(void);

/* Close with a reset. */
void world_reset(int *fd);
