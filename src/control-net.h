/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "control.h"

/* Rows of control_verbs. */
bool control_net_rule(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);
bool control_net_publish(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);
bool control_net_flows(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);
