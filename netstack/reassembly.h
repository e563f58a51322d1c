/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UDP datagrams and pings of the box's that came in fragments. */
typedef struct Reassembly Reassembly;

Reassembly *reassembly_new(void);
void reassembly_free(Reassembly *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reassembly, reassembly_free)

/* Is this frame a fragment of an IP packet, well-formed or not? Pure. */
bool reassembly_is_fragment(const uint8_t *frame, size_t len);

/*
 * Take a fragment. The frame that it completes, without a trace of fragments, of *ret_len bytes; borrowed until the next call. NULL: none yet, or it
 * was none that is taken (another protocol than UDP and ICMP, overlapping, too long).
 */
uint8_t *reassembly_take(Reassembly *r, const uint8_t *frame, size_t len, int64_t now_ms, size_t *ret_len);
