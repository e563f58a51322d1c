/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Addresses: one form for both families, prefixes, and the classes that rules speak of.
 *
 * Role: usbox-net; the launcher, which reads rules. Privileges: none. Threads: any; pure functions. Order: under everything that
 * compares addresses.
 */
#include <arpa/inet.h>
#include <string.h>

#include "netstack/address.h"

/* ::ffff:a.b.c.d and a spelled-out IPv6 address as initialisers. */
#define V4(a, b, c, d) { .s6_addr = { [10] = 0xff, 0xff, a, b, c, d } }
#define V6(...) { .s6_addr = { __VA_ARGS__ } }

#define MAPPED_LEN 96 /* of the prefix that all of IPv4 has in this form */

typedef struct {
        AddressPrefix prefix;
        AddressClass classes;
} ClassPrefix;

/* Not 198.18.0.0/15 (benchmarks): proxies that take all of a machine's traffic give every name an address there, and no LAN has it. */
static const ClassPrefix classes_ipv4[] = {
        { { V4(0, 0, 0, 0), 96 + 8 }, ADDRESS_HOST },    /* "this host": connect(2) to 0.0.0.0 is to the loopback */
        { { V4(127, 0, 0, 0), 96 + 8 }, ADDRESS_HOST },  /* loopback */
        { { V4(10, 0, 0, 0), 96 + 8 }, ADDRESS_PRIVATE },
        { { V4(172, 16, 0, 0), 96 + 12 }, ADDRESS_PRIVATE },
        { { V4(192, 168, 0, 0), 96 + 16 }, ADDRESS_PRIVATE },
        { { V4(100, 64, 0, 0), 96 + 10 }, ADDRESS_PRIVATE }, /* shared address space (RFC 6598) */
        { { V4(169, 254, 0, 0), 96 + 16 }, ADDRESS_LINK_LOCAL },
        { { V4(169, 254, 169, 254), 128 }, ADDRESS_METADATA }, /* AWS, GCP, Azure, OpenStack and more */
        { { V4(169, 254, 170, 2), 128 }, ADDRESS_METADATA },   /* credentials of ECS tasks */
        { { V4(169, 254, 170, 23), 128 }, ADDRESS_METADATA },  /* credentials of EKS pods */
        { { V4(169, 254, 0, 23), 128 }, ADDRESS_METADATA },    /* Tencent */
        { { V4(169, 254, 42, 42), 128 }, ADDRESS_METADATA },   /* Scaleway */
        { { V4(100, 100, 100, 200), 128 }, ADDRESS_METADATA }, /* Alibaba */
        { { V4(168, 63, 129, 16), 128 }, ADDRESS_METADATA },   /* Azure's wire server */
        { { V4(192, 0, 0, 192), 128 }, ADDRESS_METADATA },     /* Oracle */
        { { V4(224, 0, 0, 0), 96 + 4 }, ADDRESS_INVALID },     /* multicast */
        { { V4(240, 0, 0, 0), 96 + 4 }, ADDRESS_INVALID },     /* reserved, and the broadcast address */
};

static const ClassPrefix classes_ipv6[] = {
        { { V6(0), 96 }, ADDRESS_INVALID },                                               /* IPv4-compatible ::a.b.c.d */
        { { V6([10] = 0xff, 0xff), 96 }, ADDRESS_INVALID },                               /* IPv4-mapped: the kernel makes IPv4 of it */
        { { V6([8] = 0xff, 0xff), 96 }, ADDRESS_INVALID },                                /* IPv4-translated (RFC 2765) */
        { { V6(0xfe, 0x80), 10 }, ADDRESS_LINK_LOCAL | ADDRESS_INVALID },                 /* there is no link that it would be of */
        { { V6(0xff), 8 }, ADDRESS_INVALID },                                             /* multicast */
        { { V6(0xfc), 7 }, ADDRESS_PRIVATE },                                             /* unique local (RFC 4193) */
        { { V6(0xfe, 0xc0), 10 }, ADDRESS_PRIVATE },                                      /* site-local, long deprecated */
        { { V6(0, 0x64, 0xff, 0x9b, 0, 1), 48 }, ADDRESS_PRIVATE }, /* NAT64 of a network's own, to private addresses too (RFC 8215) */
        { { V6(0xfd, 0, 0x0e, 0xc2, [14] = 0x02, 0x54), 128 }, ADDRESS_METADATA },        /* AWS, fd00:ec2::254 */
        { { V6(0xfd, 0, 0x0e, 0xc2, [15] = 0x23), 128 }, ADDRESS_METADATA },              /* EKS pods, fd00:ec2::23 */
        { { V6(0xfd, 0x20, 0, 0xce, [14] = 0x02, 0x54), 128 }, ADDRESS_METADATA },        /* GCP, fd20:ce::254 */
        { { V6(0xfd, 0, 0, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe), 128 }, ADDRESS_METADATA }, /* Oracle, fd00:c1::a9fe:a9fe */
        { { V6(0xfd, 0, 0xa9, 0xfe, 0xa9, 0xfe, [15] = 0x01), 128 }, ADDRESS_METADATA },  /* Akamai, fd00:a9fe:a9fe::1 */
        { { V6(0xfd, 0, 0x01, 0, [12] = 0x01, 0, 0x02, 0), 128 }, ADDRESS_METADATA },     /* Alibaba, fd00:100::100:200 */
        { { V6(0xfd, 0, 0, 0x42, [15] = 0x42), 128 }, ADDRESS_METADATA },                 /* Scaleway, fd00:42::42 */
};

/*
 * IPv6 addresses with an IPv4 address inside, which a host with such an interface, or a translator on the way, sends to that one: the bytes that it is
 * made of. A NAT64 of a network's own has one of four forms (RFC 6052, 2.2), which of them cannot be told: each may be meant that makes an address.
 */
static const struct {
        AddressPrefix prefix;
        uint8_t at[4];
        uint8_t flip; /* bits that are turned around */
        bool may_be;
} embedding[] = {
        { { V6(0x20, 0x02), 16 }, { 2, 3, 4, 5 }, 0, false },                       /* 6to4 (RFC 3056) */
        { { V6(0, 0x64, 0xff, 0x9b), 96 }, { 12, 13, 14, 15 }, 0, false },          /* NAT64 (RFC 6052) */
        { { V6(0, 0x64, 0xff, 0x9b, 0, 1), 48 }, { 12, 13, 14, 15 }, 0, true },     /* the same of a network's own (RFC 8215), by its prefix of 96 bits, */
        { { V6(0, 0x64, 0xff, 0x9b, 0, 1), 48 }, { 9, 10, 11, 12 }, 0, true },      /* 64, */
        { { V6(0, 0x64, 0xff, 0x9b, 0, 1), 48 }, { 7, 9, 10, 11 }, 0, true },       /* 56, */
        { { V6(0, 0x64, 0xff, 0x9b, 0, 1), 48 }, { 6, 7, 9, 10 }, 0, true },        /* or 48 */
        { { V6(0x20, 0x01), 32 }, { 12, 13, 14, 15 }, 0xff, false },                /* Teredo (RFC 4380): its client, */
        { { V6(0x20, 0x01), 32 }, { 4, 5, 6, 7 }, 0, false },                       /* and its server, to which the first datagram goes */
        { { V6(0), 0 }, { 12, 13, 14, 15 }, 0, false },                             /* ISATAP (RFC 5214), see is_isatap() */
};

struct in6_addr address_mapped(const uint8_t ipv4[4]) {
        struct in6_addr addr = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
        memcpy(addr.s6_addr + 12, ipv4, 4);
        return addr;
}

bool address_is_mapped(const struct in6_addr *addr) {
        return IN6_IS_ADDR_V4MAPPED(addr);
}

socklen_t address_to_socket(int family, const struct in6_addr *addr, uint16_t port, struct sockaddr_storage *ret) {
        struct sockaddr_in *in = (struct sockaddr_in *) ret;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) ret;

        *ret = (struct sockaddr_storage){ .ss_family = (sa_family_t) family };
        if (family == AF_INET) {
                in->sin_port = htons(port);
                memcpy(&in->sin_addr, addr->s6_addr + 12, 4);
                return sizeof *in;
        }
        in6->sin6_port = htons(port);
        in6->sin6_addr = *addr;
        return sizeof *in6;
}

bool address_of_socket(const struct sockaddr *from, struct in6_addr *ret_addr, uint16_t *ret_port) {
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        in_port_t port;

        if (from->sa_family == AF_INET) {
                memcpy(&in, from, sizeof in);
                *ret_addr = address_mapped((const uint8_t *) &in.sin_addr);
                port = in.sin_port;
        } else if (from->sa_family == AF_INET6) {
                memcpy(&in6, from, sizeof in6);
                *ret_addr = in6.sin6_addr;
                port = in6.sin6_port;
        } else {
                return false;
        }
        if (ret_port)
                *ret_port = ntohs(port);
        return true;
}

bool address_same(const struct in6_addr *a, const struct in6_addr *b) {
        return memcmp(a, b, sizeof *a) == 0;
}

bool address_prefix_has(const AddressPrefix *prefix, const struct in6_addr *addr) {
        size_t bytes = prefix->len / 8, bits = prefix->len % 8;

        /* "::/0" is all of IPv6, and none of IPv4, which stands within it in this form. */
        if (prefix->len < MAPPED_LEN && address_is_mapped(addr))
                return false;
        if (memcmp(prefix->addr.s6_addr, addr->s6_addr, bytes) != 0)
                return false;
        return bits == 0 || ((prefix->addr.s6_addr[bytes] ^ addr->s6_addr[bytes]) & (0xff << (8 - bits)) & 0xff) == 0;
}

static void clear_behind(AddressPrefix *prefix) {
        for (size_t bit = prefix->len; bit < 128; bit++)
                prefix->addr.s6_addr[bit / 8] &= (uint8_t) ~(0x80 >> (bit % 8));
}

bool address_prefix_parse(const char *text, AddressPrefix *ret) {
        g_auto(GStrv) parts = g_strsplit(text, "/", 2);
        uint8_t bytes[16];
        guint64 len;

        if (!parts[0])
                return false;
        bool v4 = inet_pton(AF_INET, parts[0], bytes) == 1;
        if (!v4 && inet_pton(AF_INET6, parts[0], bytes) != 1)
                return false;
        if (v4)
                ret->addr = address_mapped(bytes);
        else
                memcpy(&ret->addr, bytes, sizeof ret->addr);
        ret->len = 128;
        if (!parts[1])
                return true;
        if (!g_ascii_isdigit(*parts[1]) || !g_ascii_string_to_unsigned(parts[1], 10, 0, v4 ? 32 : 128, &len, NULL))
                return false;
        ret->len = (uint8_t) (len + (v4 ? 96 : 0));
        clear_behind(ret);
        return true;
}

char *address_text(const struct in6_addr *addr) {
        char text[INET6_ADDRSTRLEN];
        bool v4 = address_is_mapped(addr);

        return g_strdup(inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr->s6_addr + 12 : addr->s6_addr, text, sizeof text));
}

/* By the interface's half, whatever the network: what the kernel goes by, too (ipv6_addr_is_isatap()). */
static bool is_isatap(const struct in6_addr *addr) {
        const uint8_t *half = addr->s6_addr + 8;
        return (half[0] & ~2) == 0 && half[1] == 0 && half[2] == 0x5e && half[3] == 0xfe;
}

static unsigned embedded(const struct in6_addr *addr, struct in6_addr ret[static ADDRESS_EMBEDDED_MAX], bool *ret_may_be) {
        unsigned n = 0;

        *ret_may_be = false;
        for (size_t i = 0; i < G_N_ELEMENTS(embedding) && n < ADDRESS_EMBEDDED_MAX; i++) {
                uint8_t ipv4[4];
                if (embedding[i].prefix.len == 0 ? !is_isatap(addr) : !address_prefix_has(&embedding[i].prefix, addr))
                        continue;
                for (size_t k = 0; k < 4; k++)
                        ipv4[k] = addr->s6_addr[embedding[i].at[k]] ^ embedding[i].flip;
                if (embedding[i].may_be && ipv4[0] == 0)
                        continue; /* the zeros of another form */
                *ret_may_be |= embedding[i].may_be;
                ret[n++] = address_mapped(ipv4);
        }
        return n;
}

unsigned address_embedded(const struct in6_addr *addr, struct in6_addr ret[static ADDRESS_EMBEDDED_MAX]) {
        bool may_be;
        return embedded(addr, ret, &may_be);
}

static unsigned classes_of(const ClassPrefix *list, size_t n, const struct in6_addr *addr) {
        unsigned classes = 0;

        for (size_t i = 0; i < n; i++)
                if (address_prefix_has(&list[i].prefix, addr))
                        classes |= list[i].classes;
        return classes;
}

unsigned address_classes(int family, const struct in6_addr *addr) {
        struct in6_addr inner[ADDRESS_EMBEDDED_MAX];
        bool may_be;

        if (family == AF_INET)
                return classes_of(classes_ipv4, G_N_ELEMENTS(classes_ipv4), addr);
        if (IN6_IS_ADDR_LOOPBACK(addr) || IN6_IS_ADDR_UNSPECIFIED(addr)) /* connect(2) to :: is to the loopback */
                return ADDRESS_HOST;
        unsigned classes = classes_of(classes_ipv6, G_N_ELEMENTS(classes_ipv6), addr);
        unsigned n = embedded(addr, inner, &may_be), of_ipv4 = 0;
        for (unsigned i = 0; i < n; i++)
                of_ipv4 |= classes_of(classes_ipv4, G_N_ELEMENTS(classes_ipv4), &inner[i]);
        /* What may be meant is reason enough to close, and none to call the address impossible. */
        return classes | (may_be ? of_ipv4 & ~(unsigned) ADDRESS_INVALID : of_ipv4);
}
