/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "control.h"

/* A pod from its own launcher's side: which boxes are in it, and its end. */

/* Id maps on the wire: lines of box id, host id, count. */
#define POD_MAP_TYPE G_VARIANT_TYPE("a(uuu)")
GVariant *pod_map_pack(const GArray *map);
GArray *pod_map_unpack(GVariant *map); /* of IdRange; the caller's */

/* A row of control_verbs: a box's launcher asks to be taken in. */
bool pod_host_join(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);

/* Have all boxes end, and then the pod: within grace (microseconds) kindly. */
void pod_host_stop(Sandbox *s, gint64 grace);

/* Something happened at the control socket: a box may have been the last one. */
void pod_host_look(Sandbox *s);
