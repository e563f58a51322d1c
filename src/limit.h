/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/* Limits by cgroup. */
typedef struct {
        GPtrArray *settings;   /* of ScopeSetting * (scope/config.h): files of cgroup v2 and their values */
        GPtrArray *properties; /* of ScopeSetting *: --property */
        bool swap_given;       /* --memory-swap: as typed in memory_swap, since it is a sum */
        guint64 memory_swap;   /* bytes of memory and swap together; G_MAXUINT64: no limit */
} LimitsSpec;

extern const Option limits_options[];

/* The defaults; and free what it owns. */
void limits_init(LimitsSpec *s);
void limits_clear(LimitsSpec *s);

/* What depends on more than one of them: swap is what --memory-swap leaves beside --memory. */
bool limits_check(Spec *draft, GError **error);

/* Whether the box gets a cgroup of its own. */
bool limits_wanted(const LimitsSpec *s);

/* Bytes as a person says them: "512 MiB", "511.8 MiB"; the caller's. */
char *limits_size_text(guint64 bytes);
