/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/filter.h>

#include "policy.h"

/* Policy → classic BPF for seccomp(2): a GArray of struct sock_filter, the caller's. With strict a name that no ABI
 * knows is an error, else a note (OCI runtimes pass it over). NULL with error. */
GArray *codegen(const Policy *policy, bool strict, GPtrArray *notes, GError **error);
