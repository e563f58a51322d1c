/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libslirp: its configuration, its callbacks, its sockets' place in the loop.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: made before the confinement (it reads /dev/urandom, and published
 * ports may need rights that the confinement drops), used by the loop after it.
 *
 * libslirp is asked what it waits for, and served, only in turns that concern it: after frames for it, when a socket of its own is ready, and
 * when a time is over. In such a turn its sockets come after new frames: only then does it send what had waited for one (an ARP
 * answer). Its clock goes on only then too, and has to be set before the first frame.
 *
 * Of DNS libslirp knows nothing: dns.c answers. That it leads the gateway's address to the host's loopback is what host.usbox is for; who may
 * go there is the policy's to say, before a frame comes here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libslirp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/near.h"
#include "netstack/reply.h"
#include "netstack/stack.h"
#include "netstack/subnet.h"

#define NS_PER_MS 1000000

/* Of packets whose segments are half of libslirp's largest window. Longer ones, of which that holds but one, and it waits for each to be
 * acknowledged, and says late that its own window is open again; shorter ones cost more for each byte. */
#define SEGMENT_MTU (65535u / 2 + 20)

/* libslirp knows no longer ones (IF_MTU_MAX). */
#define FRAME_MTU 65521u

/* A SYN with all its options, and some data of TCP fast open. */
#define SYN_MAX 2048

/* How long listeners are left alone when there is no descriptor for a connection, in ms. */
#define LISTEN_PAUSE 200

/* libslirp has one, for router advertisements. */
typedef struct {
        SlirpTimerId id;
        void *data;
        int64_t expires; /* ms of the monotonic clock, -1: not set */
} StackTimer;

/* One of libslirp's sockets in the loop. */
typedef struct {
        EventSource source;
        Stack *stack;
        uint32_t mask, revents; /* EPOLLIN, ...: waited for, and come since the last turn */
        bool wanted;            /* libslirp named it in this turn */
        bool read;              /* libslirp has waited for its bytes: it is connected */
        int index;              /* in stack->turn_fds */
} StackFd;

struct Stack {
        Slirp *slirp;
        Events *events;
        StackSend send;
        StackSent sent; /* NULL: nobody asks */
        void *send_data;
        StackTimer timers[SLIRP_TIMER_NUM];
        GHashTable *fds;      /* int → StackFd */
        GHashTable *syns;     /* int → GBytes: the SYN for which it connects */
        const uint8_t *input; /* the frame that libslirp is given, and its length */
        size_t input_len;
        GPtrArray *turn_fds;  /* of StackFd *: by the number that libslirp got for it; NULL: closed since */
        EventWork turn;       /* what is to do for libslirp at the end of this turn */
        EventTimer wake;
        GArray *listeners;    /* of int: borrowed from libslirp, which keeps them open as long as it lives */
        int64_t listen_after; /* ms of the monotonic clock: until then there were no descriptors for a connection */
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

/* What it waits for on a socket it says in each turn anew. A frame that makes it open one for TCP is a SYN. */
static void on_register_poll_fd(int fd, void *opaque) {
        Stack *stack = opaque;
        Packet packet;

        if (stack->input && stack->input_len <= SYN_MAX && packet_parse(stack->input, stack->input_len, &packet) && packet.protocol == IPPROTO_TCP)
                g_hash_table_insert(stack->syns, GINT_TO_POINTER(fd), g_bytes_new(stack->input, stack->input_len));
}

/* Just before it closes it: the number may be another module's a moment later. */
static void on_unregister_poll_fd(int fd, void *opaque) {
        Stack *stack = opaque;
        g_hash_table_remove(stack->fds, GINT_TO_POINTER(fd));
        g_hash_table_remove(stack->syns, GINT_TO_POINTER(fd));
}

/* There is no other thread to wake. */
static void on_notify(void *opaque) {
}

static const SlirpCb slirp_callbacks = {
        .send_packet = on_send_packet,
        .guest_error = on_guest_error,
        .clock_get_ns = on_clock_get_ns,
        .timer_new_opaque = on_timer_new_opaque,
        .timer_free = on_timer_free,
        .timer_mod = on_timer_mod,
        .register_poll_fd = on_register_poll_fd,
        .unregister_poll_fd = on_unregister_poll_fd,
        .notify = on_notify,
};

static void stack_fd_free(StackFd *fd) {
        if (fd->index >= 0)
                fd->stack->turn_fds->pdata[fd->index] = NULL;
        events_remove(fd->stack->events, &fd->source);
        g_free(fd);
}

static void on_turn(EventWork *work) {
        stack_turn(EVENTS_OWNER(work, Stack, turn));
}

static void on_wake(EventTimer *timer) {
        stack_turn(EVENTS_OWNER(timer, Stack, wake));
}

/* How long frames of the box's may be, which are longer than the link's own where the kernel makes segments of them later: of IPv6 libslirp takes none that is
 * longer than its MTU (ip6_input()). */
static size_t slirp_mtu(const NetConfig *config) {
        return net_config_offloads(config) ? FRAME_MTU : config->mtu;
}

/* Its own segments are what both of its numbers allow (tcp_mss()). */
static size_t slirp_mru(const NetConfig *config) {
        return MIN(slirp_mtu(config), SEGMENT_MTU);
}

Stack *stack_new(const NetConfig *config, Events *events, StackSend send, void *data, GError **error) {
        g_autoptr(Stack) stack = g_new0(Stack, 1);
        SlirpConfig slirp_config = {
                .version = 4,
                .in_enabled = true,
                .in6_enabled = config->ipv6,
                .vprefix_len = NET_PREFIX_IPV6,
                .if_mtu = slirp_mtu(config),
                .if_mru = slirp_mru(config),
                .disable_dns = true,
        };

        inet_pton(AF_INET, subnet_ipv4()->network_text, &slirp_config.vnetwork);
        slirp_config.vnetmask.s_addr = htonl(~0U << (32 - subnet_ipv4()->len));
        inet_pton(AF_INET, subnet_ipv4()->gateway_text, &slirp_config.vhost);
        inet_pton(AF_INET, subnet_ipv4()->dns_text, &slirp_config.vnameserver);
        inet_pton(AF_INET, subnet_ipv4()->box_text, &slirp_config.vdhcp_start);
        inet_pton(AF_INET6, NET_SUBNET_IPV6, &slirp_config.vprefix_addr6);
        inet_pton(AF_INET6, NET_GATEWAY_IPV6, &slirp_config.vhost6);
        inet_pton(AF_INET6, NET_DNS_IPV6, &slirp_config.vnameserver6);

        /* Without IPv6 libslirp never asks for its timer. */
        for (size_t i = 0; i < G_N_ELEMENTS(stack->timers); i++)
                stack->timers[i].expires = -1;
        stack->send = send;
        stack->send_data = data;
        stack->events = events;
        stack->fds = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) stack_fd_free);
        stack->syns = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) g_bytes_unref);
        stack->turn_fds = g_ptr_array_new();
        stack->turn.run = on_turn;
        stack->wake = (EventTimer){ .fire = on_wake, .at = -1 };
        events_add_timer(events, &stack->wake);
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
        g_clear_pointer(&stack->fds, g_hash_table_unref);
        g_clear_pointer(&stack->syns, g_hash_table_unref);
        g_clear_pointer(&stack->turn_fds, g_ptr_array_unref);
        g_clear_pointer(&stack->listeners, g_array_unref);
        g_free(stack);
}

void stack_on_sent(Stack *stack, StackSent sent) {
        stack->sent = sent;
}

static void say_sent(Stack *stack) {
        if (stack->sent)
                stack->sent(stack->send_data);
}

void stack_input(Stack *stack, const uint8_t *frame, size_t len) {
        stack->input = frame;
        stack->input_len = len;
        slirp_input(stack->slirp, frame, (int) len);
        stack->input = NULL;
        say_sent(stack);
        events_later(stack->events, &stack->turn);
        events_expect(stack->events);
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

void stack_unpublish(Stack *stack, const NetPublish *publish) {
        struct sockaddr_storage host, bound;
        socklen_t len = net_publish_host(publish, &host);

        for (guint i = 0; i < stack->listeners->len; i++) {
                socklen_t bound_len = sizeof bound;
                memset(&bound, 0, sizeof bound);
                if (getsockname(g_array_index(stack->listeners, int, i), (struct sockaddr *) &bound, &bound_len) < 0 || memcmp(&bound, &host, len) != 0)
                        continue;
                g_array_remove_index_fast(stack->listeners, i);
                break;
        }
        (void) slirp_remove_hostxfwd(stack->slirp, (struct sockaddr *) &host, len, 0);
        events_later(stack->events, &stack->turn);
}

static void on_ready(EventSource *source, uint32_t events) {
        StackFd *fd = EVENTS_OWNER(source, StackFd, source);
        fd->revents |= events;
        events_later(fd->stack->events, &fd->stack->turn);
}

/* SlirpAddPollCb: watch it; the result is what get_revents() is asked for. -1: it is not watched. Of urgent data libslirp hears nothing: it would give the
 * box that byte among the others, and call the last one urgent, which is lost to a program then. So it is one of the others, too, and none is lost. */
static int add_poll(int number, int events, void *opaque) {
        Stack *stack = opaque;
        uint32_t mask = 0;

        if (stack->listen_after > 0 && is_listener(stack, number))
                return -1;
        if (events & SLIRP_POLL_IN)
                mask |= EPOLLIN;
        if (events & SLIRP_POLL_OUT)
                mask |= EPOLLOUT;

        StackFd *fd = g_hash_table_lookup(stack->fds, GINT_TO_POINTER(number));
        if (!fd) {
                fd = g_new0(StackFd, 1);
                *fd = (StackFd){ .source.ready = on_ready, .stack = stack, .mask = mask, .index = -1 };
                if (!events_add(stack->events, &fd->source, number, mask)) {
                        g_free(fd);
                        return -1;
                }
                g_hash_table_insert(stack->fds, GINT_TO_POINTER(number), fd);
        } else if (fd->source.fd < 0) {
                if (!events_add(stack->events, &fd->source, number, mask))
                        return -1;
                fd->revents = 0;
                fd->mask = mask;
        } else if (fd->mask != mask && events_change(stack->events, &fd->source, mask)) {
                fd->mask = mask;
        }
        if ((mask & EPOLLIN) && !fd->read) {
                near_bound(number);
                fd->read = true;
        }
        fd->wanted = true;
        fd->index = (int) stack->turn_fds->len;
        g_ptr_array_add(stack->turn_fds, fd);
        return fd->index;
}

/* Can a connection be accepted? Otherwise the listener would stay readable, and the loop would spin on it. */
static bool has_descriptor(int listener) {
        _cleanup_close_ int fd = fcntl(listener, F_DUPFD_CLOEXEC, 0);
        return fd >= 0;
}

/* Why it cannot connect; 0: it has, and what came is libslirp's to read, an error behind it too. */
static int connect_error(int fd) {
        int errnum = 0;
        socklen_t len = sizeof errnum;
        char byte;

        ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
                return errno;
        /* A router's word that came within connect(2) is told here alone. */
        return n < 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &len) == 0 ? errnum : 0;
}

/* The first event of a socket that connects. libslirp tells the box of a refusal, and of what fails at once; of a router's word, which comes later, it says
 * nothing, and the box's connect(2) would wait for two minutes. */
static void take_connected(Stack *stack, int fd, uint32_t events) {
        GBytes *syn = g_hash_table_lookup(stack->syns, GINT_TO_POINTER(fd));
        uint8_t reply[REPLY_MAX];
        Packet packet;
        gsize len;

        if (!syn)
                return;
        int errnum = events & EPOLLERR ? connect_error(fd) : 0;
        const uint8_t *frame = g_bytes_get_data(syn, &len);
        size_t n = errnum != 0 && packet_parse(frame, len, &packet) ? reply_syn(errnum, &packet, reply) : 0;
        if (n > 0)
                stack->send(reply, n, stack->send_data);
        g_hash_table_remove(stack->syns, GINT_TO_POINTER(fd));
}

static int get_revents(int idx, void *opaque) {
        Stack *stack = opaque;
        int revents = 0;

        StackFd *fd = idx >= 0 && idx < (int) stack->turn_fds->len ? stack->turn_fds->pdata[idx] : NULL;
        if (!fd)
                return 0;
        uint32_t events = fd->revents;
        fd->revents = 0;
        if (events && is_listener(stack, fd->source.fd) && !has_descriptor(fd->source.fd)) {
                if (stack->listen_after == 0)
                        log_step("no descriptors left: published ports wait");
                stack->listen_after = now_ms() + LISTEN_PAUSE;
                return 0;
        }
        if (events)
                take_connected(stack, fd->source.fd, events);
        if (events & EPOLLIN)
                revents |= SLIRP_POLL_IN;
        if (events & EPOLLOUT)
                revents |= SLIRP_POLL_OUT;
        if (events & EPOLLERR)
                revents |= SLIRP_POLL_ERR;
        if (events & EPOLLHUP)
                revents |= SLIRP_POLL_HUP;
        return revents;
}

/* Of a connection whose buffer is full libslirp wants nothing for a moment: what is known of it stays until it is closed. */
static void leave_unwanted(gpointer key, gpointer value, gpointer data) {
        StackFd *fd = value;
        if (!fd->wanted)
                events_remove(fd->stack->events, &fd->source);
}

/* What libslirp waits for from now on, and for how long at most. */
static void prepare(Stack *stack) {
        uint32_t timeout = UINT32_MAX;
        int64_t now = now_ms();
        GHashTableIter iter;
        gpointer value;

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

        g_hash_table_iter_init(&iter, stack->fds);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                ((StackFd *) value)->wanted = false;
                ((StackFd *) value)->index = -1;
        }
        g_ptr_array_set_size(stack->turn_fds, 0);
        slirp_pollfds_fill(stack->slirp, &timeout, add_poll, stack);
        g_hash_table_foreach(stack->fds, leave_unwanted, NULL);
        stack->wake.at = timeout == UINT32_MAX ? -1 : now + timeout;
}

void stack_turn(Stack *stack) {
        slirp_pollfds_poll(stack->slirp, 0, get_revents, stack);
        say_sent(stack);

        int64_t now = now_ms();
        for (size_t i = 0; i < G_N_ELEMENTS(stack->timers); i++) {
                StackTimer *timer = &stack->timers[i];
                if (timer->expires >= 0 && timer->expires <= now) {
                        timer->expires = -1; /* the handler sets it again */
                        slirp_handle_timer(stack->slirp, timer->id, timer->data);
                }
        }
        prepare(stack);
}
