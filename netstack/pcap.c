/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --pcap: the frames between the box and usbox-net, as tcpdump and Wireshark read them.
 *
 * Role: usbox-net. Privileges: none; the file's descriptor is the launcher's. Threads: one. Order: at the TAP, where the box sees them.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/pcap.h"

/* Longer than any frame; tcpdump's own. */
#define SNAPLEN 262144

/* In the machine's byte order: a reader knows it by the magic. */
typedef struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snaplen, linktype;
} FileHeader;

typedef struct {
        uint32_t seconds, microseconds, captured, original;
} FrameHeader;

static void failed(Pcap *pcap, int errnum) {
        if (!pcap->failed)
                log_note("--pcap: frames are missing: %s", err_text(errnum));
        pcap->failed = true;
}

void pcap_begin(Pcap *pcap) {
        const FileHeader header = { .magic = 0xa1b2c3d4, .major = 2, .minor = 4, .snaplen = SNAPLEN, .linktype = 1 };

        if (pcap->fd >= 0 && !fd_write_all(pcap->fd, &header, sizeof header))
                failed(pcap, errno);
}

void pcap_frame(Pcap *pcap, const void *frame, size_t len) {
        if (pcap->fd < 0 || pcap->failed)
                return;
        gint64 now = g_get_real_time();
        FrameHeader header = { .seconds = (uint32_t) (now / G_USEC_PER_SEC), .microseconds = (uint32_t) (now % G_USEC_PER_SEC), .captured = (uint32_t) len,
                               .original = (uint32_t) len };
        struct iovec iov[] = { { .iov_base = &header, .iov_len = sizeof header }, { .iov_base = (void *) frame, .iov_len = len } };
        ssize_t n = writev(pcap->fd, iov, 2);
        /* Half a frame would spoil all that follow: so this was the last. */
        if (n != (ssize_t) (sizeof header + len))
                failed(pcap, n < 0 ? errno : ENOSPC);
}
