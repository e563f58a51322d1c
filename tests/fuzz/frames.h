/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <string.h>

#include "netstack/loop.h"

/* What the parts of fuzz-frames share. */

#define HEADER (sizeof(struct virtio_net_hdr)) /* stands before each frame */
#define FRAME_MAX (PACKET_ETH_LEN + 65535)
#define GSO_UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4 of headers from Linux 6.2 on */

/* The ports of the box's programs. */
#define PORT_BASE 40000
#define PORTS 8 /* in a row */

typedef struct {
        const uint8_t *data;
        size_t size;
} Input;

static inline uint8_t take8(Input *in) {
        if (in->size == 0)
                return 0;
        in->size--;
        return *in->data++;
}

static inline unsigned take16(Input *in) {
        unsigned high = take8(in);
        return high << 8 | take8(in);
}

/* At most len bytes. */
static inline size_t take(Input *in, const uint8_t **ret, size_t len) {
        size_t n = MIN(len, in->size);

        *ret = in->data;
        in->data += n;
        in->size -= n;
        return n;
}

static inline size_t take_into(Input *in, uint8_t *to, size_t len) {
        const uint8_t *bytes;
        size_t n = take(in, &bytes, len);

        memcpy(to, bytes, n);
        return n;
}

/* The payload: bytes of the input, or where it says so a pattern, which is longer than what stands for it. */
static inline size_t take_payload(Input *in, uint8_t *to, bool pattern, size_t len) {
        if (!pattern)
                return take_into(in, to, len);
        for (size_t i = 0; i < len; i++)
                to[i] = (uint8_t) i;
        return len;
}

/* --- fuzz-frames.c: the network */

extern bool frames_fast;     /* it has the fast path */
extern uint8_t *frames_buf;  /* HEADER + FRAME_MAX + 1 bytes for who needs them */
void frames_turn(void);      /* one of the loop */

/* --- frames-machine.c: what the stack sees of the machine */

extern bool machine_in_stack;  /* calls are the stack's, and looked at */
extern int64_t machine_clock;  /* ns */
void machine_begin(void);

/* --- frames-box.c: what the box sends; each a step of the input */

/* A new network, whose TAP's other end that is (borrowed). */
void box_begin(int tap);

/* A frame has come to it. */
void box_received(const uint8_t *frame, size_t len);

/* Whom frames that are made up go to. */
const char *box_destination(unsigned who);

void box_frame(Input *in);
void box_tcp(Input *in);
void box_udp(Input *in);
void box_flood(Input *in);

/* --- frames-peers.c: programs on either side; likewise */

/* A new network, and its end: connections are reset. */
void peers_begin(void);
void peers_reset(void);

/* Take those who wait for the servers. */
void peers_accept(void);

void peers_act(Input *in);
void peers_answer(Input *in);
void peers_name(Input *in);
void peers_program(Input *in);
void peers_client(Input *in);
