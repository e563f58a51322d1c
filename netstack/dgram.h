/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

#include "netstack/policy.h"
#include "netstack/reply.h"
#include "netstack/stack.h"

/* A flow's socket of the host's: what the box's UDP and its echo requests have in common. */

/* Let a flow of the caller's go, for its descriptor. False: there is none. */
typedef bool (*DgramEvict)(void *data);

/* A socket of the family (SOCK_DGRAM) that is connected to that address and port (host byte order; 0 for protocols without), and keeps the errors of what it
 * sends (errqueue.h). The caller's; -1 with errno. */
int dgram_open(int family, int protocol, const struct in6_addr *to, uint16_t port, DgramEvict evict, void *data);

/* Is the address that it sends from, which the kernel has chosen when it was connected, still the host's? */
bool dgram_is_at_home(int fd, const Policy *policy);

/* Connect it anew: from an address that is the host's now, and another port. False: there is no way there now, and nothing is sent. For UDP alone. */
bool dgram_renew(int fd, int family, const struct in6_addr *to, uint16_t port);

/* What it sends has this hop limit. */
void dgram_set_hops(int fd, int family, uint8_t hops);

/* To the box, about its packet: an errno of the host's (where that has no route, so has the box); an error of some router's, about the packet in frame. */
void dgram_tell_errno(const Packet *packet, int errnum, StackSend send, void *data);
void dgram_tell_icmp(const uint8_t *frame, size_t len, const ReplyIcmp *error, StackSend send, void *data);
