/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Published UDP ports: datagrams between a socket of the host and the box, past libslirp.
 *
 * Role: usbox-net. Privileges: none; opening a low port may need some. Threads: one. Order: sockets are opened before the
 * confinement, used by the loop.
 *
 * Answers come from that one of the host's addresses that the peer wrote to (arrival.c).
 *
 * libslirp's own forwarding of UDP cannot answer a peer that is on the host itself, as answers to the gateway are
 * what disable_host_loopback closes. Here the box may answer exactly those who wrote to it, each at the one address and port
 * under which it saw them, and nobody else on the host.
 *
 * The box sees the peer's own address, but for those that it could not answer to: the host's loopback, link-local
 * addresses, and addresses that are the box's own network's on the host appear as the gateway.
 *
 * Anybody can write in anybody's name, so the table of peers is soon full if somebody wants that. Then one goes who has not written again after an
 * answer, the one that was silent for longest. Of those who have, one goes only where the others have no more than their share. And the log is as long as what
 * the box answers: who came in a full table is a flow from then on.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "netstack/arrival.h"
#include "netstack/forward.h"
#include "netstack/policy.h"
#include "netstack/subnet.h"

#define UDP_LEN 8
#define DATAGRAMS_PER_TURN 64

/* Peers that are remembered, and for how long after the last datagram (as conntrack's default for streams), in s. */
#define PEERS_MAX 4096
#define PEER_SECONDS 120

/* Who is new finds room for an exchange, however many peers are known. */
#define FRESH_SHARE (PEERS_MAX / 4)

#define SWEEP_MS 10000

/* How many ports are tried where two peers would look the same to the box. */
#define PORT_TRIES 16

typedef struct {
        EventSource source;
        Forward *forward;
        int fd;
        int family; /* the box's side */
        struct in6_addr box_addr;
        guint16 box_port;
        guint index; /* in forward->ports */
} Port;

/* A peer as the box sees it, behind one published port. No padding: it is hashed as bytes. */
typedef struct {
        struct in6_addr addr;
        guint16 port;
        guint16 port_index;
} PeerKey;
G_STATIC_ASSERT(sizeof(PeerKey) == 20);

typedef struct {
        PeerKey key;
        Arrival real;
        int64_t used; /* s of the monotonic clock */
        bool answered, known; /* the box has answered; it has written since */
        GList link;           /* in Forward.fresh or Forward.known */
        guint64 in_bytes, in_packets; /* before it has an account */
        AccountFlow *account; /* from the peer to the box; NULL: the table was full, and the box has not answered */
} Peer;

struct Forward {
        StackSend send;
        void *send_data;
        Events *events;
        Account *account;
        EventTimer sweep;  /* set while there are peers */
        GPtrArray *ports;  /* of Port * */
        GHashTable *peers; /* PeerKey * → Peer *, which it is part of */
        GQueue fresh, known; /* all of them; the one that was silent for longest first */
        uint8_t box_mac[6]; /* broadcast until the box has sent something */
        uint8_t *buf;      /* a frame */
};

static guint peer_hash(gconstpointer p) {
        const uint8_t *bytes = p;
        guint hash = 5381;
        for (size_t i = 0; i < sizeof(PeerKey); i++)
                hash = hash * 33 + bytes[i];
        return hash;
}

static gboolean peer_equal(gconstpointer a, gconstpointer b) {
        return memcmp(a, b, sizeof(PeerKey)) == 0;
}

static void port_free(Port *port) {
        events_remove(port->forward->events, &port->source);
        fd_closep(&port->fd);
        g_free(port);
}

static int64_t now_s(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec;
}

static GQueue *queue_of(Forward *forward, const Peer *peer) {
        return peer->known ? &forward->known : &forward->fresh;
}

static void touch(Forward *forward, Peer *peer, int64_t now, bool known) {
        g_queue_unlink(queue_of(forward, peer), &peer->link);
        peer->known |= known;
        peer->used = now;
        g_queue_push_tail_link(queue_of(forward, peer), &peer->link);
}

static void forget_peer(Forward *forward, Peer *peer, const char *how) {
        if (peer->account)
                account_end(forward->account, peer->account, how);
        g_queue_unlink(queue_of(forward, peer), &peer->link);
        g_hash_table_remove(forward->peers, &peer->key); /* frees it */
}

/* Those of a port (NULL: of any) that were not heard of since then, in s. */
static void forget_peers(Forward *forward, const Port *port, int64_t since, const char *how) {
        GQueue *const queues[] = { &forward->fresh, &forward->known };

        for (size_t i = 0; i < G_N_ELEMENTS(queues); i++)
                for (GList *link = queues[i]->head, *next; link && ((Peer *) link->data)->used < since; link = next) {
                        next = link->next;
                        if (!port || ((Peer *) link->data)->key.port_index == port->index)
                                forget_peer(forward, link->data, how);
                }
}

/* For one more. False: at the cost of another. */
static bool make_room(Forward *forward) {
        if (g_hash_table_size(forward->peers) < PEERS_MAX)
                return true;
        const GQueue *queue = forward->fresh.length > FRESH_SHARE ? &forward->fresh : &forward->known;
        forget_peer(forward, queue->head->data, "forgotten");
        return false;
}

static void on_sweep(EventTimer *timer) {
        Forward *forward = EVENTS_OWNER(timer, Forward, sweep);

        forget_peers(forward, NULL, now_s() - PEER_SECONDS, "timeout");
        timer->at = g_hash_table_size(forward->peers) > 0 ? events_now(forward->events) + SWEEP_MS : -1;
}

Forward *forward_new(Events *events, Account *account, StackSend send, void *data) {
        Forward *forward = g_new0(Forward, 1);
        forward->send = send;
        forward->send_data = data;
        forward->events = events;
        forward->account = account;
        forward->sweep = (EventTimer){ .fire = on_sweep, .at = -1 };
        events_add_timer(events, &forward->sweep);
        forward->ports = g_ptr_array_new_with_free_func((GDestroyNotify) port_free);
        forward->peers = g_hash_table_new_full(peer_hash, peer_equal, NULL, g_free);
        g_queue_init(&forward->fresh);
        g_queue_init(&forward->known);
        memset(forward->box_mac, 0xff, sizeof forward->box_mac);
        return forward;
}

void forward_free(Forward *forward) {
        if (!forward)
                return;
        forget_peers(forward, NULL, G_MAXINT64, "open");
        g_ptr_array_unref(forward->ports);
        g_hash_table_unref(forward->peers);
        g_free(forward->buf);
        g_free(forward);
}

void forward_visible(int family, const struct sockaddr_storage *real, struct in6_addr *ret_addr, guint16 *ret_port) {
        (void) address_of_socket((const struct sockaddr *) real, ret_addr, ret_port);
        if (family == AF_INET) {
                if (real->ss_family != AF_INET || ret_addr->s6_addr[12] == 127 || policy_is_subnet(AF_INET, ret_addr))
                        *ret_addr = subnet_ipv4()->gateway;
                return;
        }
        if (IN6_IS_ADDR_LOOPBACK(ret_addr) || IN6_IS_ADDR_LINKLOCAL(ret_addr) || policy_is_subnet(AF_INET6, ret_addr))
                inet_pton(AF_INET6, NET_GATEWAY_IPV6, ret_addr);
}

/* Who writes to two of the host's addresses is two peers: the box could not say else which of them answers. */
static bool is_same(const Peer *peer, const Arrival *real) {
        return peer->real.from_len == real->from_len && memcmp(&peer->real.from, &real->from, real->from_len) == 0 && address_same(&peer->real.to, &real->to);
}

static void account_peer(Forward *forward, const Port *port, Peer *peer) {
        AccountKey flow = { .protocol = IPPROTO_UDP, .family = port->family, .dst = port->box_addr, .dport = port->box_port };

        if (peer->account)
                return;
        (void) address_of_socket((const struct sockaddr *) &peer->real.from, &flow.src, &flow.sport);
        peer->account = account_start(forward->account, &flow, NULL, ACCOUNT_PORT, NULL, NULL);
        account_moved(peer->account, 0, 0, peer->in_bytes, peer->in_packets);
}

static void peer_received(Peer *peer, guint64 bytes) {
        if (peer->account) {
                account_moved(peer->account, 0, 0, bytes, 1);
                return;
        }
        peer->in_bytes += bytes;
        peer->in_packets++;
}

static Peer *new_peer(Forward *forward, const PeerKey *key) {
        Peer *peer = g_new0(Peer, 1);

        peer->key = *key;
        peer->link.data = peer;
        g_queue_push_tail_link(&forward->fresh, &peer->link);
        g_hash_table_insert(forward->peers, &peer->key, peer);
        if (forward->sweep.at < 0)
                forward->sweep.at = events_now(forward->events) + SWEEP_MS;
        return peer;
}

/* The peer behind real, remembered. */
static Peer *take_peer(Forward *forward, const Port *port, const Arrival *real) {
        int64_t now = now_s(), stale = now - PEER_SECONDS;
        bool roomy = false;
        PeerKey key = { .port_index = (guint16) port->index };
        Peer *peer = NULL;

        forward_visible(port->family, &real->from, &key.addr, &key.port);
        for (int i = 0; i < PORT_TRIES; i++, key.port++) {
                peer = g_hash_table_lookup(forward->peers, &key);
                if (!peer || peer->used < stale || is_same(peer, real))
                        break;
        }
        if (peer && !is_same(peer, real))
                forget_peer(forward, g_steal_pointer(&peer), "timeout");
        if (!peer) {
                roomy = make_room(forward);
                peer = new_peer(forward, &key);
        }
        peer->real = *real;
        if (roomy)
                account_peer(forward, port, peer);
        touch(forward, peer, now, peer->answered);
        return peer;
}

static void answer(const Port *port, Peer *peer, const Packet *packet) {
        const uint8_t *data = packet->frame + packet->l4 + UDP_LEN;
        size_t at = 0, len = packet_udp_len(packet);

        do {
                size_t part = packet_datagram_len(packet, at);
                /* As on any network, what the socket does not take is lost. */
                (void) arrival_answer(port->fd, data + at, part, &peer->real);
                account_moved(peer->account, part, 1, 0, 0);
                at += part;
        } while (at < len);
}

bool forward_input(Forward *forward, const Packet *packet) {
        if (packet->family == AF_UNSPEC)
                return false;
        memcpy(forward->box_mac, packet->frame + 6, sizeof forward->box_mac);
        if (packet->protocol != IPPROTO_UDP)
                return false;

        for (guint i = 0; i < forward->ports->len; i++) {
                const Port *port = forward->ports->pdata[i];
                if (port->fd < 0 || port->family != packet->family || port->box_port != packet->sport ||
                    memcmp(&port->box_addr, &packet->src, sizeof packet->src) != 0)
                        continue;

                PeerKey key = { .addr = packet->dst, .port = packet->dport, .port_index = (guint16) i };
                Peer *peer = g_hash_table_lookup(forward->peers, &key);
                int64_t now = now_s();
                if (!peer || peer->used < now - PEER_SECONDS)
                        continue;
                peer->answered = true;
                touch(forward, peer, now, false);
                account_peer(forward, port, peer);
                answer(port, peer, packet);
                return true;
        }
        return false;
}

/* One datagram from the socket to the box. False: there is none. */
static bool take_datagram(Forward *forward, const Port *port) {
        Arrival real;
        size_t headers = PACKET_ETH_LEN + (port->family == AF_INET ? 20 : 40) + UDP_LEN;
        /* What an IPv4 packet cannot hold is cut by one byte more, and seen by that. */
        size_t room = 65535 - (headers - PACKET_ETH_LEN) + 1;

        ssize_t n = arrival_receive(port->fd, forward->buf + headers, room, &real);
        if (n < 0)
                return errno == EINTR;
        if ((size_t) n == room)
                return true;
        Peer *peer = take_peer(forward, port, &real);
        peer_received(peer, (guint64) n);
        size_t udp_len = UDP_LEN + (size_t) n;
        uint8_t *udp = forward->buf + packet_write_headers(forward->buf, forward->box_mac, port->family,
                                                           &peer->key.addr, &port->box_addr, IPPROTO_UDP, udp_len);
        packet_put16(udp, peer->key.port);
        packet_put16(udp + 2, port->box_port);
        packet_put16(udp + 4, (unsigned) udp_len);
        packet_put16(udp + 6, 0);
        packet_put16(udp + 6,
                     packet_l4_checksum(port->family, &peer->key.addr, &port->box_addr, IPPROTO_UDP, udp, udp_len));
        forward->send(forward->buf, headers + (size_t) n, forward->send_data);
        return true;
}

static void on_datagrams(EventSource *source, uint32_t events) {
        const Port *port = EVENTS_OWNER(source, Port, source);
        for (int n = 0; n < DATAGRAMS_PER_TURN && take_datagram(port->forward, port); n++)
                ;
}

guint16 forward_publish(Forward *forward, const NetPublish *publish, GError **error) {
        struct sockaddr_storage host, box;
        socklen_t host_len = net_publish_host(publish, &host);
        net_publish_box(publish, &box);

        _cleanup_close_ int fd = socket(host.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int on = 1;
        if (fd < 0 || (host.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
            !arrival_want(fd, host.ss_family) || bind(fd, (struct sockaddr *) &host, host_len) < 0 ||
            getsockname(fd, (struct sockaddr *) &host, &host_len) < 0) {
                net_publish_failed(publish, errno, error);
                return 0;
        }

        Port *port = g_new0(Port, 1);
        *port = (Port){ .source.fd = -1, .forward = forward, .fd = fd_steal(&fd), .family = box.ss_family, .box_port = publish->box_port,
                        .index = forward->ports->len };
        g_ptr_array_add(forward->ports, port);
        port->source.ready = on_datagrams;
        if (!events_add(forward->events, &port->source, port->fd, EPOLLIN)) {
                net_publish_failed(publish, errno, error);
                return 0;
        }
        (void) address_of_socket((const struct sockaddr *) &box, &port->box_addr, NULL);
        if (!forward->buf)
                forward->buf = g_malloc(PACKET_ETH_LEN + 65536);
        return net_sockaddr_port(&host);
}

/* Its place stays, since peers are known by that; nothing comes through it any more. */
void forward_unpublish(Forward *forward, const NetPublish *publish) {
        struct sockaddr_storage host, bound;
        socklen_t len = net_publish_host(publish, &host);

        for (guint i = 0; i < forward->ports->len; i++) {
                Port *port = forward->ports->pdata[i];
                socklen_t bound_len = sizeof bound;
                memset(&bound, 0, sizeof bound);
                if (port->fd < 0 || getsockname(port->fd, (struct sockaddr *) &bound, &bound_len) < 0 || memcmp(&bound, &host, len) != 0)
                        continue;
                forget_peers(forward, port, G_MAXINT64, "closed");
                events_remove(forward->events, &port->source);
                fd_closep(&port->fd);
                return;
        }
}
