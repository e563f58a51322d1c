/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/config.h"
#include "option.h"

typedef enum {
        NET_USER,
        NET_NONE,
        NET_HOST,
        NET_POD, /* the pod's, see pod.h */
} NetMode;

typedef struct {
        NetMode mode;
        guint16 mtu;           /* default 65520 */
        bool mtu_given;
        bool ipv6;             /* default true */
        bool fast_path;        /* default true */
        GPtrArray *dns;        /* of char *: addresses for resolv.conf; empty: usbox's own */
        GPtrArray *hosts;      /* of NetHost * */
        GPtrArray *publish;    /* of NetPublish * */
        NetRules *rules;       /* --allow, --deny, in the order in which they are asked */
        guint rules_place;     /* while options apply: where the next rule goes; 0 at the start of each source (profile, command line) */
        GArray *expose;        /* of guint16: ports of the host's loopback */
        char *log_file;        /* --net-log, absolute; NULL: none */
        bool tls_names;        /* --tls-names */
        NetShape shape;        /* --net-rate, --net-delay, --net-loss */
        char *pcap_file;       /* --pcap, absolute; NULL: none */
} NetSpec;

extern const Option net_options[], netpolicy_options[], netshape_options[];

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

/* A network namespace of its own, to be made with the box. */
bool net_is_own(const NetSpec *s);

/* As --network has it. Static. */
const char *net_mode_name(NetMode mode);

/* What does not go together: -p without a stack of our own, the MTU and IPv6, a port published twice. */
bool net_check(Spec *draft, GError **error);
