/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "netstack/config.h"

/* usbox-net as a helper: serve the box that NET_CONFIG and NET_TAP on the wire speak of, until the launcher, whose pid that is, closes it.
 * config: what NET_CONFIG would say, where that does not come. */
_Noreturn void helper_main(int wire, pid_t launcher, NetConfig *config, bool verbose);
