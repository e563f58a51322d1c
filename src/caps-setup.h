/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/* Payload: of the inner user namespace's capabilities keep just these, in every set (ambient too, so that a payload that is not root, uid
 * 0, has them after its exec). False with error. */
bool caps_setup_child(guint64 keep, bool root, GError **error);
