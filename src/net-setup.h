/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/*
 * Payload: set up the network namespace that it has just made: lo up and, with --network=user, a TAP with its addresses and routes.
 * *ret_tap is the TAP's fd for usbox-net, or -1. proc_sys: /proc/sys of the box. Not for --network=host.
 */
bool net_setup_payload(const Spec *spec, int proc_sys, int *ret_tap, GError **error);
