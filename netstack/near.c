/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections to a peer on this machine or beside it.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: once for each connection of the box's, when the host's side of it stands.
 *
 * By itself the kernel lets up to 6 MB of each stream wait for its reader. With a near peer that makes nothing faster, but with some streams it is more
 * than the processors' caches hold, and each copy of it slower.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "netstack/near.h"

/* µs within which it has answered our SYN. What is under way for so long is less than NEAR_RCVBUF up to 17 Gb/s. The kernel doubles that;
 * net.core.rmem_max is that much everywhere. */
#define NEAR_RTT 100
#define NEAR_RCVBUF 212992

void near_bound(int fd) {
        const int size = NEAR_RCVBUF, window = 2 * NEAR_RCVBUF;
        struct tcp_info info;
        socklen_t len = sizeof info;

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || info.tcpi_rtt == 0 || info.tcpi_rtt > NEAR_RTT)
                return;
        /* The window is told the new size, too: it would stay what it was before the first byte. */
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0)
                (void) setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
}
