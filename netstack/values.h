/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/config.h"

/* A numeric address of either family, in brackets or not, as inet_ntop(3) writes it; NULL where it is none. The caller's. */
char *net_value_address(const char *text);

/* --publish: of NetPublish *, in order, the caller's; more than one for a range. NULL with error. And the text that is that port alone. */
GPtrArray *net_value_publish(const char *text, GError **error);
char *net_value_publish_text(const NetPublish *p);

/* --add-host: the caller's, its name fit for /etc/hosts; NULL with error. */
NetHost *net_value_host(const char *text, GError **error);

/* --net-rate, --net-delay, --net-loss: into *s. And whether that is a bad network at all. */
bool net_value_rate(const char *text, NetShape *s, GError **error);
bool net_value_delay(const char *text, NetShape *s, GError **error);
bool net_value_loss(const char *text, NetShape *s, GError **error);
bool net_shape_is_any(const NetShape *s);

/* All that passes has to be a frame that usbox-net sees: it shapes them, or captures them. */
bool net_shape_is_framed(const NetShape *s, bool captured);
