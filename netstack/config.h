/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "netstack/rules.h"

/*
 * What the launcher tells usbox-net, and the addresses that both sides know. The launcher packs, usbox-net parses; both
 * link this one file, so that they cannot disagree.
 */

/* The network between the box and usbox-net. The launcher gives the box its side of it without DHCP. Where usbox-net runs by itself, that of IPv4
 * may be another: subnet_ipv4() says which. */
#define NET_BOX_IPV4 "10.0.2.100"
#define NET_GATEWAY_IPV4 "10.0.2.2"
#define NET_DNS_IPV4 "10.0.2.3"
#define NET_SUBNET_IPV4 "10.0.2.0"
#define NET_PREFIX_IPV4 24
#define NET_BOX_IPV6 "fd00::100"
#define NET_GATEWAY_IPV6 "fd00::2"
#define NET_DNS_IPV6 "fd00::3"
#define NET_SUBNET_IPV6 "fd00::"
#define NET_PREFIX_IPV6 64

/* The TAP's name under usbox, and by itself where no other is given. */
#define NET_TAP_NAME "tap0"

/* The TAP's MTU, in bytes. Below 1280 IPv6 does not work (RFC 8200) and libslirp 4.7 builds DHCP answers into buffers that
 * are sized by the MTU; 65520 is the largest multiple of 16 whose frames libslirp takes. */
#define NET_MTU_MIN 1280
#define NET_MTU_MAX 65520
#define NET_MTU_DEFAULT 65520

/* Where there are frames to be shaped, they have the length that they have on most networks. */
#define NET_MTU_SHAPED 1500

/* Ports that one box may have published: all of them go into one message, see WIRE_MAX_SIZE. */
#define NET_PUBLISH_MAX 512u

/* And those that it may have then, with both halves of "*": to open more is refused. */
#define NET_PORTS_MAX 960u

/* Different denials that are remembered, and so told (WIRE_NET_DENIED) once each. So many fit into the wire's buffer, also if nobody reads it. */
#define NET_DENIALS_MAX 64u

/* The type of WIRE_NET_CONFIG's body and of the list of ports in it and in WIRE_NET_READY. */
#define NET_CONFIG_SIGNATURE "a{sv}"
#define NET_PUBLISH_SIGNATURE "a(ssqsq)"

/* One published port: what comes to host_addr:host_port goes to box_addr:box_port. */
typedef struct {
        bool udp;
        char *host_addr;   /* numeric; "*": every address of the host; "": every IPv4 address ("::" is every IPv6 address) */
        guint16 host_port; /* 0: any free one; WIRE_NET_READY says which */
        char *box_addr;    /* numeric, of host_addr's family, of UDP or IPv4 for "::"; "": the box's own of that family */
        guint16 box_port;
        bool beside;       /* of usbox-net alone: the IPv6 half of a "*" */
} NetPublish;

/* A name (lower case, without the final dot) that the user gave a numeric address. */
typedef struct {
        char *name;
        char *address;
} NetHost;

/* A bad network; all 0: none. */
typedef struct {
        guint64 up_bps, down_bps;              /* bits per second; 0: any */
        guint32 delay_us, jitter_us, loss_ppm; /* each way; the jitter is not more than the delay */
} NetShape;

NetHost *net_host_new(const char *name, const char *address);
void net_host_free(NetHost *host);

typedef struct {
        guint16 mtu;              /* "mtu" q */
        char *tap;                /* "tap" s: its name in the box's network namespace */
        bool ipv6;                /* "ipv6" b */
                                  /* "cidr" s: is subnet_ipv4_set()'s, and that process's from then on */
        bool verbose;             /* "verbose" b */
        bool tls_names;           /* "tls_names" b: TLS flows that a rule by name allows must say an allowed name; needs the fast path */
        bool fast_path;           /* "fast_path" b: TCP by sockets on both sides, where the kernel has what that needs */
        bool best_effort_confine; /* "best_effort_confine" b: go on where own namespaces are not to be had */
        GPtrArray *publish;       /* "publish" a(ssqsq), of NetPublish * */
        bool fixed_ports;         /* "fixed_ports" b: none will come or go while it runs */
        NetRules *rules;          /* "expose" aq, ports, which come first; "rules" a(bs), allow and text */
        GPtrArray *hosts;         /* "hosts" a(ss), of NetHost *: names that the user gave an address */
        GPtrArray *resolvers;     /* "resolvers" as, of char *: addresses, with a scope "%N" where they need one; the host's name servers */
        int log_fd, pcap_fd;      /* "log_fd", "pcap_fd" i: descriptors for JSON lines and for a capture; -1: none */
        NetShape shape;           /* "shape" (ttuuu) */
} NetConfig;

/* Whether an interface may have that name. */
bool net_is_interface_name(const char *text);

/* A config with the defaults: MTU 65520, IPv6 and the fast path on, the rest off, -1 and empty. */
NetConfig *net_config_new(void);
void net_config_free(NetConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetConfig, net_config_free)

/* May a frame of the TAP be longer than the MTU? Not where somebody looks at each: a shaped network, a capture. */
bool net_config_offloads(const NetConfig *config);

/* A published port; the strings are copied, NULL is "". */
NetPublish *net_publish_new(bool udp, const char *host_addr, guint16 host_port, const char *box_addr, guint16 box_port);
void net_publish_free(NetPublish *publish);

/* "tcp 0.0.0.0:8080" as errors name it; the caller's. */
char *net_publish_text(const NetPublish *publish);

/* Both sides of a published port as socket addresses, defaults filled in (for what net_publish_parse() has taken); they
 * return the length. And the port in such an address, in host order. */
socklen_t net_publish_host(const NetPublish *publish, struct sockaddr_storage *ret);
socklen_t net_publish_box(const NetPublish *publish, struct sockaddr_storage *ret);
guint16 net_sockaddr_port(const struct sockaddr_storage *addr);

/* The error for a port that could not be opened, with what mends it. Returns false. */
bool net_publish_failed(const NetPublish *publish, int errnum, GError **error);

/* The config as the body of WIRE_NET_CONFIG; floating. */
GVariant *net_config_pack(const NetConfig *config);

/* The other way. Every key is optional and has net_config_new()'s default; a key that is not known, comes twice, or has
 * another type or an impossible value is an error. NULL with error; else the caller's. */
NetConfig *net_config_parse(GVariant *dict, GError **error);

/* Ports as NET_PUBLISH_SIGNATURE (floating), and back: an array of NetPublish * that frees them, the caller's, or NULL
 * with error. WIRE_NET_READY's body is a tuple of one such array. */
GVariant *net_publish_pack(const GPtrArray *publish);
GPtrArray *net_publish_parse(GVariant *array, GError **error);

/* A numeric address, of IPv6 with a scope "%N" or without, and a port (host order). False: it is none. */
bool net_address_parse(const char *text, guint16 port, struct sockaddr_storage *ret, socklen_t *ret_len);

/* A name server's address, port 53, from its text. False: it is none. */
bool net_resolver_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);

/* Name servers as "as" (floating), and back, as ports above. */
GVariant *net_resolvers_pack(const GPtrArray *resolvers);
GPtrArray *net_resolvers_parse(GVariant *array, GError **error);

/* Names with addresses as "a(ss)" (floating), and back: appended to hosts. */
GVariant *net_hosts_pack(const GPtrArray *hosts);
bool net_config_parse_hosts(GPtrArray *hosts, GVariant *array, GError **error);

/* Of config.c alone: the keys about rules and names. */
void net_config_pack_policy(const NetConfig *config, GVariantBuilder *builder);
bool net_config_parse_expose(NetConfig *config, GVariant *array, GError **error);
bool net_config_parse_rules(NetConfig *config, GVariant *array, GError **error);
