/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "control.h"
#include "supervise.h"

/* CTL_CGROUP: have a cgroup made for a box that was started without limits, and all of it moved there. CTL_OK when that is done. */
bool scope_late_ask(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);

/* Meanwhile something came from usbox-scope, or its end. False with error where the box cannot go on. */
bool scope_late_message(Sandbox *s, GError **error);
