/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

typedef enum { NET_USER, NET_NONE, NET_HOST } NetMode;

/* -p [IP:]HOST:BOX[/tcp|udp] */
typedef struct {
        char *host_ip;      /* NULL: 0.0.0.0 is not the default: see CLI; NULL means every address */
        guint16 host_port;
        guint16 box_port;
        bool udp;
        char *text;         /* as typed, for errors */
} PublishSpec;

typedef struct {
        NetMode mode;
        guint16 mtu;           /* default 65520 */
        bool ipv6;             /* default true */
        GPtrArray *dns;        /* of char *: addresses for resolv.conf; empty: usbox's own */
        GPtrArray *hosts;      /* of char *: "NAME IP" checked */
        GPtrArray *publish;    /* of PublishSpec * */
} NetSpec;

extern const Option net_options[];
