/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The TCP fast path: the box's connections by the kernel's TCP on both sides, without a frame in between.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: beside libslirp, behind the same policy.
 *
 * The story of a connection. A program in the box calls connect(2). The rules that were set when its network was made (divert.c) let the SYN out to the TAP,
 * like any frame, and there it stays: nobody answers yet. usbox-net connects to the same address on the host's side. When that has
 * succeeded, the very SYN is put back on its way by a raw socket that was born in the box's network namespace, and this time the rules lead
 * it to a listener of ours there. The box's kernel completes the handshake with itself, accept(2) gives us a socket whose local address is the
 * one that the program asked for, and from then on the two sockets are a splice. If the host's side fails, the SYN is answered by what a
 * router or the peer would say, a RST or an ICMP error; silence is answered by silence. So connect(2) in the box says what it would say on the
 * host, and at the time at which it would.
 *
 *      box's socket ⇄ lo ⇄ accepted socket ⇄ splice ⇄ connected socket ⇄ host's kernel
 *
 * Neither needs a right: a raw socket asks for it when it is made, not when it sends. NFQUEUE, the usual way to hold a packet, does: it would
 * take another process's turn for each verdict. And as no address is translated, no connection is tracked: getpeername(2) in the
 * box says what was asked for because that is so.
 *
 * In a framed network, one that is shaped or captured, the two sockets in the box are no neighbours: each sends its segments out to the TAP, where they are
 * late or lost like any frame. Those of the program's we put on their way as we do its SYN; those of ours are turned back into the box
 * (divert.c has the routes). So what a program meets there is its kernel's TCP against another one's, by a bad wire.
 *
 *      box's socket ⇄ TAP ⇄ usbox-net ⇄ raw socket, TAP ⇄ accepted socket ⇄ splice ⇄ connected socket ⇄ host's kernel
 *
 * What the box could do to all this: connect to the listener itself, or send a SYN that looks like one of these. A connection for which
 * no SYN was held, judged and connected is reset. The handshake after a SYN's release runs within the call that sends it,
 * so a connection that has not come a moment later never will: its program has gone.
 *
 * Retransmitted SYNs find the one that is held, by addresses, ports and sequence number. Another sequence number is another
 * connection: what the box's kernel has forgotten of an older one is reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/fastpath.h"
#include "netstack/near.h"
#include "netstack/reply.h"
#include "netstack/tls.h"

/* A SYN with all its options, and some data of TCP fast open. Larger ones are dropped; the box's kernel sends the next without data. */
#define SYN_MAX 2048

/* SYNs that wait for the host's side at once. One that has waited for PATIENCE ms makes room for the next: where somebody still waits for its answer, it comes
 * again. Else the new one is dropped, as by a full backlog, and comes again itself. */
#define CONNECTING_MAX 4096
#define PATIENCE 3000

/* ms after which a connection that should have come has not; in a framed network, where the handshake's segments are late or lost, as long as the
 * kernel sends a SYN again. */
#define ACCEPT_TIME 3000
#define ACCEPT_TIME_FRAMED 130000

/* ms after which a connection that has to name its server by TLS has not. */
#define HELLO_TIME 20000

/* ms for which listeners are left alone when there is no descriptor for a connection. */
#define LISTEN_PAUSE 200

/* Connections taken in one turn: programs of the box's that connect to the listener itself, in a loop, would leave nobody else one. */
#define ACCEPTS_PER_TURN 64

typedef struct {
        EventSource source;
        FastPath *fastpath;
        int fd, raw, family;
} Listener;

typedef enum {
        FLOW_CONNECTING, /* the host's side: the SYN is held */
        FLOW_ACCEPTING,  /* the SYN was let go */
        FLOW_HELLO,      /* it is accepted, and has to say by TLS where it goes */
        FLOW_OPEN,       /* the first one, too, before it is any of these */
} FlowState;

typedef struct {
        AccountKey key;
        FlowState state;
        FastPath *fastpath;
        Splice splice;
        uint32_t isn;
        uint8_t *syn; /* the frame, until it is open */
        size_t syn_len;
        bool names_itself; /* to be held against its TLS name */
        int64_t deadline; /* until it is OPEN; of CONNECTING: then it may be forgotten */
        GList link;       /* until it is OPEN: in fastpath->waiting */
        AccountFlow *account;
} Flow;

struct FastPath {
        Events *events;
        SplicePipes *pipes;
        Account *account;
        FastPathSend send;
        void *send_data;
        Listener listeners[2]; /* IPv4, IPv6 */
        GHashTable *flows;     /* Flow, by its key */
        GQueue waiting[FLOW_OPEN]; /* of Flow *, by state and deadline */
        bool told_full;
        bool framed;
        const Policy *policy;
        uint8_t *peek;    /* TLS_PEEK_MAX bytes */
        EventTimer timer; /* the first deadline, or listeners' end of pause */
        bool paused;
};

static void flow_set_state(Flow *flow, FlowState state) {
        FastPath *f = flow->fastpath;

        const int64_t times[FLOW_OPEN] = { [FLOW_CONNECTING] = PATIENCE,
                                           [FLOW_ACCEPTING] = f->framed ? ACCEPT_TIME_FRAMED : ACCEPT_TIME,
                                           [FLOW_HELLO] = HELLO_TIME };

        if (flow->state != FLOW_OPEN)
                g_queue_unlink(&f->waiting[flow->state], &flow->link);
        flow->state = state;
        if (state == FLOW_OPEN)
                return;
        flow->deadline = events_now(f->events) + times[state];
        flow->link = (GList){ .data = flow };
        g_queue_push_tail_link(&f->waiting[state], &flow->link);
        if (state != FLOW_CONNECTING && (f->timer.at < 0 || flow->deadline < f->timer.at))
                f->timer.at = flow->deadline;
}

/* What the splice has moved since the last time. */
static void on_moved(Splice *splice) {
        Flow *flow = EVENTS_OWNER(splice, Flow, splice);
        SpliceSide *out = &splice->side[SPLICE_BOX], *in = &splice->side[SPLICE_HOST];

        account_moved(flow->account, out->bytes, out->pieces, in->bytes, in->pieces);
        out->bytes = out->pieces = in->bytes = in->pieces = 0;
}

/* It is over. Its sockets are closed already, or are reset now. */
static void flow_end(Flow *flow, const char *how) {
        on_moved(&flow->splice);
        account_end(flow->fastpath->account, flow->account, how);
        splice_close(&flow->splice, true);
        flow_set_state(flow, FLOW_OPEN);
        g_hash_table_remove(flow->fastpath->flows, &flow->key);
        g_free(flow->syn);
        g_free(flow);
}

static void on_ended(Splice *splice, const char *how) {
        flow_end(EVENTS_OWNER(splice, Flow, splice), how);
}

/* The SYN's answer, if there is one to what happened on the host's side. */
static void answer_syn(const Flow *flow, int errnum) {
        uint8_t reply[REPLY_MAX];
        Packet packet;

        if (!packet_parse(flow->syn, flow->syn_len, &packet))
                return;
        size_t n = reply_syn(errnum, &packet, reply);
        if (n > 0)
                flow->fastpath->send(reply, n, flow->fastpath->send_data);
}

/* AccountCut */
static void cut(AccountFlow *account, void *carrier) {
        Flow *flow = carrier;

        if (flow->state == FLOW_CONNECTING)
                answer_syn(flow, ECONNREFUSED);
        flow_end(flow, "denied");
}

/* Put a packet on its way to our end. What is lost here comes again. */
static void send_raw(const FastPath *f, int family, const struct in6_addr *dst, const uint8_t *frame, size_t len) {
        struct sockaddr_storage to;
        socklen_t to_len = address_to_socket(family, dst, 0, &to);

        (void) sendto(f->listeners[family == AF_INET6].raw, frame + PACKET_ETH_LEN, len - PACKET_ETH_LEN, 0, (struct sockaddr *) &to, to_len);
}

static void release_syn(const Flow *flow) {
        send_raw(flow->fastpath, flow->key.family, &flow->key.dst, flow->syn, flow->syn_len);
}

static void reset_and_close(int fd) {
        static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(fd);
}

/* The name that it says is not one that may be had there. */
static void deny_name(Flow *flow, const char *name) {
        const FastPath *f = flow->fastpath;
        PolicyDecision decision = { .verdict = POLICY_REFUSE, .reason = POLICY_BY_UNMATCHED };
        g_autofree char *normal = name ? net_name_normal(name) : NULL;

        decision.name = normal;
        account_denied(f->account, &flow->key, &decision);
        flow_end(flow, "denied");
}

/* The first bytes of a connection that names itself: they are looked at, and stay where they are. */
static void on_hello(EventSource *source, uint32_t events) {
        SpliceSide *side = EVENTS_OWNER(source, SpliceSide, source);
        Flow *flow = EVENTS_OWNER(side->splice, Flow, splice);
        FastPath *f = flow->fastpath;
        char name[TLS_NAME_SIZE];

        ssize_t n = recv(side->fd, f->peek, TLS_PEEK_MAX, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        TlsHello hello = n > 0 ? tls_client_hello(f->peek, (size_t) n, name) : TLS_NOT;
        if (n <= 0) { /* it has gone without a word */
                flow_end(flow, "closed");
                return;
        }
        if (hello == TLS_MORE && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
                return;
        if (hello != TLS_NAME || !policy_tls_name(f->policy, flow->key.family, &flow->key.dst, flow->key.dport, name)) {
                deny_name(flow, hello == TLS_NAME ? name : NULL);
                return;
        }
        flow_set_state(flow, FLOW_OPEN);
        splice_start(&flow->splice);
}

/* A connection in the box's network: whose SYN was it? */
static void take_connection(FastPath *f, int family, int fd, const struct sockaddr_storage *peer) {
        AccountKey key = { .protocol = IPPROTO_TCP, .family = family };
        struct sockaddr_storage local = { 0 };
        socklen_t len = sizeof local;

        (void) address_of_socket((const struct sockaddr *) peer, &key.src, &key.sport);
        Flow *flow = NULL;
        if (getsockname(fd, (struct sockaddr *) &local, &len) == 0) {
                (void) address_of_socket((const struct sockaddr *) &local, &key.dst, &key.dport);
                flow = g_hash_table_lookup(f->flows, &key);
        }
        if (!flow || flow->state != FLOW_ACCEPTING) {
                reset_and_close(fd);
                return;
        }
        g_clear_pointer(&flow->syn, g_free);
        flow_set_state(flow, flow->names_itself ? FLOW_HELLO : FLOW_OPEN);
        if (!splice_watch_take(&flow->splice, SPLICE_BOX, fd, flow->names_itself ? on_hello : NULL))
                flow_end(flow, "refused");
        else if (!flow->names_itself)
                splice_start(&flow->splice);
}

static void set_paused(FastPath *f, bool paused) {
        f->paused = paused;
        for (size_t i = 0; i < G_N_ELEMENTS(f->listeners); i++)
                if (f->listeners[i].fd >= 0)
                        (void) events_change(f->events, &f->listeners[i].source, paused ? 0 : EPOLLIN);
        if (paused)
                f->timer.at = events_now(f->events) + LISTEN_PAUSE;
}

static void accept_all(Listener *listener) {
        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                struct sockaddr_storage peer = { 0 };
                socklen_t len = sizeof peer;
                int fd = accept4(listener->fd, (struct sockaddr *) &peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0)
                        take_connection(listener->fastpath, listener->family, fd, &peer);
                else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        set_paused(listener->fastpath, true);
                        return;
                } else if (errno != EINTR && errno != ECONNABORTED)
                        return;
        }
}

static void on_listener(EventSource *source, uint32_t events) {
        accept_all(EVENTS_OWNER(source, Listener, source));
}

static void on_timer(EventTimer *timer) {
        FastPath *f = EVENTS_OWNER(timer, FastPath, timer);

        if (f->paused)
                set_paused(f, false);
        for (int i = FLOW_ACCEPTING; i <= FLOW_HELLO; i++)
                while (f->waiting[i].head) {
                        Flow *flow = f->waiting[i].head->data;
                        if (flow->deadline > events_now(f->events)) {
                                timer->at = timer->at < 0 ? flow->deadline : MIN(timer->at, flow->deadline);
                                break;
                        }
                        flow_end(flow, i == FLOW_ACCEPTING ? "refused" : "timeout"); /* by its own program */
                }
}

/* The host's side has an answer. */
static void on_host(EventSource *source, uint32_t events) {
        SpliceSide *side = EVENTS_OWNER(source, SpliceSide, source);
        Flow *flow = EVENTS_OWNER(side->splice, Flow, splice);
        FastPath *f = flow->fastpath;
        int errnum = 0;
        socklen_t len = sizeof errnum;

        if (flow->state != FLOW_CONNECTING) {
                if (events & EPOLLERR)
                        flow_end(flow, "reset");
                return;
        }
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
                return;
        if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
                errnum = errno;
        if (errnum != 0) {
                answer_syn(flow, errnum);
                flow_end(flow, errnum == ETIMEDOUT ? "timeout" : "refused");
                return;
        }
        near_bound(side->fd);
        flow_set_state(flow, FLOW_ACCEPTING);
        release_syn(flow);
        accept_all(&f->listeners[flow->key.family == AF_INET6]);
}

/* Start it; 0, or why it fails at once. */
static int connect_host(Flow *flow, const struct in6_addr *to) {
        struct sockaddr_storage addr;
        socklen_t len = address_to_socket(flow->key.family, to, flow->key.dport, &addr);

        int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return errno;
        if (connect(fd, (struct sockaddr *) &addr, len) < 0 && errno != EINPROGRESS) {
                int errnum = errno;
                close(fd);
                return errnum;
        }
        /* Connected already or not: the edge comes in either case. */
        return splice_watch_take(&flow->splice, SPLICE_HOST, fd, on_host) ? 0 : errno;
}

static bool is_for_neighbour(const uint8_t *frame) {
        return memcmp(frame, DIVERT_MAC, sizeof DIVERT_MAC) == 0;
}

bool fastpath_wants(const FastPath *f, const Packet *packet) {
        if (!f || packet->protocol != IPPROTO_TCP)
                return false;
        return f->framed ? !policy_is_resolver(packet->family, &packet->dst) : is_for_neighbour(packet->frame);
}

bool fastpath_turn_back(const FastPath *f, uint8_t *frame, size_t len) {
        if (!f || !f->framed || len < PACKET_ETH_LEN || !is_for_neighbour(frame))
                return false;
        memcpy(frame, frame + ETH_ALEN, ETH_ALEN);
        memcpy(frame + ETH_ALEN, DIVERT_MAC, ETH_ALEN);
        return true;
}

void fastpath_segment(const FastPath *f, const Packet *packet) {
        send_raw(f, packet->family, &packet->dst, packet->frame, packet->len);
}

static void refuse_for_want_of_fds(FastPath *f, const Packet *packet) {
        uint8_t reply[REPLY_MAX];

        /* First: who sees the connection fail finds the reason there. */
        if (!f->told_full)
                log_note("no descriptors left: connections are refused; more are for a higher `ulimit -n`");
        f->told_full = true;
        size_t n = reply_refuse(packet, reply);
        if (n > 0)
                f->send(reply, n, f->send_data);
}

/* Is there room for one more? Says so in the frame's stead. */
static bool has_room(FastPath *f, const Packet *packet) {
        const GQueue *connecting = &f->waiting[FLOW_CONNECTING];
        Flow *oldest = connecting->head ? connecting->head->data : NULL;
        if (oldest && oldest->deadline < events_now(f->events) && (connecting->length >= CONNECTING_MAX || !splice_has_room(f->pipes)))
                flow_end(oldest, "forgotten");
        if (packet->len > SYN_MAX || connecting->length >= CONNECTING_MAX)
                return false;
        if (splice_has_room(f->pipes))
                return true;
        refuse_for_want_of_fds(f, packet);
        return false;
}

void fastpath_syn(FastPath *f, const Packet *packet, const PolicyDecision *decision) {
        const AccountKey key = account_key_of(packet);
        uint32_t isn = packet_get32(packet->frame + packet->l4 + 4);

        Flow *flow = g_hash_table_lookup(f->flows, &key);
        if (flow && flow->isn == isn) {
                if (flow->state == FLOW_ACCEPTING) {
                        release_syn(flow);
                        accept_all(&f->listeners[key.family == AF_INET6]);
                }
                return;
        }
        if (flow)
                flow_end(flow, "reset");
        if (!has_room(f, packet))
                return;

        flow = g_new0(Flow, 1);
        *flow = (Flow){ .key = key, .state = FLOW_OPEN, .fastpath = f, .isn = isn, .syn = g_memdup2(packet->frame, packet->len), .syn_len = packet->len };
        flow->names_itself = policy_wants_tls_name(f->policy, key.dport, decision);
        splice_init(&flow->splice, f->events, f->pipes);
        flow->splice.ended = on_ended;
        flow->splice.moved = on_moved;
        flow->account = account_start(f->account, &key, decision, ACCOUNT_SPLICE, cut, flow);
        g_hash_table_insert(f->flows, &flow->key, flow);
        flow_set_state(flow, FLOW_CONNECTING);
        events_expect(f->events);
        int errnum = connect_host(flow, &decision->to);
        if (errnum == 0)
                return;
        /* Others than connections have descriptors, too: not each of them is reckoned with. */
        if (errnum == EMFILE || errnum == ENFILE)
                refuse_for_want_of_fds(f, packet);
        else
                answer_syn(flow, errnum);
        flow_end(flow, "refused");
}

FastPath *fastpath_new_take(int fds[DIVERT_FDS_MAX], const FastPathParts *parts, GError **error) {
        g_autoptr(FastPath) f = g_new0(FastPath, 1);

        Events *events = parts->events;
        *f = (FastPath){ .events = events, .pipes = parts->pipes, .account = parts->account, .send = parts->send, .send_data = parts->send_data,
                         .timer = { .fire = on_timer, .at = -1 }, .framed = parts->framed };
        f->flows = g_hash_table_new(account_key_hash, account_key_equal);
        for (int i = 0; i < FLOW_OPEN; i++)
                g_queue_init(&f->waiting[i]);
        f->policy = parts->policy;
        f->peek = g_malloc(TLS_PEEK_MAX);
        events_add_timer(events, &f->timer);
        for (int i = 0; i < 2; i++)
                f->listeners[i] = (Listener){ .source = { .ready = on_listener, .fd = -1 }, .fastpath = f, .family = i == 0 ? AF_INET : AF_INET6,
                                              .fd = fd_steal(&fds[2 * i]), .raw = fd_steal(&fds[2 * i + 1]) };
        for (int i = 0; i < 2; i++)
                if (f->listeners[i].fd >= 0 && !events_add(events, &f->listeners[i].source, f->listeners[i].fd, EPOLLIN)) {
                        err_set(error, errno, "epoll_ctl");
                        return NULL;
                }
        return g_steal_pointer(&f);
}

void fastpath_free(FastPath *f) {
        if (!f)
                return;
        g_autoptr(GList) flows = g_hash_table_get_values(f->flows);
        for (GList *l = flows; l; l = l->next)
                flow_end(l->data, "closed");
        g_hash_table_unref(f->flows);
        g_free(f->peek);
        for (int i = 0; i < 2; i++) {
                events_remove(f->events, &f->listeners[i].source);
                fd_closep(&f->listeners[i].fd);
                fd_closep(&f->listeners[i].raw);
        }
        g_free(f);
}
