/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/*
 * Payload: set up the network namespace that it has just made: lo up and, with --network=user, a TAP with its addresses and routes,
 * and what the fast path needs, all of which NET_FDS takes to the launcher over wire. netns: that namespace. proc_sys: /proc/sys of the box. Not for
 * --network=host.
 */
bool net_setup_payload(const Spec *spec, int proc_sys, int netns, int wire, GError **error);
