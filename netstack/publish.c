/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Published TCP ports: connections from outside, led to a server in the box.
 *
 * Role: usbox-net. Privileges: none; opening a low port may need some. Threads: one. Order: listeners are opened before the confinement
 * (later ones live), served by the loop once the agent is in the box's network.
 *
 * A connection that the host's listener has accepted gets a partner that was born in the box's network namespace: a socket of the agent's, which
 * makes them by the dozen and ahead of need. It may be bound to any address (IP_TRANSPARENT), so the server in the box sees the client's own address
 * and port; the rules of divert.c lead its answers back. Where the box could not tell such an address from its own network's, it sees the
 * gateway's (forward_visible()), and another port where that one is taken or is a low one, for which the agent would need one right more.
 *
 * The client's connection stands before the server in the box is asked: if that refuses, the client gets a reset. A port that was published without
 * an address is one for clients of both families, whatever the server listens on: who comes by IPv6 and is refused is led to the box's IPv4
 * address, where the server sees the gateway's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/address.h"
#include "netstack/agent.h"
#include "netstack/divert.h"
#include "netstack/forward.h"
#include "netstack/publish.h"

/* ms for which listeners are left alone when there is no descriptor for a connection. */
#define LISTEN_PAUSE 200

#define BACKLOG 4096

enum { V4, V6, FAMILIES };

typedef struct {
        EventSource source;
        Publish *publish;
        int fd, family; /* V4, V6 */
        struct sockaddr_storage host, box;
        bool both; /* of V6: else to the same port by IPv4 */
} Port;

typedef struct {
        Splice splice;
        Publish *publish;
        GList link; /* in publish->connections */
        int spare;  /* of a port that is both: a socket of IPv4, until the server has answered; -1: none */
        struct sockaddr_storage client;
        guint16 box_port;
        AccountFlow *account; /* NULL: the server has not answered yet */
} Connection;

struct Publish {
        Events *events;
        SplicePipes *pipes;
        int agent; /* -1: not started, or ended */
        bool agent_ended;
        void (*lost)(void *data);
        void *lost_data;
        Account *account;
        EventSource on_agent;
        GPtrArray *ports; /* of Port * */
        GQueue connections;
        GArray *sockets[FAMILIES]; /* of int: the agent's, not used yet */
        bool asked[FAMILIES];      /* more are on their way */
        EventTimer timer;          /* the end of a pause */
        bool accepting[FAMILIES];
};

static int af(int family) {
        return family == V4 ? AF_INET : AF_INET6;
}

/* Listeners of which nothing can be accepted just now would make the loop spin. */
static void set_accepting(Publish *p, int family, bool accepting) {
        if (p->accepting[family] == accepting)
                return;
        p->accepting[family] = accepting;
        for (guint i = 0; i < p->ports->len; i++) {
                Port *port = p->ports->pdata[i];
                if (port->family == family)
                        (void) events_change(p->events, &port->source, accepting ? EPOLLIN : 0);
        }
}

static void ask(Publish *p, int family) {
        if (p->agent < 0 || p->asked[family] || p->sockets[family]->len > AGENT_SOCKETS / 2)
                return;
        p->asked[family] = agent_ask_sockets(p->agent, af(family));
}

/* What the splice has moved since the last time. */
static void on_moved(Splice *splice) {
        Connection *c = EVENTS_OWNER(splice, Connection, splice);
        SpliceSide *out = &splice->side[SPLICE_BOX], *in = &splice->side[SPLICE_HOST];

        account_moved(c->account, out->bytes, out->pieces, in->bytes, in->pieces);
        out->bytes = out->pieces = in->bytes = in->pieces = 0;
}

/* how: as for account_end(); anything but "closed" resets both sides, if they are not closed yet. */
static void connection_end(Connection *c, const char *how) {
        if (c->account) {
                on_moved(&c->splice);
                account_end(c->publish->account, c->account, how);
        }
        splice_close(&c->splice, !g_str_equal(how, "closed"));
        fd_closep(&c->spare);
        g_queue_unlink(&c->publish->connections, &c->link);
        g_free(c);
}

static void on_ended(Splice *splice, const char *how) {
        connection_end(EVENTS_OWNER(splice, Connection, splice), how);
}

/* From the client's address to the server in the box. False with errno. */
static bool connect_box(int family, const struct sockaddr_storage *box, int fd, const struct sockaddr_storage *client) {
        struct sockaddr_storage from;
        struct in6_addr addr;
        uint16_t number;
        int on = 1;

        /* As divert.c's listener: a port of the client's is no reason to keep a program in the box from it. */
        (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, DIVERT_CONGESTION, strlen(DIVERT_CONGESTION));
        forward_visible(af(family), client, &addr, &number);
        socklen_t len = address_to_socket(af(family), &addr, number, &from);
        if (bind(fd, (struct sockaddr *) &from, len) < 0) {
                len = address_to_socket(af(family), &addr, 0, &from);
                if (bind(fd, (struct sockaddr *) &from, len) < 0)
                        return false;
        }
        return connect(fd, (const struct sockaddr *) box, len) == 0 || errno == EINPROGRESS;
}

static void on_box(EventSource *source, uint32_t events);

/* The other way, by the spare socket. False: it is none either. */
static bool try_ipv4(Connection *c) {
        const NetPublish to = { .host_addr = (char *) "", .box_addr = (char *) "", .box_port = c->box_port };
        struct sockaddr_storage box;

        if (c->spare < 0)
                return false;
        net_publish_box(&to, &box);
        splice_unwatch(&c->splice, SPLICE_BOX);
        return connect_box(V4, &box, c->spare, &c->client) && splice_watch_take(&c->splice, SPLICE_BOX, fd_steal(&c->spare), on_box);
}

/* Both sides are there. */
static void start(Connection *c) {
        AccountKey key = { .protocol = IPPROTO_TCP };
        struct sockaddr_storage box = { 0 };
        socklen_t len = sizeof box;

        (void) getpeername(c->splice.side[SPLICE_BOX].fd, (struct sockaddr *) &box, &len);
        key.family = box.ss_family;
        (void) address_of_socket((const struct sockaddr *) &c->client, &key.src, &key.sport);
        (void) address_of_socket((const struct sockaddr *) &box, &key.dst, &key.dport);
        c->account = account_start(c->publish->account, &key, NULL, ACCOUNT_PORT, NULL, NULL);
        c->splice.moved = on_moved;
        splice_start(&c->splice);
}

/* A spare socket that was not needed. Where many clients have waited at once there are as many, and for connections there would be that much less room. */
static void put_back(Publish *p, int fd_take) {
        if (p->sockets[V4]->len < AGENT_SOCKETS)
                g_array_append_val(p->sockets[V4], fd_take);
        else
                close(fd_take);
}

/* The server in the box has answered. */
static void on_box(EventSource *source, uint32_t events) {
        SpliceSide *side = EVENTS_OWNER(source, SpliceSide, source);
        int errnum = 0;
        socklen_t len = sizeof errnum;

        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
                return;
        Connection *c = EVENTS_OWNER(side->splice, Connection, splice);
        if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) == 0 && errnum == 0) {
                if (c->spare >= 0)
                        put_back(c->publish, fd_steal(&c->spare));
                start(c);
        } else if (!try_ipv4(c)) {
                connection_end(c, "reset");
        }
}

/* The client's side, as long as the box's has not answered: what it says is looked at by splice_start(). */
static void on_client(EventSource *source, uint32_t events) {
        SpliceSide *side = EVENTS_OWNER(source, SpliceSide, source);
        if (events & EPOLLERR)
                connection_end(EVENTS_OWNER(side->splice, Connection, splice), "reset");
}

/* Are there sockets for one more client? */
static bool has_sockets(const Port *port) {
        GArray *const *sockets = port->publish->sockets;
        return sockets[port->family]->len > 0 && (!port->both || sockets[V4]->len > 0);
}

static int take_socket(Publish *p, int family) {
        GArray *sockets = p->sockets[family];
        int fd = g_array_index(sockets, int, sockets->len - 1);

        g_array_set_size(sockets, sockets->len - 1);
        return fd;
}

static void take_client(const Port *port, int client_fd, const struct sockaddr_storage *client) {
        Publish *p = port->publish;
        int fd = take_socket(p, port->family);
        Connection *c = g_new0(Connection, 1);
        c->publish = p;
        c->spare = port->both ? take_socket(p, V4) : -1;
        c->client = *client;
        c->box_port = net_sockaddr_port(&port->box);
        c->link.data = c;
        g_queue_push_tail_link(&p->connections, &c->link);
        splice_init(&c->splice, p->events, p->pipes);
        c->splice.ended = on_ended;
        if (!splice_watch_take(&c->splice, SPLICE_HOST, client_fd, on_client)) {
                close(fd);
                connection_end(c, "reset");
        } else if (!connect_box(port->family, &port->box, fd, client)) {
                close(fd);
                if (!try_ipv4(c))
                        connection_end(c, "reset");
        } else if (!splice_watch_take(&c->splice, SPLICE_BOX, fd, on_box)) {
                connection_end(c, "reset");
        }
}

static void pause_all(Publish *p) {
        for (int i = 0; i < FAMILIES; i++)
                set_accepting(p, i, false);
        if (p->timer.at < 0)
                log_step("no descriptors left: published ports wait");
        p->timer.at = events_now(p->events) + LISTEN_PAUSE;
}

static void on_port(EventSource *source, uint32_t events) {
        const Port *port = EVENTS_OWNER(source, Port, source);
        Publish *p = port->publish;

        while (has_sockets(port)) {
                struct sockaddr_storage client = { 0 };
                socklen_t len = sizeof client;

                if (!splice_has_room(p->pipes)) {
                        pause_all(p);
                        return;
                }
                int fd = accept4(port->fd, (struct sockaddr *) &client, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0)
                        take_client(port, fd, &client);
                else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        pause_all(p);
                        return;
                } else if (errno != EINTR && errno != ECONNABORTED)
                        break;
        }
        ask(p, port->family);
        if (port->both)
                ask(p, V4);
        if (!has_sockets(port))
                set_accepting(p, port->family, false); /* until there are more */
}

static void on_timer(EventTimer *timer) {
        Publish *p = EVENTS_OWNER(timer, Publish, timer);
        for (int i = 0; i < FAMILIES; i++) {
                set_accepting(p, i, p->sockets[i]->len > 0);
                ask(p, i);
        }
}

static void on_agent(EventSource *source, uint32_t events) {
        Publish *p = EVENTS_OWNER(source, Publish, on_agent);
        g_autoptr(GError) error = NULL;
        int fds[AGENT_SOCKETS], family;

        int n = agent_take_sockets(p->agent, &family, fds, &error);
        if (n < 0) {
                log_note("no more connections to published ports: %s", error->message);
                events_remove(p->events, &p->on_agent);
                p->agent = -1;
                p->agent_ended = true;
                g_ptr_array_set_size(p->ports, 0); /* who comes is refused, rather than waits for nothing */
                if (p->lost)
                        p->lost(p->lost_data);
                return;
        }
        if (family == AF_UNSPEC)
                return;
        int which = family == AF_INET ? V4 : V6;
        p->asked[which] = false;
        g_array_append_vals(p->sockets[which], fds, (guint) n);
        for (int i = 0; i < FAMILIES; i++)
                if (p->sockets[i]->len > 0)
                        set_accepting(p, i, true);
        if (n == 0)
                p->timer.at = events_now(p->events) + LISTEN_PAUSE; /* it has no descriptors left: asked again then */
}

static void port_free(Port *port) {
        events_remove(port->publish->events, &port->source);
        fd_closep(&port->fd);
        g_free(port);
}

Publish *publish_new(Events *events, SplicePipes *pipes) {
        Publish *p = g_new0(Publish, 1);

        *p = (Publish){ .events = events, .pipes = pipes, .agent = -1, .on_agent = { .ready = on_agent, .fd = -1 },
                        .timer = { .fire = on_timer, .at = -1 } };
        p->ports = g_ptr_array_new_with_free_func((GDestroyNotify) port_free);
        g_queue_init(&p->connections);
        for (int i = 0; i < FAMILIES; i++)
                p->sockets[i] = g_array_new(false, false, sizeof(int));
        events_add_timer(events, &p->timer);
        return p;
}

void publish_free(Publish *p) {
        if (!p)
                return;
        while (p->connections.head)
                connection_end(p->connections.head->data, "closed");
        g_ptr_array_unref(p->ports);
        for (int i = 0; i < FAMILIES; i++) {
                for (guint k = 0; k < p->sockets[i]->len; k++)
                        close(g_array_index(p->sockets[i], int, k));
                g_array_unref(p->sockets[i]);
        }
        events_remove(p->events, &p->on_agent);
        g_free(p);
}

guint16 publish_open(Publish *p, const NetPublish *publish, GError **error) {
        struct sockaddr_storage host, box;
        socklen_t len = net_publish_host(publish, &host);
        int on = 1;

        net_publish_box(publish, &box);
        if (p->agent_ended) {
                (void) net_publish_failed(publish, 0, error);
                g_prefix_error(error, "the agent, which makes the box's ends of connections, has ended: ");
                return 0;
        }
        _cleanup_close_ int fd = socket(host.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            (host.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
            bind(fd, (struct sockaddr *) &host, len) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, (struct sockaddr *) &host, &len) < 0) {
                net_publish_failed(publish, errno, error);
                return 0;
        }

        Port *port = g_new0(Port, 1);
        *port = (Port){ .source = { .ready = on_port, .fd = -1 }, .publish = p, .family = host.ss_family == AF_INET ? V4 : V6, .host = host, .box = box,
                        .both = publish->beside };
        port->fd = fd_steal(&fd);
        g_ptr_array_add(p->ports, port);
        if (!events_add(p->events, &port->source, port->fd, p->accepting[port->family] ? EPOLLIN : 0)) {
                net_publish_failed(publish, errno, error);
                g_ptr_array_remove_fast(p->ports, port);
                return 0;
        }
        ask(p, port->family);
        return net_sockaddr_port(&host);
}

bool publish_close(Publish *p, const NetPublish *publish) {
        struct sockaddr_storage host;
        socklen_t len = net_publish_host(publish, &host);

        for (guint i = 0; i < p->ports->len; i++) {
                const Port *port = p->ports->pdata[i];
                if (memcmp(&port->host, &host, len) == 0)
                        return g_ptr_array_remove_index_fast(p->ports, i);
        }
        return false;
}

void publish_on_lost(Publish *p, void (*lost)(void *data), void *data) {
        p->lost = lost;
        p->lost_data = data;
}

bool publish_start(Publish *p, int agent, Account *account, GError **error) {
        p->agent = agent;
        p->account = account;
        if (!events_add(p->events, &p->on_agent, agent, EPOLLIN))
                return err_set(error, errno, "epoll_ctl");
        for (guint i = 0; i < p->ports->len; i++)
                ask(p, ((const Port *) p->ports->pdata[i])->family);
        return true;
}
