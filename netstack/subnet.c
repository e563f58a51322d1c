/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The IPv4 network between the box and usbox-net.
 *
 * Role: usbox-net and its front. Privileges: none needed. Threads: one. Order: set with the configuration, constant afterwards.
 *
 * There is one in a process, and nearly everything that looks at a packet asks for it: so it is the process's, and not handed from hand to hand.
 */
#include <string.h>

#include "base/error.h"
#include "netstack/config.h"
#include "netstack/subnet.h"

/* Who is who; the numbers of slirp4netns. */
#define HOST_GATEWAY 2
#define HOST_DNS 3
#define HOST_NEIGHBOUR 4
#define HOST_BOX 100

/* Of its mask. Longer, and the box's own address is not in it. */
#define LEN_MIN 8
#define LEN_MAX 25

#define IPV4_FROM 96 /* where an IPv4 address begins in the form of address.h */

static Subnet current;

static struct in6_addr host(uint32_t network, uint32_t number, char text[static INET_ADDRSTRLEN]) {
        struct in_addr addr = { .s_addr = htonl(network + number) };

        inet_ntop(AF_INET, &addr, text, INET_ADDRSTRLEN);
        return address_mapped((const uint8_t *) &addr);
}

static void fill(Subnet *s, const AddressPrefix *prefix) {
        uint32_t network;

        memcpy(&network, prefix->addr.s6_addr + IPV4_FROM / 8, sizeof network);
        network = ntohl(network);
        *s = (Subnet){ .prefix = *prefix, .len = prefix->len - IPV4_FROM };
        char unused[INET_ADDRSTRLEN];
        (void) host(network, 0, s->network_text);
        (void) host(network, HOST_NEIGHBOUR, s->neighbour_text);
        s->gateway = host(network, HOST_GATEWAY, s->gateway_text);
        s->dns = host(network, HOST_DNS, s->dns_text);
        s->box = host(network, HOST_BOX, s->box_text);
        s->broadcast = host(network, ~0U >> s->len, unused);
}

const Subnet *subnet_ipv4(void) {
        static const AddressPrefix usual = { { .s6_addr = { [10] = 0xff, 0xff, 10, 0, 2, 0 } }, IPV4_FROM + NET_PREFIX_IPV4 };

        if (current.len == 0)
                fill(&current, &usual);
        return &current;
}

bool subnet_ipv4_set(const char *what, const char *cidr, GError **error) {
        g_autofree char *quoted = err_quote(cidr);
        AddressPrefix prefix;
        Subnet s;

        if (!strchr(cidr, '/') || !address_prefix_parse(cidr, &prefix) || !address_is_mapped(&prefix.addr) || prefix.len < IPV4_FROM + LEN_MIN ||
            prefix.len > IPV4_FROM + LEN_MAX)
                return err_usage(error, "%s: '%s' is not an IPv4 network of %d to %d bits, such as 10.0.2.0/24", what, quoted, LEN_MIN, LEN_MAX);
        fill(&s, &prefix);
        /* Loopback, 0/8, multicast, and where clouds have their metadata: no place for a network of one's own. */
        if ((address_classes(AF_INET, &prefix.addr) | address_classes(AF_INET, &s.box) | address_classes(AF_INET, &s.broadcast)) &
            (ADDRESS_HOST | ADDRESS_LINK_LOCAL | ADDRESS_METADATA | ADDRESS_INVALID))
                return err_usage(error, "%s: %s is not a network that a box could have", what, quoted);
        current = s;
        return true;
}
