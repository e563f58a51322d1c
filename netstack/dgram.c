/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sockets behind the box's UDP and its echo requests.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: below udp.c and ping.c.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netstack/address.h"
#include "netstack/dgram.h"
#include "netstack/errqueue.h"

int dgram_open(int family, int protocol, const struct in6_addr *to, uint16_t port, DgramEvict evict, void *data) {
        struct sockaddr_storage addr;
        socklen_t len = address_to_socket(family, to, port, &addr);
        int fd;

        while ((fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol)) < 0)
                if ((errno != EMFILE && errno != ENFILE) || !evict(data))
                        return -1;
        if (errqueue_want(fd, family) && connect(fd, (struct sockaddr *) &addr, len) == 0)
                return fd;
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
}

bool dgram_is_at_home(int fd, const Policy *policy) {
        struct sockaddr_storage local = { 0 };
        socklen_t len = sizeof local;
        struct in6_addr addr;

        return getsockname(fd, (struct sockaddr *) &local, &len) < 0 || !address_of_socket((struct sockaddr *) &local, &addr, NULL) ||
               policy_is_host(policy, &addr);
}

bool dgram_renew(int fd, int family, const struct in6_addr *to, uint16_t port) {
        static const struct sockaddr none = { .sa_family = AF_UNSPEC };
        struct sockaddr_storage addr;
        socklen_t len = address_to_socket(family, to, port, &addr);

        return connect(fd, &none, sizeof none) == 0 && connect(fd, (struct sockaddr *) &addr, len) == 0;
}

void dgram_set_hops(int fd, int family, uint8_t hops) {
        const int value = hops;

        if (family == AF_INET)
                (void) setsockopt(fd, IPPROTO_IP, IP_TTL, &value, sizeof value);
        else
                (void) setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &value, sizeof value);
}

void dgram_tell_errno(const Packet *packet, int errnum, StackSend send, void *data) {
        uint8_t reply[REPLY_MAX];

        size_t n = reply_unsent(errnum, packet, reply);
        if (n > 0)
                send(reply, n, data);
}

/* The box's kernel takes no packet from a loopback address, as of who stands behind host.usbox, nor from one of the box's own: to it those are the gateway. */
static bool is_visible(int family, const struct in6_addr *from) {
        return !(address_classes(family, from) & ADDRESS_HOST) && !policy_is_subnet(family, from);
}

void dgram_tell_icmp(const uint8_t *frame, size_t len, const ReplyIcmp *error, StackSend send, void *data) {
        uint8_t reply[REPLY_MAX];
        ReplyIcmp told = *error;
        Packet packet;

        if (!packet_parse(frame, len, &packet))
                return;
        if (told.from && !is_visible(packet.family, told.from))
                told.from = NULL;
        size_t n = reply_icmp(&told, &packet, reply);
        if (n > 0)
                send(reply, n, data);
}
