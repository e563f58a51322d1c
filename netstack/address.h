/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Addresses of both families in one form: IPv4 stands as ::ffff:a.b.c.d. Whether a packet is IPv4 is for its family alone to
 * say, since a hostile IPv6 packet can carry such an address too.
 */

/* Addresses whose first len bits are those of addr; of IPv4 len is from 96 on, and a shorter one has no IPv4 address. */
typedef struct {
        struct in6_addr addr;
        uint8_t len;
} AddressPrefix;

/* What an address is, whatever else it is. */
typedef enum {
        ADDRESS_HOST = 1 << 0,       /* the host itself: loopback, what its kernel calls local, the gateway of the box */
        ADDRESS_PRIVATE = 1 << 1,    /* RFC 1918, carrier grade NAT, fc00::/7, fec0::/10, 64:ff9b:1::/48 */
        ADDRESS_LINK_LOCAL = 1 << 2, /* 169.254.0.0/16, fe80::/10 */
        ADDRESS_METADATA = 1 << 3,   /* where clouds give out credentials */
        ADDRESS_INVALID = 1 << 4,    /* nothing that a flow could go to: reserved, an IPv4 address in a mapped form */
} AddressClass;

/* The address a.b.c.d (network order) as ::ffff:a.b.c.d, and whether an address is of that form. */
struct in6_addr address_mapped(const uint8_t ipv4[4]);
bool address_is_mapped(const struct in6_addr *addr);

bool address_same(const struct in6_addr *a, const struct in6_addr *b);
bool address_prefix_has(const AddressPrefix *prefix, const struct in6_addr *addr);

/* "192.0.2.0/24", "2001:db8::1": with or without a length; what lies behind the length's bits is cleared. */
bool address_prefix_parse(const char *text, AddressPrefix *ret);

/* "192.0.2.1", "2001:db8::1"; the caller's. */
char *address_text(const struct in6_addr *addr);

/* As a socket address, port in host order, and its length; family as in Packet. */
socklen_t address_to_socket(int family, const struct in6_addr *addr, uint16_t port, struct sockaddr_storage *ret);

/* The other way. ret_port may be NULL. False: of neither family; nothing is set. */
bool address_of_socket(const struct sockaddr *from, struct in6_addr *ret_addr, uint16_t *ret_port);

/* The classes (AddressClass, ored) that an address is of by its own value; family as in Packet. Those of an IPv4 address
 * inside an IPv6 address count. Pure. */
unsigned address_classes(int family, const struct in6_addr *addr);

/* The IPv4 addresses, as ::ffff:a.b.c.d, that an IPv6 address of 6to4, NAT64, Teredo or ISATAP has, or may have, inside; returns how many. */
#define ADDRESS_EMBEDDED_MAX 5
unsigned address_embedded(const struct in6_addr *addr, struct in6_addr ret[static ADDRESS_EMBEDDED_MAX]);
