/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's entry: one input, any bytes. Returns 0; -1: it is not to be kept. What is wrong must crash (sanitizers, g_assert). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
