/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "netstack/packet.h"

/* Frames to and from a TAP that has a virtio_net_hdr before each of them (IFF_VNET_HDR, boxside.c). */

/* Read one frame; its checksum is whole. Returns its length, 0 for one that makes no sense; -1 with errno. */
ssize_t tap_read(int tap, uint8_t *frame, size_t size);

/* Write one. TCP that is longer than mtu goes as what it would be in segments of that size, of which the box's kernel makes none. -1 with errno. */
ssize_t tap_write(int tap, const uint8_t *frame, size_t len, size_t mtu);

/* A SYN of the box's, on its way to libslirp: let that make segments as large as an IP packet, in spite of the MTU. */
void tap_raise_mss(uint8_t *frame, const Packet *packet);
