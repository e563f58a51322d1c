/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <arpa/inet.h>
#include <glib.h>

#include "netstack/address.h"

/* The IPv4 network between the box and usbox-net: by its place in it, who is who. */
typedef struct {
        AddressPrefix prefix;
        struct in6_addr box, gateway, dns, broadcast;
        unsigned len; /* of its mask */
        char network_text[INET_ADDRSTRLEN], box_text[INET_ADDRSTRLEN], gateway_text[INET_ADDRSTRLEN], dns_text[INET_ADDRSTRLEN];
        char neighbour_text[INET_ADDRSTRLEN]; /* nobody's; where held SYNs go (divert.c) */
} Subnet;

/* That of this process; NET_SUBNET_IPV4 if nothing else was said. */
const Subnet *subnet_ipv4(void);

/* Another one, "172.16.0.0/16". Once, before anything asks what it is. False with a usage error that begins with what. */
bool subnet_ipv4_set(const char *what, const char *cidr, GError **error);
