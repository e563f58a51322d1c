/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Give back memory that only the start needed. Harmless at any time, and slow for a moment afterwards. */
void unmap_start(void);
