/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A capture of the box's frames, in pcap's format. */
typedef struct {
        int fd;      /* -1: none. Not the capture's own */
        bool failed;
} Pcap;

/* Begin it, if there is one: the file's header. */
void pcap_begin(Pcap *pcap);

/* A frame that went, either way. */
void pcap_frame(Pcap *pcap, const void *frame, size_t len);
