/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "child.h"

typedef struct {
        const ChildContext *child;
        int gate; /* init's bytes: 'O' and 'M' the maps of the outer and of the inner user namespace are written, 'R' the root stands;
                   * to init: UNSHARED */
        int pty_slave; /* -1: none */
} PayloadContext;

/* The payload's process from its fork to its exec, which makes the box's network namespace and its own inner user namespace. Never returns. */
_Noreturn void payload_main(const PayloadContext *context);
