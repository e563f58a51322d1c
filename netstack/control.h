/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/loop.h"

/* Keep a descriptor back for what the launcher sends. Before the first message. */
void control_begin(Net *net);

/* One message of the launcher's while packets move. 1: go on, 0: the launcher has gone, -1: error. */
int control_receive(Net *net, GError **error);

/* The agent has ended, and the launcher has to know which ports are left. Fits publish_on_lost(), data is a Net *. */
void control_agent_lost(void *data);

/* Tell the launcher of something that was denied. Fits AccountTell, net is a Net *. */
void control_tell_denied(const char *what, const char *option, void *net);
