/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "supervise.h"

/* What the loop of supervise.c does with a message; false with error where the box has failed. */

/* Let the payload go where all is there that it waits for. */
bool supervise_maybe_go(Sandbox *s, GError **error);
/* To one of the box's processes (body may be floating, or NULL). One that has gone is no error: the loop finds out why. */
bool supervise_tell(int wire, WireType type, GVariant *body, GError **error);
/* One message, or the end of the wire. */
bool supervise_child_message(Sandbox *s, GError **error);
bool supervise_payload_message(Sandbox *s, GError **error);
bool supervise_scope_message(Sandbox *s, GError **error);
/* The box cannot have its limits: its end, unless --best-effort=limits says that it goes on without. */
bool supervise_scope_failed(Sandbox *s, GError *failure_take, GError **error);
/* All that is on the payload's wire by now. */
bool supervise_payload_wire(Sandbox *s, GError **error);
