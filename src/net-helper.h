/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "helper.h"
#include "spec.h"

/* usbox-net of one box, from the launcher's side. */
typedef struct {
        Helper helper;
        GPtrArray *ports; /* of NetPublish *: as they came out; NULL until READY */
} NetHelper;

/* Start usbox-net and send it its configuration: it prepares itself while the box is cloned. */
bool net_helper_start(const Spec *spec, NetHelper *ret, GError **error);

/* Give it the TAP and the box's network namespace (both borrowed: it gets descriptors of its own). */
bool net_helper_give_tap(NetHelper *h, int tap, int netns, GError **error);

/* Something came on its wire (or its end): READY, or its error. */
bool net_helper_dispatch(NetHelper *h, GError **error);

/* Kill and reap. It has nothing to save. */
void net_helper_clear(NetHelper *h);

/* The box's /etc/resolv.conf for --network=user and for --dns; NULL: the host's is right as it is. The caller's. */
char *net_resolv_conf(const Spec *spec);

/* The box's /etc/hosts: the host's lines, the box's own name, --add-host. The caller's. */
char *net_etc_hosts(const Spec *spec);
