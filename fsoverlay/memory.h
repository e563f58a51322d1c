/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A reserve for when there is no more memory (memory.c). All may be called by any thread. */
void memory_init(void);
/* The reserve is gone and cannot be had again: nothing is to be begun that takes memory. */
bool memory_short(void);
/* So much could be had now, beside the reserve: for what takes more than that has. */
bool memory_for(size_t size);
