/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/socket.h>

#include "base/fd.h"

/* An input (1 byte and more) as one packet: its first byte says how many descriptors, copies of carried, the rest is what is in it. As sendmsg(2). */
static inline ssize_t fuzz_send(int to, int carried, const uint8_t *data, size_t size) {
        unsigned n = data[0] % 6;
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(6 * sizeof(int))];
        } control = { 0 };
        const int fds[] = { carried, carried, carried, carried, carried };
        struct iovec iov = { .iov_base = (void *) (data + 1), .iov_len = size - 1 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n > 0)
                fd_attach(&msg, &control, fds, n);
        return sendmsg(to, &msg, MSG_NOSIGNAL);
}
