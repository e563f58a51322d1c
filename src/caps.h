/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/capability.h>
#include <stdbool.h>

#include "option.h"

typedef struct {
        guint64 add, drop; /* --cap-add/--cap-drop: bit masks of CAP_* */
        bool drop_all;     /* --cap-drop ALL: only what is added is kept */
        guint64 keep;      /* after caps_check(): what the payload may have, in the inner user namespace */
        bool nested;       /* --nested */
} CapsSpec;

extern const Option caps_options[];

/* What a payload that is uid 0 in the box keeps, in its inner namespace alone. */
#define CAPS_ROOT_DEFAULT                                                                                            \
        (1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER | 1ULL << CAP_FSETID | 1ULL << CAP_KILL | \
         1ULL << CAP_SETGID | 1ULL << CAP_SETUID | 1ULL << CAP_SETPCAP | 1ULL << CAP_SETFCAP | 1ULL << CAP_SYS_CHROOT)

/* Fills keep. After user_check(): whether the payload is root decides. */
bool caps_check(Spec *draft, GError **error);

/* "CAP_CHOWN" for 0; NULL for a number without a name. Static. */
const char *caps_name(unsigned cap);
