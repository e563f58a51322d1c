/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What the stub finds open beside its stdio, and says over it: WIRE_NOT_EXECUTED as wire.h has it, a type and an (i). */
#define STUB_WIRE 3
#define STUB_WIRE_TYPE 1

typedef struct {
        uint32_t type;
        int32_t errnum;
} StubFailure;
