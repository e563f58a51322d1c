/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

typedef struct {
        guint64 add, drop; /* --cap-add/--cap-drop: bit masks of CAP_* */
        guint64 keep;      /* after caps_check(): what the payload may have, in the inner user namespace */
        bool nested;       /* --nested */
} CapsSpec;

extern const Option caps_options[];
