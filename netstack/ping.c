/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's echo requests to the outside.
 *
 * Role: usbox-net. Privileges: none; ping sockets (icmp(7)) are for the groups of net.ipv4.ping_group_range. Threads: one. Order: behind the
 * policy, beside libslirp, which answers for the gateway and the resolver alone.
 *
 * libslirp has echo by IPv4 alone, with a hop limit of its own and without the errors of routers. Here both are the same: a connected ping socket,
 * whose kernel writes the identifier and the checksum, and finds the answers by them. The identifier is changed back on the way to the
 * box; what routers said comes with their addresses (errqueue.c), so that traceroute -I and mtr work.
 *
 * The table has an end, and descriptors too: then the flow goes that was silent for longest.
 */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "netstack/dgram.h"
#include "netstack/errqueue.h"
#include "netstack/ping.h"

#define ICMP_LEN 8
#define FLOWS_MAX 512
#define IDLE_MS 30000 /* as conntrack has it */
#define SWEEP_MS 5000
#define RECEIVE_BYTES (65535 - 20) /* what an IPv4 packet holds; one of IPv6 holds no more that the box has asked for */
#define RECEIVES_PER_TURN 32
#define DEFAULT_HOPS 64

typedef struct {
        AccountKey key; /* sport: the box's identifier */
        Ping *owner;
        EventSource source;
        AccountFlow *account;
        uint8_t mac[6]; /* the box's */
        uint8_t hops;   /* as the socket has them */
        int64_t used;
        GList link;     /* in Ping.by_use */
} Flow;

struct Ping {
        Events *events;
        Account *account;
        StackSend send;
        void *send_data;
        GHashTable *flows; /* Flow.key → Flow */
        GQueue by_use;     /* the one that was silent for longest first */
        EventTimer sweep;
        uint8_t *buf;      /* a frame's headers, and what was received */
};

static void end_flow(Flow *flow, const char *how) {
        Ping *ping = flow->owner;
        int fd = flow->source.fd;

        account_end(ping->account, flow->account, how);
        g_queue_unlink(&ping->by_use, &flow->link);
        events_remove(ping->events, &flow->source);
        fd_closep(&fd);
        g_hash_table_remove(ping->flows, &flow->key); /* frees it */
}

/* AccountCut */
static void cut(AccountFlow *account, void *carrier) {
        end_flow(carrier, "denied");
}

static void on_sweep(EventTimer *timer) {
        Ping *ping = EVENTS_OWNER(timer, Ping, sweep);
        int64_t now = events_now(ping->events);

        while (ping->by_use.head && now - ((Flow *) ping->by_use.head->data)->used > IDLE_MS)
                end_flow(ping->by_use.head->data, "timeout");
        timer->at = ping->by_use.length > 0 ? now + SWEEP_MS : -1;
}

Ping *ping_new(Events *events, Account *account, StackSend send, void *data) {
        Ping *ping = g_new0(Ping, 1);

        *ping = (Ping){ .events = events, .account = account, .send = send, .send_data = data, .sweep = { .fire = on_sweep, .at = -1 } };
        ping->flows = g_hash_table_new_full(account_key_hash, account_key_equal, NULL, g_free);
        g_queue_init(&ping->by_use);
        events_add_timer(events, &ping->sweep);
        return ping;
}

void ping_free(Ping *ping) {
        if (!ping)
                return;
        while (ping->by_use.head)
                end_flow(ping->by_use.head->data, "open");
        g_hash_table_unref(ping->flows);
        g_free(ping->buf);
        g_free(ping);
}

static void touch(Flow *flow) {
        Ping *ping = flow->owner;

        flow->used = events_now(ping->events);
        g_queue_unlink(&ping->by_use, &flow->link);
        g_queue_push_tail_link(&ping->by_use, &flow->link);
}

/* Fill in what the box knows its request by, and the checksum, in len bytes of ICMP that stand between these addresses. */
static void sign(const Flow *flow, const struct in6_addr *src, const struct in6_addr *dst, uint8_t type, uint8_t *icmp, size_t len) {
        icmp[0] = type;
        icmp[1] = 0;
        packet_put16(icmp + 2, 0);
        packet_put16(icmp + 4, flow->key.sport);
        packet_put16(icmp + 2, packet_l4_checksum(flow->key.family, src, dst, flow->key.protocol, icmp, len));
}

/* One answer from the host. False: there is none. */
static bool take_answer(Flow *flow) {
        Ping *ping = flow->owner;
        const AccountKey *k = &flow->key;
        bool v4 = k->family == AF_INET;
        uint8_t *frame = ping->buf, *icmp = frame + PACKET_ETH_LEN + (v4 ? 20 : 40);

        ssize_t n = recv(flow->source.fd, icmp, RECEIVE_BYTES, 0);
        if (n < 0)
                return errno == EINTR || (errno != EAGAIN && errno != EBADF); /* an error of the queue's is told once here too */
        if (n < ICMP_LEN || icmp[0] != (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY))
                return true;
        touch(flow);
        (void) packet_write_headers(frame, flow->mac, k->family, &k->dst, &k->src, k->protocol, (size_t) n);
        sign(flow, &k->dst, &k->src, icmp[0], icmp, (size_t) n);
        ping->send(frame, (size_t) (icmp - frame) + (size_t) n, ping->send_data);
        account_moved(flow->account, 0, 0, (guint64) n - ICMP_LEN, 1);
        return true;
}

/* The error as the box would have got it on a path of its own, about the request with that sequence number. */
static void send_error(const Flow *flow, const ErrqueueError *e) {
        uint8_t frame[PACKET_ETH_LEN + 40 + ICMP_LEN];
        const AccountKey *k = &flow->key;

        if (e->quoted_len < ICMP_LEN)
                return;
        size_t at = packet_write_headers(frame, flow->mac, k->family, &k->src, &k->dst, k->protocol, ICMP_LEN);
        memcpy(frame + 6, flow->mac, sizeof flow->mac); /* who is answered */
        memcpy(frame + at, e->quoted, ICMP_LEN);
        sign(flow, &k->src, &k->dst, k->family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST, frame + at, ICMP_LEN);
        dgram_tell_icmp(frame, at + ICMP_LEN, &e->icmp, flow->owner->send, flow->owner->send_data);
}

static void on_ready(EventSource *source, uint32_t events) {
        Flow *flow = EVENTS_OWNER(source, Flow, source);
        ErrqueueError e = { .quoted_len = 0 };
        bool told;

        for (int i = 0; events & EPOLLERR && i < RECEIVES_PER_TURN && errqueue_take(source->fd, &e, &told); i++)
                if (told)
                        send_error(flow, &e);
        for (int i = 0; i < RECEIVES_PER_TURN && take_answer(flow); i++)
                ;
}

static bool evict(void *data) {
        Ping *ping = data;
        if (!ping->by_use.head)
                return false;
        end_flow(ping->by_use.head->data, "forgotten");
        return true;
}

static Flow *new_flow(Ping *ping, const AccountKey *key, const Packet *packet, const PolicyDecision *decision) {
        AccountKey told = *key;

        if (g_hash_table_size(ping->flows) >= FLOWS_MAX)
                (void) evict(ping);
        int fd = dgram_open(key->family, key->protocol, &decision->to, 0, evict, ping);
        if (fd < 0) {
                dgram_tell_errno(packet, errno, ping->send, ping->send_data);
                return NULL;
        }
        Flow *flow = g_new0(Flow, 1);
        flow->owner = ping;
        flow->source.ready = on_ready;
        flow->hops = DEFAULT_HOPS;
        memcpy(&flow->key, key, sizeof flow->key);
        if (!events_add(ping->events, &flow->source, fd, EPOLLIN)) {
                close(fd);
                g_free(flow);
                return NULL;
        }
        if (!ping->buf) /* most boxes never ping */
                ping->buf = g_malloc(PACKET_ETH_LEN + 40 + RECEIVE_BYTES);
        told.sport = 0; /* ICMP has no ports */
        flow->account = account_start(ping->account, &told, decision, ACCOUNT_UDP, cut, flow);
        flow->link.data = flow;
        g_queue_push_tail_link(&ping->by_use, &flow->link);
        g_hash_table_insert(ping->flows, &flow->key, flow);
        if (ping->sweep.at < 0)
                ping->sweep.at = events_now(ping->events) + SWEEP_MS;
        return flow;
}

void ping_host_changed(Ping *ping, const Policy *policy) {
        for (GList *l = ping->by_use.head, *next; l; l = next) {
                Flow *flow = l->data;
                next = l->next;
                if (!dgram_is_at_home(flow->source.fd, policy))
                        end_flow(flow, "closed");
        }
}

static void set_hops(Flow *flow, uint8_t hops) {
        if (flow->hops == hops)
                return;
        dgram_set_hops(flow->source.fd, flow->key.family, hops);
        flow->hops = hops;
}

static AccountKey key_of(const Packet *packet) {
        return (AccountKey){ .protocol = packet->protocol, .family = packet->family, .src = packet->src, .dst = packet->dst,
                             .sport = packet_get16(packet->frame + packet->l4 + 4) };
}

bool ping_has(const Ping *ping, const Packet *packet) {
        const AccountKey key = key_of(packet);
        return g_hash_table_contains(ping->flows, &key);
}

void ping_input(Ping *ping, const Packet *packet, const PolicyDecision *decision) {
        const uint8_t *icmp = packet->frame + packet->l4;
        const AccountKey key = key_of(packet);

        Flow *flow = g_hash_table_lookup(ping->flows, &key);
        if (!flow && !(flow = new_flow(ping, &key, packet, decision)))
                return;
        memcpy(flow->mac, packet->frame + 6, sizeof flow->mac);
        set_hops(flow, packet->hops);
        touch(flow);
        account_moved(flow->account, packet->l4_len - ICMP_LEN, 1, 0, 0);
        /* An error of an earlier request's may be told here, for which this one was not sent: once more. */
        for (int i = 0; i < 2; i++)
                if (send(flow->source.fd, icmp, packet->l4_len, MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == ENOBUFS)
                        return;
        dgram_tell_errno(packet, errno, ping->send, ping->send_data);
}
