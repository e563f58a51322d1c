/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Questions to the name servers outside.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: under dns.c.
 *
 * Each try has a connected socket of its own, so that the kernel chooses a random port, takes datagrams from that server alone, and says when
 * nothing listens there; and an id of its own. Whoever would forge an answer has to guess both, and the question. Servers are asked in
 * turn, beginning with the one that answered last, so that a dead one costs time once. One that refuses or fails is no last word
 * while there are others.
 */
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "netstack/dnsup.h"
#include "netstack/packet.h"

/* Questions on their way at a time: a descriptor each. */
#define EXCHANGES_MAX 512

/* Datagrams that are none of the answer, in one turn. */
#define DATAGRAMS_PER_TURN 32

/* A box that asks by glibc waits 5 s for us, twice: in the first of them two servers can be tried. */
#define TRY_MS 2000
#define ROUNDS 2
#define TRIES_MAX 8

struct DnsExchange {
        DnsUpstream *up;
        DnsQuery query;
        bool tcp;
        DnsDone done;
        void *data;
        EventSource source;
        EventWork later;      /* the first try, and the end, are not made from within dns_upstream_ask() */
        uint16_t id;
        guint server, tries;
        int64_t deadline;     /* of this try */
        uint8_t *buf;         /* TCP: what is sent, then what comes, its length before it */
        size_t at, want;      /* TCP: done of it, and all of it */
        bool sending;         /* TCP */
        uint8_t *second_best; /* an answer that says that there is none, kept while others are asked */
        size_t second_best_len;
        uint16_t second_best_id;
        GList link;
};

struct DnsUpstream {
        Events *events;
        const NetConfig *config;
        GQueue exchanges; /* of DnsExchange */
        EventTimer timer;
        guint preferred;  /* which server answered last */
        bool told_full;
        uint8_t *buf;     /* a datagram */
};

#define DATAGRAM_MAX 65536

static void next_try(DnsExchange *x);

static void close_try(DnsExchange *x) {
        if (x->source.fd < 0)
                return;
        int fd = x->source.fd;
        events_remove(x->up->events, &x->source);
        close(fd);
        x->source.fd = -1;
        g_clear_pointer(&x->buf, g_free);
}

static void exchange_free(DnsExchange *x) {
        close_try(x);
        events_cancel(x->up->events, &x->later);
        g_queue_unlink(&x->up->exchanges, &x->link);
        g_free(x->second_best);
        g_free(x);
}

void dns_exchange_cancel(DnsExchange *x) {
        exchange_free(x);
}

static void set_timer(DnsUpstream *up) {
        up->timer.at = -1;
        for (const GList *l = up->exchanges.head; l; l = l->next) {
                const DnsExchange *x = l->data;
                if (up->timer.at < 0 || x->deadline < up->timer.at)
                        up->timer.at = x->deadline;
        }
}

static void finish(DnsExchange *x, uint8_t *msg, size_t len, const DnsAnswer *answer) {
        DnsDone done = x->done;
        void *data = x->data;
        uint8_t *held = g_steal_pointer(&x->buf), *second_best = g_steal_pointer(&x->second_best); /* msg is within one of them */

        exchange_free(x);
        done(msg, len, answer, data);
        g_free(held);
        g_free(second_best);
}

/* Is this the answer? Then x is over, or the next server is asked because this one has none. */
static bool take_answer(DnsExchange *x, uint8_t *msg, size_t len) {
        g_auto(DnsAnswer) answer = { 0 };
        const guint n = x->up->config->resolvers->len;

        if (!dns_answer_parse(msg, len, &x->query, x->id, &answer))
                return false;
        if (answer.rcode != DNS_NOERROR && answer.rcode != DNS_NXDOMAIN && x->tries < n) {
                g_free(x->second_best);
                x->second_best = g_memdup2(msg, len);
                x->second_best_len = len;
                x->second_best_id = x->id;
                next_try(x);
                return true;
        }
        x->up->preferred = x->server;
        finish(x, msg, len, &answer);
        return true;
}

/* No more servers: what one of them said of its failure, or nothing. */
static void give_up(DnsExchange *x) {
        g_auto(DnsAnswer) answer = { 0 };

        if (x->second_best && dns_answer_parse(x->second_best, x->second_best_len, &x->query, x->second_best_id, &answer))
                finish(x, x->second_best, x->second_best_len, &answer);
        else
                finish(x, NULL, 0, NULL);
}

static void on_datagram(DnsExchange *x) {
        uint8_t *buf = x->up->buf;

        for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
                ssize_t n = recv(x->source.fd, buf, DATAGRAM_MAX, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        if (errno != EAGAIN)
                                next_try(x); /* ECONNREFUSED: nothing listens there */
                        return;
                }
                if (take_answer(x, buf, (size_t) n))
                        return;
        }
}

/* Send or receive what is left of x->buf. 1: all of it, 0: not yet, -1: the connection is of no use. */
static int move_stream(DnsExchange *x) {
        while (x->at < x->want) {
                uint8_t *at = x->buf + x->at;
                size_t left = x->want - x->at;
                ssize_t n = x->sending ? send(x->source.fd, at, left, MSG_NOSIGNAL) : recv(x->source.fd, at, left, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 && errno == EAGAIN ? 0 : -1;
                x->at += (size_t) n;
        }
        return 1;
}

static void on_stream(DnsExchange *x) {
        for (;;) {
                int r = move_stream(x);
                if (r == 0)
                        return;
                if (r < 0)
                        break;
                if (x->sending) {
                        x->sending = false;
                        x->at = 0;
                        x->want = 2;
                        if (!events_change(x->up->events, &x->source, EPOLLIN))
                                break;
                } else if (x->want == 2) {
                        x->want = 2u + packet_get16(x->buf);
                        if (x->want < 2 + DNS_HEADER_LEN)
                                break;
                        x->buf = g_realloc(x->buf, x->want);
                } else {
                        if (take_answer(x, x->buf + 2, x->want - 2))
                                return;
                        break;
                }
        }
        next_try(x);
}

static void on_ready(EventSource *source, uint32_t events) {
        DnsExchange *x = EVENTS_OWNER(source, DnsExchange, source);

        if (x->tcp)
                on_stream(x);
        else
                on_datagram(x);
}

/* Ask this server. False: it cannot be reached. */
static bool try_server(DnsExchange *x, const char *server) {
        struct sockaddr_storage addr;
        socklen_t len;
        uint8_t query[2 + DNS_QUERY_MAX];

        if (getrandom(&x->id, sizeof x->id, 0) != sizeof x->id || !net_resolver_address(server, &addr, &len))
                return false;
        size_t n = dns_query_write(&x->query, x->id, query + 2);
        packet_put16(query, (unsigned) n);
        _cleanup_close_ int fd = socket(addr.ss_family, (x->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || (connect(fd, (struct sockaddr *) &addr, len) < 0 && errno != EINPROGRESS))
                return false;
        if (!x->tcp && send(fd, query + 2, n, MSG_NOSIGNAL) < 0)
                return false;
        if (!events_add(x->up->events, &x->source, fd, x->tcp ? EPOLLOUT : EPOLLIN)) {
                x->source.fd = -1;
                return false;
        }
        (void) fd_steal(&fd);
        if (x->tcp) {
                x->buf = g_malloc(2 + DNS_QUERY_MAX);
                memcpy(x->buf, query, n + 2);
                x->sending = true;
                x->at = 0;
                x->want = n + 2;
        }
        return true;
}

static void next_try(DnsExchange *x) {
        DnsUpstream *up = x->up;
        const GPtrArray *servers = up->config->resolvers;

        close_try(x);
        while (servers->len > 0 && x->tries < MIN(servers->len * ROUNDS, TRIES_MAX)) {
                x->server = (up->preferred + x->tries++) % servers->len;
                if (!try_server(x, servers->pdata[x->server]))
                        continue;
                x->deadline = events_now(up->events) + TRY_MS;
                set_timer(up);
                return;
        }
        give_up(x);
}

static void on_timer(EventTimer *timer) {
        DnsUpstream *up = EVENTS_OWNER(timer, DnsUpstream, timer);
        int64_t now = events_now(up->events);

        for (GList *l = up->exchanges.head, *next; l; l = next) {
                DnsExchange *x = l->data;
                next = l->next;
                if (x->deadline <= now)
                        next_try(x);
        }
        set_timer(up);
}

static void start(EventWork *work) {
        next_try(EVENTS_OWNER(work, DnsExchange, later));
}

DnsExchange *dns_upstream_ask(DnsUpstream *up, const DnsQuery *query, bool tcp, DnsDone done, void *data) {
        if (up->exchanges.length >= EXCHANGES_MAX) {
                if (!up->told_full)
                        log_note("%d questions wait for name servers: more are refused", EXCHANGES_MAX);
                up->told_full = true;
                return NULL;
        }
        DnsExchange *x = g_new0(DnsExchange, 1);
        *x = (DnsExchange){ .up = up, .query = *query, .tcp = tcp, .done = done, .data = data, .source = { .ready = on_ready, .fd = -1 },
                            .later = { .run = start }, .deadline = G_MAXINT64 };
        x->link.data = x;
        g_queue_push_tail_link(&up->exchanges, &x->link);
        events_later(up->events, &x->later);
        return x;
}

DnsUpstream *dns_upstream_new(Events *events, const NetConfig *config) {
        DnsUpstream *up = g_new0(DnsUpstream, 1);

        *up = (DnsUpstream){ .events = events, .config = config, .timer = { .fire = on_timer, .at = -1 }, .buf = g_malloc(DATAGRAM_MAX) };
        g_queue_init(&up->exchanges);
        events_add_timer(events, &up->timer);
        return up;
}

void dns_upstream_free(DnsUpstream *up) {
        if (!up)
                return;
        while (up->exchanges.head)
                finish(up->exchanges.head->data, NULL, 0, NULL);
        g_free(up->buf);
        g_free(up);
}
