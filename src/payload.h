/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "child.h"

typedef struct {
        const ChildContext *child;
        int gate;      /* init's bytes: 'M' the maps are written, 'R' the root stands */
        int pty_slave; /* -1: none */
} PayloadContext;

/* The payload's process from its fork to its exec, in the inner user namespace. Never returns. */
_Noreturn void payload_main(const PayloadContext *context);
