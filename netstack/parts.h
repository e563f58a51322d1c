/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/loop.h"

/* Make all of net by its config, but the TAP, the agent and the fast path. False with error, and what was made until then is parts_free()'s. */
bool parts_make(Net *net, GError **error);

/* End the flows that are left, so that the log has their ends, too. Nothing but parts_free() may follow. */
void parts_end_flows(Net *net);

/* All that parts_make() and loop_start() made, and the fast path. Descriptors that net was given, and its config, stay the caller's. */
void parts_free(Net *net);
