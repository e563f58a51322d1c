/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/*
 * Child: set up the box's own network namespace: lo up and, with --network=user, a TAP with its addresses and routes.
 * *ret_tap is the TAP's fd for usbox-net, or -1. Does nothing with --network=host.
 */
bool net_setup_child(const Spec *spec, int *ret_tap, GError **error);
