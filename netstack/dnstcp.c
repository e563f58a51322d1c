/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's resolver by TCP: for answers that a datagram does not hold.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: beside dns.c.
 *
 * A connection has one question on its way at a time, so that a client that asks and does not read waits, and costs a buffer. It comes by libslirp, also
 * where the fast path carries other TCP, and that must have a place on the host to connect to: a listener on the loopback, made when it is needed, to which
 * the frames for the resolver are turned. Others on the host can ask it too, what they could ask the host's own resolver.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/dnstcp.h"
#include "netstack/dnswire.h"
#include "netstack/subnet.h"

#define CLIENTS_MAX 64
#define IDLE_MS 20000
#define PAUSE_MS 200

/* A question with EDNS options and room to spare; RFC 7766 lets a server close on what it does not like. */
#define QUESTION_MAX 4096

typedef struct {
        DnsAsker asker;
        DnsTcp *tcp;
        EventSource source;
        DnsQuestion *question; /* on its way */
        bool asking;           /* within dns_ask(), or question is set */
        uint8_t in[2 + QUESTION_MAX];
        size_t in_len;
        GByteArray *out;
        int64_t used;
        GList link;
} Client;

typedef struct {
        EventSource source;
        DnsTcp *tcp;
        uint16_t port;
} Listener;

struct DnsTcp {
        Events *events;
        Dns *dns;
        Listener listeners[2]; /* IPv4, IPv6 */
        GQueue clients;        /* of Client: the one that was silent for longest first */
        EventTimer timer;
};

static void client_free(Client *c) {
        int fd = c->source.fd;

        if (c->question)
                dns_cancel(c->question);
        events_remove(c->tcp->events, &c->source);
        close(fd);
        g_queue_unlink(&c->tcp->clients, &c->link);
        g_byte_array_unref(c->out);
        g_free(c);
}

/* False: it is closed. */
static bool flush(Client *c) {
        while (c->out->len > 0) {
                ssize_t n = send(c->source.fd, c->out->data, c->out->len, MSG_NOSIGNAL);
                if (n > 0)
                        g_byte_array_remove_range(c->out, 0, (guint) n);
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        return false;
        }
        return true;
}

static void reply(DnsAsker *asker, const uint8_t *msg, size_t len) {
        Client *c = (Client *) asker;
        uint8_t prefix[2];

        c->asking = false;
        c->question = NULL;
        packet_put16(prefix, (unsigned) len);
        g_byte_array_append(c->out, prefix, sizeof prefix);
        g_byte_array_append(c->out, msg, (guint) len);
        /* From the loop, which then sees to it all: from here c might be freed under dns_ask(). */
        (void) events_change(c->tcp->events, &c->source, EPOLLIN | EPOLLOUT);
}

/* Ask what has come whole. False: it is none. */
static bool ask_next(Client *c) {
        while (!c->asking && c->out->len == 0 && c->in_len >= 2) {
                size_t len = packet_get16(c->in);
                if (len < DNS_HEADER_LEN || len > QUESTION_MAX)
                        return false;
                if (c->in_len < 2 + len)
                        return true;
                uint8_t msg[QUESTION_MAX];
                memcpy(msg, c->in + 2, len);
                c->in_len -= 2 + len;
                memmove(c->in, c->in + 2 + len, c->in_len);
                if (msg[2] & 0x80)
                        return false; /* an answer: nobody who resolves names sends that */
                c->asking = true;
                DnsQuestion *question = dns_ask(c->tcp->dns, msg, len, &c->asker);
                if (question)
                        c->question = question;
        }
        return true;
}

/* Read as much as there is room for. False: it is closed. */
static bool fill(Client *c) {
        while (c->in_len < sizeof c->in) {
                ssize_t n = recv(c->source.fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 && errno == EAGAIN;
                c->in_len += (size_t) n;
        }
        return true;
}

static void on_client(EventSource *source, uint32_t events) {
        Client *c = EVENTS_OWNER(source, Client, source);

        c->used = events_now(c->tcp->events);
        g_queue_unlink(&c->tcp->clients, &c->link);
        g_queue_push_tail_link(&c->tcp->clients, &c->link);
        /* Whoever has closed his side has no use for an answer either (RFC 7766 lets us think so), and a full buffer waits: but not for one that is lost,
         * which is said again and again. */
        if (events & (EPOLLHUP | EPOLLERR) || !flush(c) || ((events & EPOLLIN) && !fill(c)) || !ask_next(c)) {
                client_free(c);
                return;
        }
        uint32_t mask = (c->in_len < sizeof c->in ? EPOLLIN : 0) | (c->out->len > 0 ? EPOLLOUT : 0);
        if (!events_change(c->tcp->events, &c->source, mask))
                client_free(c);
}

/* A connection, non-blocking. */
static void take_client(DnsTcp *tcp, int fd_take) {
        if (tcp->clients.length >= CLIENTS_MAX)
                client_free(tcp->clients.head->data);
        Client *c = g_new0(Client, 1);
        c->asker = (DnsAsker){ .reply = reply, .tcp = true };
        c->tcp = tcp;
        c->source.ready = on_client;
        c->out = g_byte_array_new();
        c->used = events_now(tcp->events);
        c->link.data = c;
        g_queue_push_tail_link(&tcp->clients, &c->link);
        if (!events_add(tcp->events, &c->source, fd_take, EPOLLIN)) {
                c->source.fd = fd_take;
                client_free(c);
                return;
        }
        if (tcp->timer.at < 0)
                tcp->timer.at = c->used + IDLE_MS;
}

/* Without a descriptor for it a connection would wake us for ever: it waits. */
static void pause_listeners(DnsTcp *tcp, bool pause) {
        for (int i = 0; i < 2; i++)
                if (tcp->listeners[i].source.fd >= 0)
                        (void) events_change(tcp->events, &tcp->listeners[i].source, pause ? 0 : EPOLLIN);
}

static void on_timer(EventTimer *timer) {
        DnsTcp *tcp = EVENTS_OWNER(timer, DnsTcp, timer);
        int64_t now = events_now(tcp->events);

        pause_listeners(tcp, false);
        while (tcp->clients.head && ((Client *) tcp->clients.head->data)->used + IDLE_MS <= now)
                client_free(tcp->clients.head->data);
        timer->at = tcp->clients.head ? ((Client *) tcp->clients.head->data)->used + IDLE_MS : -1;
}

static void on_listener(EventSource *source, uint32_t events) {
        Listener *l = EVENTS_OWNER(source, Listener, source);
        DnsTcp *tcp = l->tcp;
        int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
                take_client(tcp, fd);
        } else if (errno == EMFILE || errno == ENFILE) {
                pause_listeners(tcp, true);
                tcp->timer.at = events_now(tcp->events) + PAUSE_MS;
        }
}

static bool open_listener(DnsTcp *tcp, Listener *l, int family) {
        struct sockaddr_storage addr = { .ss_family = (sa_family_t) family };
        socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

        if (family == AF_INET)
                ((struct sockaddr_in *) &addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                ((struct sockaddr_in6 *) &addr)->sin6_addr = in6addr_loopback;
        _cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &addr, len) < 0 || listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *) &addr, &len) < 0 ||
            !events_add(tcp->events, &l->source, fd, EPOLLIN)) {
                log_step("no DNS by TCP: %s", err_text(errno));
                return false;
        }
        l->port = net_sockaddr_port(&addr);
        (void) fd_steal(&fd);
        return true;
}

static void rewrite_end(uint8_t *frame, const Packet *p, size_t addr_at, size_t port_at, const char *address, uint16_t port) {
        uint8_t *ip = frame + PACKET_ETH_LEN, *tcp = frame + p->l4;
        struct in6_addr src, dst;

        inet_pton(p->family, address, ip + addr_at);
        packet_put16(tcp + port_at, port);
        if (p->family == AF_INET) {
                packet_put16(ip + 10, 0);
                packet_put16(ip + 10, packet_sum_end(packet_sum(0, ip, p->l4 - PACKET_ETH_LEN)));
                src = address_mapped(ip + 12);
                dst = address_mapped(ip + 16);
        } else {
                memcpy(&src, ip + 8, sizeof src);
                memcpy(&dst, ip + 24, sizeof dst);
        }
        packet_put16(tcp + 16, 0);
        packet_put16(tcp + 16, packet_l4_checksum(p->family, &src, &dst, IPPROTO_TCP, tcp, p->l4_len));
}

bool dns_tcp_frame_out(DnsTcp *tcp, uint8_t *frame, const Packet *packet) {
        bool v4 = packet->family == AF_INET;
        Listener *l = &tcp->listeners[v4 ? 0 : 1];

        if (l->source.fd < 0 && !open_listener(tcp, l, packet->family))
                return false;
        rewrite_end(frame, packet, v4 ? 16 : 24, 2, v4 ? subnet_ipv4()->gateway_text : NET_GATEWAY_IPV6, l->port);
        return true;
}

bool dns_tcp_frame_in(const DnsTcp *tcp, const uint8_t *frame, size_t len, uint8_t *out) {
        Packet p;

        if ((tcp->listeners[0].source.fd < 0 && tcp->listeners[1].source.fd < 0) || !packet_parse(frame, len, &p) || p.protocol != IPPROTO_TCP ||
            p.family == AF_UNSPEC || !policy_is_gateway(p.family, &p.src))
                return false;
        bool v4 = p.family == AF_INET;
        const Listener *l = &tcp->listeners[v4 ? 0 : 1];
        if (l->source.fd < 0 || p.sport != l->port)
                return false;
        memcpy(out, frame, p.len);
        rewrite_end(out, &p, v4 ? 12 : 8, 0, v4 ? subnet_ipv4()->dns_text : NET_DNS_IPV6, 53);
        return true;
}

DnsTcp *dns_tcp_new(Events *events, Dns *dns) {
        DnsTcp *tcp = g_new0(DnsTcp, 1);

        *tcp = (DnsTcp){ .events = events, .dns = dns, .timer = { .fire = on_timer, .at = -1 } };
        for (int i = 0; i < 2; i++)
                tcp->listeners[i] = (Listener){ .source = { .ready = on_listener, .fd = -1 }, .tcp = tcp };
        g_queue_init(&tcp->clients);
        events_add_timer(events, &tcp->timer);
        return tcp;
}

void dns_tcp_free(DnsTcp *tcp) {
        if (!tcp)
                return;
        while (tcp->clients.head)
                client_free(tcp->clients.head->data);
        for (int i = 0; i < 2; i++) {
                int fd = tcp->listeners[i].source.fd;
                events_remove(tcp->events, &tcp->listeners[i].source);
                fd_closep(&fd);
        }
        g_free(tcp);
}
