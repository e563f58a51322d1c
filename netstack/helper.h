/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* usbox-net as a helper: serve the box that NET_CONFIG and NET_TAP on the wire speak of, until the launcher, whose pid that is, closes it. */
_Noreturn void helper_main(int wire, pid_t launcher, bool verbose);
