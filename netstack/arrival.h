/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "netstack/address.h"

/* Where a datagram came from, and to which of the host's addresses: IPv4 as ::ffff:a.b.c.d; ::, where it was to several machines. */
typedef struct {
        struct sockaddr_storage from;
        socklen_t from_len;
        struct in6_addr to;
} Arrival;

/* Have the kernel say it for each datagram of a socket of that family. False with errno. */
bool arrival_want(int fd, int family);

/* As recv(2). */
ssize_t arrival_receive(int fd, void *data, size_t len, Arrival *ret);

/* As send(2), the way back: to where it came from, from the address that it was to. */
ssize_t arrival_answer(int fd, const void *data, size_t len, const Arrival *arrival);
