/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

typedef struct NetRules NetRules; /* netstack/rules.h */

typedef enum { NET_USER, NET_NONE, NET_HOST } NetMode;

/* -p [IP:]HOST:BOX[/tcp|udp], or one port of a range that it was given */
typedef struct {
        char *host_ip;      /* numeric, as inet_ntop(3) writes it; NULL: every address of the host */
        guint16 host_port;  /* 0: a free one, the kernel's choice */
        guint16 box_port;
        bool udp;
        char *text;         /* as typed, of a range as it could have been; for errors */
} PublishSpec;

typedef struct {
        NetMode mode;
        guint16 mtu;           /* default 65520 */
        bool mtu_given;
        bool ipv6;             /* default true */
        bool fast_path;        /* default true */
        GPtrArray *dns;        /* of char *: addresses for resolv.conf; empty: usbox's own */
        GPtrArray *hosts;      /* of char *: "NAME IP", checked */
        GPtrArray *publish;    /* of PublishSpec * */
        NetRules *rules;       /* --allow, --deny, in the order in which they are asked */
        guint rules_place;     /* while options apply: where the next rule goes; 0 at the start of each source (profile, command line) */
        GArray *expose;        /* of guint16: ports of the host's loopback */
        char *log_file;        /* --net-log, absolute; NULL: none */
        bool tls_names;        /* --tls-names */
        guint64 rate_up, rate_down;            /* --net-rate, in bits per second; 0: any */
        guint32 delay_us, jitter_us, loss_ppm; /* --net-delay, --net-loss */
        char *pcap_file;       /* --pcap, absolute; NULL: none */
} NetSpec;

extern const Option net_options[], netpolicy_options[], netshape_options[];

/* Ports that a box may have published: all of them go into one message of usbox-net's, see WIRE_MAX_SIZE. */
#define PUBLISH_MAX 512u

/* What -p takes: of PublishSpec *, in order, the caller's; more than one for a range. NULL with error. */
GPtrArray *publish_parse(const char *text, GError **error);
void publish_free(PublishSpec *publish);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PublishSpec, publish_free)

/* The defaults; and free what it owns. */
void net_init(NetSpec *s);
void net_clear(NetSpec *s);

/* Of those and of net_check(): the part about rules. */
void netpolicy_init(NetSpec *s);
void netpolicy_clear(NetSpec *s);
bool netpolicy_check(const NetSpec *s, GError **error);

/* The part about bad networks and captures, which take the fast path away. */
void netshape_clear(NetSpec *s);
bool netshape_check(NetSpec *s, GError **error);

/* What does not go together: -p without a stack of our own, the MTU and IPv6, a port published twice. */
bool net_check(Spec *draft, GError **error);
