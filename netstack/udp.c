/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's UDP, without libslirp: for each flow (address and port on both sides) a socket of the host's that is connected to the peer.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: behind the policy, beside libslirp, which sees no UDP but DHCP.
 *
 * A connected socket takes datagrams from its peer alone, and the kernel tells it of ICMP errors; those come with the router's address, type and
 * code (errqueue.c), and so the box gets them as they were: a closed port, an unreachable net, a hop of traceroute.
 *
 * Out: datagrams of one flow and one length that come one after the other are one sendmsg(2), which the kernel cuts again (UDP_SEGMENT). In: the
 * kernel gives what arrived together as one piece (UDP_GRO), which is one frame on the TAP again, and cut by the box's kernel; or by us, where that takes
 * no such frame or each one counts. A datagram is of whatever length: the MTU is that of what the box sends.
 *
 * The kernel chooses the address that a socket sends from when it is connected. Where the host has that one no more, as a laptop in another network, the
 * socket is connected anew, for the next datagram: a program in the box sees a loss, as behind any router. Where the host has no way at all, or a firewall
 * against it, the box is told so.
 *
 * A flow ends when nothing was heard for a while. The table has an end, and descriptors too: then a flow goes that was never answered, the one that
 * was silent for longest; one that was, only where those have no more than their share. So a program that sends to everybody does not end the flows of
 * others, and where there are many of others, as a name server's, who is new finds room for an answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "netstack/dgram.h"
#include "netstack/errqueue.h"
#include "netstack/tap.h"
#include "netstack/udp.h"

#define UDP_LEN 8

/* And no more than half of the descriptors that there may be: the rest is for TCP. */
#define FLOWS_MAX 4096u

/* Of those that there are, one of so many may be one that was not answered yet. */
#define FRESH_SHARE 4u

/* As conntrack has it for what was not answered and what was, in ms. */
#define IDLE_NEW 30000
#define IDLE_ANSWERED 120000
#define SWEEP_MS 5000

/* Linux's UDP_MAX_SEGMENTS before 6.9, and what one IPv4 packet holds. */
#define SEGMENTS_MAX 64
#define BATCH_BYTES 65507

#define RECEIVE_BYTES 65536
#define RECEIVE_AT (TAP_ROOM + PACKET_UDP_HEADERS_MAX)
#define RECEIVES_PER_TURN 32

/* A packet with another is one that the program chose (traceroute). */
#define DEFAULT_HOPS 64

typedef struct {
        AccountKey key;
        Udp *owner;
        EventSource source;
        AccountFlow *account;
        uint8_t mac[6]; /* the box's */
        uint8_t hops;   /* as the socket has them */
        struct in6_addr to; /* the peer, as the host sees it */
        bool stale;     /* the socket's own address is none of the host's any more */
        bool answered;
        int64_t used;
        GList link;     /* in Udp.fresh or Udp.known */
} Flow;

struct Udp {
        Events *events;
        Account *account;
        StackSend send;
        UdpSend send_datagrams; /* NULL: send */
        void *send_data;
        bool one_by_one;     /* the kernel takes one datagram at a time */
        GHashTable *flows;   /* Flow.key → Flow */
        guint flows_max;
        GQueue fresh, known; /* not answered, answered; the one that was silent for longest first */
        EventTimer sweep;
        uint8_t *buf;        /* room for what stands before the data of a frame for the box, and what was received */
        /* The datagrams that wait. */
        Flow *batch;         /* NULL: none do */
        uint8_t *batch_buf;
        size_t batch_len, segment; /* bytes of all, and of each but the last, which may be shorter */
        unsigned n_segments;
        uint8_t headers[PACKET_UDP_HEADERS_MAX]; /* of the last that was judged */
        size_t headers_len;           /* up to the data */
};

static GQueue *queue_of(Flow *flow) {
        return flow->answered ? &flow->owner->known : &flow->owner->fresh;
}

static void touch(Flow *flow, bool answer) {
        g_queue_unlink(queue_of(flow), &flow->link);
        flow->answered |= answer;
        flow->used = events_now(flow->owner->events);
        g_queue_push_tail_link(queue_of(flow), &flow->link);
}

static void end_flow(Flow *flow, const char *how) {
        Udp *udp = flow->owner;
        int fd = flow->source.fd;

        if (udp->batch == flow)
                udp->batch = NULL;
        account_end(udp->account, flow->account, how);
        g_queue_unlink(queue_of(flow), &flow->link);
        events_remove(udp->events, &flow->source);
        fd_closep(&fd);
        g_hash_table_remove(udp->flows, &flow->key); /* frees it */
}

/* AccountCut */
static void cut(AccountFlow *account, void *carrier) {
        end_flow(carrier, "denied");
}

static void sweep_queue(GQueue *queue, int64_t limit) {
        while (queue->head && ((Flow *) queue->head->data)->used < limit)
                end_flow(queue->head->data, "timeout");
}

static void on_sweep(EventTimer *timer) {
        Udp *udp = EVENTS_OWNER(timer, Udp, sweep);
        int64_t now = events_now(udp->events);

        sweep_queue(&udp->fresh, now - IDLE_NEW);
        sweep_queue(&udp->known, now - IDLE_ANSWERED);
        timer->at = udp->fresh.length + udp->known.length > 0 ? now + SWEEP_MS : -1;
}

Udp *udp_new(Events *events, Account *account, StackSend send, UdpSend send_datagrams, void *data) {
        Udp *udp = g_new0(Udp, 1);
        struct rlimit limit;

        *udp = (Udp){ .events = events, .account = account, .send = send, .send_datagrams = send_datagrams, .send_data = data,
                      .sweep = { .fire = on_sweep, .at = -1 } };
        udp->flows_max = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (guint) MIN(limit.rlim_cur / 2, FLOWS_MAX) : FLOWS_MAX;
        udp->flows = g_hash_table_new_full(account_key_hash, account_key_equal, NULL, g_free);
        g_queue_init(&udp->fresh);
        g_queue_init(&udp->known);
        udp->buf = g_malloc(RECEIVE_AT + RECEIVE_BYTES);
        udp->batch_buf = g_malloc(RECEIVE_BYTES);
        events_add_timer(events, &udp->sweep);
        return udp;
}

void udp_free(Udp *udp) {
        if (!udp)
                return;
        while (udp->fresh.head)
                end_flow(udp->fresh.head->data, "open");
        while (udp->known.head)
                end_flow(udp->known.head->data, "open");
        g_hash_table_unref(udp->flows);
        g_free(udp->buf);
        g_free(udp->batch_buf);
        g_free(udp);
}

/* Some at once, or where the kernel does not take that one alone. Returns the bytes that went. */
static size_t send_part(Flow *flow, uint8_t *frame, size_t len, size_t segment) {
        Udp *udp = flow->owner;
        const AccountKey *k = &flow->key;
        size_t most = udp->one_by_one ? 1 : CLAMP(BATCH_BYTES / segment, 1, TAP_DATAGRAMS_MAX), one = MIN(segment, len), part = MIN(len, segment * most);

        if (!udp->send_datagrams) {
                size_t n = packet_write_udp(frame, flow->mac, k->family, &k->dst, k->dport, &k->src, k->sport, one);
                udp->send(frame, n, udp->send_data);
                return one;
        }
        size_t n = packet_write_udp_unsummed(frame, flow->mac, k->family, &k->dst, k->dport, &k->src, k->sport, part);
        if (udp->send_datagrams(frame, n, (uint16_t) segment, udp->send_data) || part == one)
                return part;
        udp->one_by_one = true;
        return 0;
}

/* What was received as one piece, as the datagrams that it was. Each frame's headers overwrite the end of the one before, which is sent. */
static void send_to_box(Flow *flow, size_t len, size_t segment) {
        uint8_t *frame = flow->owner->buf + RECEIVE_AT - packet_udp_payload(flow->key.family);
        size_t at = 0;

        do
                at += send_part(flow, frame + at, len - at, segment);
        while (at < len);
        account_moved(flow->account, 0, 0, len, MAX((len + segment - 1) / segment, 1));
}

/* The packet that an error is about is made anew: the box's kernel finds its socket by that. */
static size_t write_sent(const AccountKey *k, const uint8_t mac[6], uint8_t frame[static PACKET_UDP_HEADERS_MAX]) {
        size_t len = packet_write_udp(frame, mac, k->family, &k->src, k->sport, &k->dst, k->dport, 0);
        memcpy(frame + 6, mac, 6); /* who is answered */
        return len;
}

/* The error as the box would have got it on a path of its own. */
static void send_error(const Flow *flow, const ReplyIcmp *error) {
        uint8_t frame[PACKET_UDP_HEADERS_MAX];

        size_t len = write_sent(&flow->key, flow->mac, frame);
        dgram_tell_icmp(frame, len, error, flow->owner->send, flow->owner->send_data);
}

static void tell_errno(const Udp *udp, const AccountKey *key, const uint8_t mac[6], int errnum) {
        uint8_t frame[PACKET_UDP_HEADERS_MAX];
        Packet packet;

        if (packet_parse(frame, write_sent(key, mac, frame), &packet))
                dgram_tell_errno(&packet, errnum, udp->send, udp->send_data);
}

/* It did not leave the host, which has no way there any more, or a firewall against it. What others said is in the queue of errors. */
static void tell_unsent(const Flow *flow, int errnum) {
        if (errnum != ENETUNREACH && errnum != ENETDOWN && errnum != EHOSTUNREACH && errnum != EADDRNOTAVAIL && errnum != EACCES && errnum != EPERM)
                return;
        tell_errno(flow->owner, &flow->key, flow->mac, errnum);
}

static void take_errors(Flow *flow) {
        ErrqueueError e = { .quoted_len = 0 };
        bool told;

        for (int i = 0; i < RECEIVES_PER_TURN && errqueue_take(flow->source.fd, &e, &told); i++)
                if (told)
                        send_error(flow, &e.icmp);
}

/* One piece from the host. False: there is none. */
static bool take_datagrams(Flow *flow) {
        Udp *udp = flow->owner;
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = udp->buf + RECEIVE_AT, .iov_len = RECEIVE_BYTES };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
        int segment = 0;

        ssize_t n = recvmsg(flow->source.fd, &msg, 0);
        if (n < 0)
                return errno == EINTR || (errno != EAGAIN && errno != EBADF); /* an error of the queue's is told once here too */
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
                if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
                        memcpy(&segment, CMSG_DATA(c), sizeof segment);
        touch(flow, true);
        send_to_box(flow, (size_t) n, segment > 0 ? (size_t) segment : MAX((size_t) n, 1));
        return true;
}

static void on_ready(EventSource *source, uint32_t events) {
        Flow *flow = EVENTS_OWNER(source, Flow, source);

        if (events & EPOLLERR)
                take_errors(flow);
        for (int i = 0; i < RECEIVES_PER_TURN && take_datagrams(flow); i++)
                ;
}

/* The flow that another has to go for. False: there is none. */
static bool evict(void *data) {
        Udp *udp = data;
        guint share = (udp->fresh.length + udp->known.length) / FRESH_SHARE;
        GQueue *queue = udp->fresh.length > share || !udp->known.head ? &udp->fresh : &udp->known;

        if (!queue->head)
                return false;
        end_flow(queue->head->data, "forgotten");
        return true;
}

/* A socket that is connected to the peer; -1 with errno. */
static int open_socket(Udp *udp, const AccountKey *key, const struct in6_addr *to) {
        const int on = 1;
        int fd = dgram_open(key->family, 0, to, key->dport, evict, udp);

        if (fd >= 0)
                (void) setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on); /* Linux 5.0 */
        return fd;
}

static Flow *new_flow(Udp *udp, const AccountKey *key, const Packet *packet, const PolicyDecision *decision) {
        if (g_hash_table_size(udp->flows) >= udp->flows_max)
                (void) evict(udp);
        int fd = open_socket(udp, key, &decision->to);
        if (fd < 0) {
                tell_errno(udp, key, packet->frame + 6, errno);
                return NULL;
        }
        Flow *flow = g_new0(Flow, 1);
        flow->owner = udp;
        flow->source.ready = on_ready;
        flow->hops = DEFAULT_HOPS;
        flow->to = decision->to;
        memcpy(&flow->key, key, sizeof flow->key);
        if (!events_add(udp->events, &flow->source, fd, EPOLLIN)) {
                close(fd);
                g_free(flow);
                return NULL;
        }
        flow->account = account_start(udp->account, key, decision, ACCOUNT_UDP, cut, flow);
        flow->link.data = flow;
        g_queue_push_tail_link(&udp->fresh, &flow->link);
        g_hash_table_insert(udp->flows, &flow->key, flow);
        if (udp->sweep.at < 0)
                udp->sweep.at = events_now(udp->events) + SWEEP_MS;
        return flow;
}

static void mark_stale(void *data, void *policy) {
        Flow *flow = data;
        flow->stale |= !dgram_is_at_home(flow->source.fd, policy);
}

void udp_host_changed(Udp *udp, const Policy *policy) {
        g_queue_foreach(&udp->fresh, mark_stale, (void *) policy);
        g_queue_foreach(&udp->known, mark_stale, (void *) policy);
}

/* All of the batch by one call. False: the kernel or the path does not do that. */
static bool send_segments(const Udp *udp) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(uint16_t))];
        } control = { 0 };
        struct iovec iov = { .iov_base = udp->batch_buf, .iov_len = udp->batch_len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
        uint16_t segment = (uint16_t) udp->segment;

        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
        /* What a full queue loses is lost, as on any wire. */
        return sendmsg(udp->batch->source.fd, &msg, MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == ENOBUFS;
}

static bool try_send(int fd, const uint8_t *data, size_t len) {
        return send(fd, data, len, MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == ENOBUFS;
}

/* An error of an earlier datagram's may be told here, for which this one was not sent: once more. */
static bool send_one(int fd, const uint8_t *data, size_t len) {
        bool sent = try_send(fd, data, len);

        return sent || try_send(fd, data, len);
}

static void send_each(const Udp *udp) {
        int errnum = 0;
        size_t at = 0;

        do {
                size_t part = MIN(udp->segment, udp->batch_len - at);
                if (!send_one(udp->batch->source.fd, udp->batch_buf + at, part))
                        errnum = errno;
                at += part;
        } while (at < udp->batch_len);
        tell_unsent(udp->batch, errnum);
}

void udp_flush(Udp *udp) {
        Flow *flow = udp->batch;

        if (!flow)
                return;
        account_moved(flow->account, udp->batch_len, udp->n_segments, 0, 0);
        if (flow->stale)
                flow->stale = !dgram_renew(flow->source.fd, flow->key.family, &flow->to, flow->key.dport);
        if (flow->stale)
                tell_unsent(flow, errno);
        else if (udp->n_segments == 1 || !send_segments(udp))
                send_each(udp);
        udp->batch = NULL;
}

static void set_hops(Flow *flow, uint8_t hops) {
        if (flow->hops == hops)
                return;
        udp_flush(flow->owner);
        dgram_set_hops(flow->source.fd, flow->key.family, hops);
        flow->hops = hops;
}

/* Does this datagram go with those that wait? */
static bool fits(const Udp *udp, const Flow *flow, size_t len) {
        return udp->batch == flow && len > 0 && len <= udp->segment && udp->batch_len == udp->segment * udp->n_segments && udp->n_segments < SEGMENTS_MAX &&
               udp->batch_len + len <= BATCH_BYTES;
}

bool udp_has(const Udp *udp, const Packet *packet) {
        const AccountKey key = account_key_of(packet);
        return g_hash_table_contains(udp->flows, &key);
}

static void append_one(Udp *udp, Flow *flow, const uint8_t *data, size_t len) {
        if (!fits(udp, flow, len)) {
                udp_flush(udp);
                udp->batch = flow;
                udp->segment = len;
                udp->batch_len = 0;
                udp->n_segments = 0;
        }
        memcpy(udp->batch_buf + udp->batch_len, data, len);
        udp->batch_len += len;
        udp->n_segments++;
}

static void append(Udp *udp, Flow *flow, const Packet *packet) {
        const uint8_t *data = packet->frame + packet->l4 + UDP_LEN;
        size_t at = 0, len = packet_udp_len(packet);

        do {
                size_t part = packet_datagram_len(packet, at);
                append_one(udp, flow, data + at, part);
                at += part;
        } while (at < len);
}

void udp_input(Udp *udp, const Packet *packet, const PolicyDecision *decision) {
        const AccountKey key = account_key_of(packet);

        Flow *flow = g_hash_table_lookup(udp->flows, &key);
        if (!flow && !(flow = new_flow(udp, &key, packet, decision)))
                return;
        memcpy(flow->mac, packet->frame + 6, sizeof flow->mac);
        set_hops(flow, packet->hops);
        touch(flow, false);
        append(udp, flow, packet);
        udp->headers_len = packet->l4 + UDP_LEN;
        memcpy(udp->headers, packet->frame, udp->headers_len);
}

/* But for lengths, and IPv4's number and sum, which are the datagram's own. */
static bool same_headers(const uint8_t *a, const uint8_t *b, bool v4) {
        size_t ip = PACKET_ETH_LEN;

        if (!v4)
                return memcmp(a, b, ip + 4) == 0 && memcmp(a + ip + 6, b + ip + 6, 38) == 0;
        return memcmp(a, b, ip + 2) == 0 && memcmp(a + ip + 6, b + ip + 6, 4) == 0 && memcmp(a + ip + 12, b + ip + 12, 12) == 0;
}

bool udp_input_next(Udp *udp, const uint8_t *frame, size_t len, uint16_t segment) {
        size_t headers = udp->headers_len;
        bool v4 = headers < PACKET_UDP_HEADERS_MAX;

        if (!udp->batch || len < headers || !same_headers(udp->headers, frame, v4))
                return false;
        size_t udp_len = packet_get16(frame + headers - UDP_LEN + 4), ip_len = packet_get16(frame + PACKET_ETH_LEN + (v4 ? 2 : 4));
        if (udp_len < UDP_LEN || udp_len > len - (headers - UDP_LEN) || ip_len != udp_len + (v4 ? 20 : 0))
                return false;
        append(udp, udp->batch, &(Packet){ .frame = frame, .l4 = headers - UDP_LEN, .segment = segment });
        return true;
}
