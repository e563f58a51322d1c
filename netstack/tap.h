/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "netstack/packet.h"

/* Frames to and from a TAP that has a virtio_net_hdr before each of them (IFF_VNET_HDR, boxside.c). */

/* What a frame is to be like is left to us. */
typedef struct {
        bool unsummed;    /* the checksum is not whole. Only UDP may say so: of another protocol such a frame makes no sense */
        uint16_t segment; /* it is datagrams of so many bytes of data each, but for the last: as Packet.segment. Then it is unsummed, too */
} TapLeft;

/* Bytes before a frame in the buffer that it is read into. With an Ethernet header they are 24, so the IP header is as much aligned as the buffer. */
#define TAP_ROOM 10u

/* Read one frame to buf + TAP_ROOM; its checksum is whole, but for what *ret_left says. size: buf's. Returns the frame's length, 0 for one that makes no
 * sense; -1 with errno. */
ssize_t tap_read(int tap, uint8_t *buf, size_t size, TapLeft *ret_left);

/* Make the checksum of a UDP frame that is unsummed. */
void tap_sum_udp(uint8_t *frame, const Packet *packet);

/* Write one. TCP that is longer than mtu goes as what it would be in segments of that size, of which the box's kernel makes none. -1 with errno. */
ssize_t tap_write(int tap, const uint8_t *frame, size_t len, size_t mtu);

/* Datagrams that may be one frame: what every kernel takes that takes any. */
#define TAP_DATAGRAMS_MAX 64

/* Write datagrams of one flow as one frame, that of one datagram with the data of all, by packet_write_udp_unsummed(). segment: bytes of data of each
 * but the last. The TAP_ROOM bytes before the frame are overwritten. -1 with errno: EINVAL for more than one where the kernel (before Linux 6.2) takes no
 * such frame. */
ssize_t tap_write_udp(int tap, uint8_t *frame, size_t len, uint16_t segment);

/* A frame that waits for the next of its connection, since both may go as one. All zero: there is none. */
typedef struct {
        uint8_t *frame;
        size_t len;
        Packet packet; /* the frame's */
} TapHeld;

/* Of offload networks: keep a copy of this one, if it is worth waiting for the next, and none is kept. */
bool tap_hold(TapHeld *held, const Packet *packet);

/* Does this one go on where that which is kept ends, and may both be one? */
bool tap_joins(const TapHeld *held, const Packet *packet);

/* Write both as one, or that which is kept alone; none is kept then. -1 with errno. */
ssize_t tap_write_joined(int tap, TapHeld *held, const Packet *next, size_t mtu);
ssize_t tap_write_held(int tap, TapHeld *held, size_t mtu);

/* A SYN of the box's, on its way to libslirp: let that make segments as large as an IP packet, in spite of the MTU. */
void tap_raise_mss(uint8_t *frame, const Packet *packet);
