/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libslirp: its configuration, its callbacks, its sockets' place in the poll set.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: made before the confinement (it reads /dev/urandom, and published
 * ports may need rights that the confinement drops), used by the loop after it.
 *
 * DNS: libslirp sends what comes to 10.0.2.3:53 and [fd00::3]:53 to the first nameserver of that family in
 * /etc/resolv.conf, which it looks up again when a second has passed; of this file the confinement keeps a copy.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <libslirp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/stack.h"

#define NS_PER_MS 1000000

/* How long listeners are left alone when there is no descriptor for a connection, in ms. */
#define LISTEN_PAUSE 200

/* libslirp has one, for router advertisements. */
typedef struct {
        SlirpTimerId id;
        void *data;
        int64_t expires; /* ms of the monotonic clock, -1: not set */
} StackTimer;

struct Stack {
        Slirp *slirp;
        StackSend send;
        void *send_data;
        StackTimer timers[SLIRP_TIMER_NUM];
        GArray *listeners; /* of int: borrowed from libslirp, which keeps them open as long as it lives */
        int64_t listen_after; /* ms of the monotonic clock: until then there were no descriptors for a connection */
        GArray *fds;       /* during stack_prepare() and stack_dispatch() */
};

static int64_t now_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t) now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

static int64_t now_ms(void) {
        return now_ns() / NS_PER_MS;
}

/* libslirp logs an error for a negative result, and the box could make it do so at will. */
static ssize_t on_send_packet(const void *buf, size_t len, void *opaque) {
        Stack *stack = opaque;
        stack->send(buf, len, stack->send_data);
        return (ssize_t) len;
}

/* The box's mistakes are its own; what it does wrong is not worth a line on the user's terminal. */
static void on_guest_error(const char *msg, void *opaque) {
}

static int64_t on_clock_get_ns(void *opaque) {
        return now_ns();
}

static void *on_timer_new_opaque(SlirpTimerId id, void *data, void *opaque) {
        Stack *stack = opaque;
        g_assert(id >= 0 && id < SLIRP_TIMER_NUM);
        stack->timers[id] = (StackTimer){ .id = id, .data = data, .expires = -1 };
        return &stack->timers[id];
}

static void on_timer_free(void *timer, void *opaque) {
        ((StackTimer *) timer)->expires = -1;
}

static void on_timer_mod(void *timer, int64_t expires, void *opaque) {
        ((StackTimer *) timer)->expires = expires;
}

/* The poll set is built anew for each turn of the loop: nothing to register, and no other thread to wake. */
static void on_poll_fd(int fd, void *opaque) {
}

static void on_notify(void *opaque) {
}

static const SlirpCb slirp_callbacks = {
        .send_packet = on_send_packet,
        .guest_error = on_guest_error,
        .clock_get_ns = on_clock_get_ns,
        .timer_new_opaque = on_timer_new_opaque,
        .timer_free = on_timer_free,
        .timer_mod = on_timer_mod,
        .register_poll_fd = on_poll_fd,
        .unregister_poll_fd = on_poll_fd,
        .notify = on_notify,
};

Stack *stack_new(const NetConfig *config, StackSend send, void *data, GError **error) {
        g_autoptr(Stack) stack = g_new0(Stack, 1);
        SlirpConfig slirp_config = {
                .version = 4,
                .in_enabled = true,
                .in6_enabled = config->ipv6,
                .vprefix_len = NET_PREFIX_IPV6,
                .if_mtu = config->mtu,
                .if_mru = config->mtu,
                .disable_host_loopback = true,
        };

        inet_pton(AF_INET, NET_SUBNET_IPV4, &slirp_config.vnetwork);
        slirp_config.vnetmask.s_addr = htonl(~0U << (32 - NET_PREFIX_IPV4));
        inet_pton(AF_INET, NET_GATEWAY_IPV4, &slirp_config.vhost);
        inet_pton(AF_INET, NET_DNS_IPV4, &slirp_config.vnameserver);
        inet_pton(AF_INET, NET_BOX_IPV4, &slirp_config.vdhcp_start);
        inet_pton(AF_INET6, NET_SUBNET_IPV6, &slirp_config.vprefix_addr6);
        inet_pton(AF_INET6, NET_GATEWAY_IPV6, &slirp_config.vhost6);
        inet_pton(AF_INET6, NET_DNS_IPV6, &slirp_config.vnameserver6);

        /* Without IPv6 libslirp never asks for its timer. */
        for (size_t i = 0; i < G_N_ELEMENTS(stack->timers); i++)
                stack->timers[i].expires = -1;
        stack->send = send;
        stack->send_data = data;
        stack->listeners = g_array_new(false, false, sizeof(int));
        stack->slirp = slirp_new(&slirp_config, &slirp_callbacks, stack);
        if (!stack->slirp) {
                err_set(error, 0, "libslirp %s does not take its configuration", slirp_version_string());
                return NULL;
        }
        return g_steal_pointer(&stack);
}

void stack_free(Stack *stack) {
        if (!stack)
                return;
        g_clear_pointer(&stack->slirp, slirp_cleanup);
        g_clear_pointer(&stack->listeners, g_array_unref);
        g_free(stack);
}

void stack_input(Stack *stack, const uint8_t *frame, size_t len) {
        slirp_input(stack->slirp, frame, (int) len);
}

static bool is_listener(const Stack *stack, int fd) {
        for (guint i = 0; i < stack->listeners->len; i++)
                if (g_array_index(stack->listeners, int, i) == fd)
                        return true;
        return false;
}

/* SlirpAddPollCb that finds the one listener which is not known yet: libslirp does not say its descriptors otherwise. */
static int find_listener(int fd, int events, void *opaque) {
        Stack *stack = opaque;
        int listens = 0;
        socklen_t len = sizeof listens;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens && !is_listener(stack, fd))
                g_array_append_val(stack->listeners, fd);
        return -1;
}

guint16 stack_publish(Stack *stack, const NetPublish *publish, GError **error) {
        struct sockaddr_storage host, box, bound;
        socklen_t host_len = net_publish_host(publish, &host), box_len = net_publish_box(publish, &box),
                  bound_len = sizeof bound;

        if (slirp_add_hostxfwd(stack->slirp, (struct sockaddr *) &host, host_len, (struct sockaddr *) &box, box_len,
                               SLIRP_HOSTFWD_V6ONLY) < 0) {
                net_publish_failed(publish, errno, error);
                return 0;
        }

        guint known = stack->listeners->len;
        uint32_t timeout = UINT32_MAX;
        slirp_pollfds_fill(stack->slirp, &timeout, find_listener, stack);
        g_assert(stack->listeners->len == known + 1);

        /* libslirp listens with a backlog of 1: of a burst of connections most would hang for seconds. It may be said again. */
        int fd = g_array_index(stack->listeners, int, known);
        if (listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *) &bound, &bound_len) < 0) {
                net_publish_failed(publish, errno, error);
                return 0;
        }
        return net_sockaddr_port(&bound);
}

static int add_poll(int fd, int events, void *opaque) {
        Stack *stack = opaque;
        struct pollfd p = { .fd = fd };

        if (stack->listen_after > 0 && is_listener(stack, fd))
                return -1;
        if (events & SLIRP_POLL_IN)
                p.events |= POLLIN;
        if (events & SLIRP_POLL_OUT)
                p.events |= POLLOUT;
        if (events & SLIRP_POLL_PRI)
                p.events |= POLLPRI;
        g_array_append_val(stack->fds, p);
        return (int) stack->fds->len - 1;
}

/* Can a connection be accepted? Otherwise the listener would stay readable, and the loop would spin on it. */
static bool has_descriptor(int listener) {
        _cleanup_close_ int fd = fcntl(listener, F_DUPFD_CLOEXEC, 0);
        return fd >= 0;
}

static int get_revents(int idx, void *opaque) {
        Stack *stack = opaque;
        if (idx < 0)
                return 0;
        const struct pollfd *p = &g_array_index(stack->fds, struct pollfd, idx);
        int revents = 0;

        if (p->revents && is_listener(stack, p->fd) && !has_descriptor(p->fd)) {
                if (stack->listen_after == 0)
                        log_step("no descriptors left: published ports wait");
                stack->listen_after = now_ms() + LISTEN_PAUSE;
                return 0;
        }
        if (p->revents & POLLIN)
                revents |= SLIRP_POLL_IN;
        if (p->revents & POLLOUT)
                revents |= SLIRP_POLL_OUT;
        if (p->revents & POLLPRI)
                revents |= SLIRP_POLL_PRI;
        if (p->revents & POLLERR)
                revents |= SLIRP_POLL_ERR;
        if (p->revents & POLLHUP)
                revents |= SLIRP_POLL_HUP;
        return revents;
}

int stack_prepare(Stack *stack, GArray *fds) {
        uint32_t timeout = UINT32_MAX;
        int64_t now = now_ms();

        if (stack->listen_after <= now)
                stack->listen_after = 0;
        else
                timeout = (uint32_t) (stack->listen_after - now);

        for (size_t i = 0; i < G_N_ELEMENTS(stack->timers); i++) {
                const StackTimer *timer = &stack->timers[i];
                if (timer->expires >= 0) {
                        int64_t left = timer->expires > now ? timer->expires - now : 0;
                        if (left < timeout)
                                timeout = (uint32_t) left;
                }
        }

        stack->fds = fds;
        slirp_pollfds_fill(stack->slirp, &timeout, add_poll, stack);
        stack->fds = NULL;
        return timeout > G_MAXINT ? -1 : (int) timeout;
}

void stack_dispatch(Stack *stack, const GArray *fds) {
        stack->fds = (GArray *) fds;
        slirp_pollfds_poll(stack->slirp, 0, get_revents, stack);
        stack->fds = NULL;

        int64_t now = now_ms();
        for (size_t i = 0; i < G_N_ELEMENTS(stack->timers); i++) {
                StackTimer *timer = &stack->timers[i];
                if (timer->expires >= 0 && timer->expires <= now) {
                        timer->expires = -1; /* the handler sets it again */
                        slirp_handle_timer(stack->slirp, timer->id, timer->data);
                }
        }
}
