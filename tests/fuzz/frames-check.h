/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "netstack/loop.h"

/*
 * What must hold whatever frames the box sends, said once more and without policy.c: a g_assert fails where it does not.
 */

#define CHECK_LATE_DENY "203.0.113.64/26"  /* a rule that comes while the network runs; likewise: */
#define CHECK_LATE_ALLOW "192.0.2.77:80/tcp"
#define CHECK_EXPOSED 7
#define CHECK_GIVEN "203.0.113.3"      /* by a name of the user's, which a rule may be of; likewise, with a late rule: */
#define CHECK_LATE_GIVEN "203.0.113.2"

/* Published ports. */
#define CHECK_HOST_UDP_PORT 9000
#define CHECK_BOX_UDP_PORT 9001
#define CHECK_HOST_TCP_PORT 8000
#define CHECK_BOX_TCP_PORT 8001

typedef enum { CHECK_RULES_NONE, CHECK_RULES_OPEN, CHECK_RULES_CLOSED, CHECK_RULES_TLS } CheckRules;

extern const uint8_t check_mac[6]; /* the box's */

extern bool check_answered;                   /* a name server has answered: addresses are open by their names */
extern bool check_published;                  /* the ports below may be */
extern bool check_late_deny, check_late_allow; /* that rule is in force */
extern bool check_late_host;                  /* WORLD_LATE_ADDRESS is the host's */

/* A new network. */
void check_begin(CheckRules rules, bool shaped);

/* The rules that are meant. */
void check_add_rules(CheckRules rules, NetRules *to);

/* A socket of a client's of a published UDP port. */
void check_client(int fd);

/* What the stack does: connect there, send a datagram there, listen by that socket, send the box those n bytes, of which a virtio_net_hdr comes first. */
void check_connect(const struct sockaddr *addr);
void check_sendto(const struct sockaddr *addr);
void check_listens(int fd);
void check_frame(const uint8_t *bytes, size_t n, const Net *net);
