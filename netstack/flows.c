/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The flows that libslirp carries, for the account: libslirp has no call for their start or end, so they are read off the frames. A connection
 * that comes in through a published port is known by its SYN.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: between the policy and libslirp on the way out, before the TAP on the way in.
 *
 * A flow that a new rule denies is cut by a reset to both sides, each with the sequence number that it expects next; libslirp then closes its
 * socket. The table has an end: the flow that was silent for longest leaves the account first, and goes on unaccounted.
 */
#include <string.h>

#include "netstack/flows.h"

#define FLOWS_MAX 16384
#define TCP_LEN 20
#define UDP_LEN 8
#define SWEEP_MS 5000

/* How long a flow may be silent, in ms: TCP as long as libslirp itself keeps it, with keepalives; the others as conntrack has them. */
#define IDLE_TCP (3 * 3600 * 1000)
#define IDLE_OTHER 60000

typedef struct {
        AccountKey key;
        AccountFlow *account;
        Flows *owner;
        uint8_t mac[6];              /* the box's */
        uint32_t out_next, in_next;  /* TCP: what each side's next sequence number is */
        bool inbound;                /* begun from outside, through a published port */
        bool out_fin, in_fin, answered;
        int64_t used;
        GList link;                  /* in Flows.by_use */
} Flow;

struct Flows {
        Events *events;
        Account *account;
        FlowsEnds ends;
        GHashTable *table; /* Flow.key → Flow */
        GQueue by_use;     /* the one that was silent for longest first */
        EventTimer sweep;
};

static void end_flow(Flow *flow, const char *how) {
        Flows *flows = flow->owner;

        account_end(flows->account, flow->account, how);
        g_queue_unlink(&flows->by_use, &flow->link);
        g_hash_table_remove(flows->table, &flow->key); /* frees it */
}

static bool is_idle(const Flow *flow, int64_t now) {
        return now - flow->used > (flow->key.protocol == IPPROTO_TCP ? IDLE_TCP : IDLE_OTHER);
}

static void on_sweep(EventTimer *timer) {
        Flows *flows = EVENTS_OWNER(timer, Flows, sweep);
        int64_t now = events_now(flows->events);

        for (GList *l = flows->by_use.head, *next; l; l = next) {
                Flow *flow = l->data;
                next = l->next;
                if (now - flow->used <= IDLE_OTHER)
                        break; /* those behind it were heard of later */
                if (is_idle(flow, now))
                        end_flow(flow, "timeout");
        }
        timer->at = flows->by_use.length > 0 ? now + SWEEP_MS : -1;
}

Flows *flows_new(Events *events, Account *account, const FlowsEnds *ends) {
        Flows *flows = g_new0(Flows, 1);

        *flows = (Flows){ .events = events, .account = account, .ends = *ends, .sweep = { .fire = on_sweep, .at = -1 } };
        flows->table = g_hash_table_new_full(account_key_hash, account_key_equal, NULL, g_free);
        g_queue_init(&flows->by_use);
        events_add_timer(events, &flows->sweep);
        return flows;
}

void flows_free(Flows *flows) {
        if (!flows)
                return;
        while (flows->by_use.head)
                end_flow(flows->by_use.head->data, "open");
        g_hash_table_unref(flows->table);
        g_free(flows);
}

/* The key of a packet's flow, as the box sees it: out, or in. */
static AccountKey key_of(const Packet *p, bool out) {
        bool ports = p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP;

        return (AccountKey){ .protocol = p->protocol,
                             .family = p->family,
                             .src = out ? p->src : p->dst,
                             .dst = out ? p->dst : p->src,
                             .sport = !ports ? 0 : out ? p->sport : p->dport,
                             .dport = !ports ? 0 : out ? p->dport : p->sport };
}

static size_t payload_of(const Packet *p) {
        if (p->protocol == IPPROTO_TCP)
                return p->l4_len - (size_t) (p->frame[p->l4 + 12] >> 4) * 4;
        return p->l4_len - UDP_LEN; /* ICMP's header is as long */
}

static void send_reset(const Flow *flow, bool to_box) {
        uint8_t frame[PACKET_ETH_LEN + 40 + TCP_LEN];
        const AccountKey *k = &flow->key;
        const struct in6_addr *src = to_box ? &k->dst : &k->src, *dst = to_box ? &k->src : &k->dst;

        size_t at = packet_write_headers(frame, flow->mac, k->family, src, dst, IPPROTO_TCP, TCP_LEN);
        uint8_t *tcp = frame + at;
        memset(tcp, 0, TCP_LEN);
        packet_put16(tcp, to_box ? k->dport : k->sport);
        packet_put16(tcp + 2, to_box ? k->sport : k->dport);
        packet_put32(tcp + 4, to_box ? flow->in_next : flow->out_next);
        packet_put32(tcp + 8, to_box ? flow->out_next : flow->in_next);
        tcp[12] = (TCP_LEN / 4) << 4;
        tcp[13] = PACKET_TCP_RST | PACKET_TCP_ACK;
        packet_put16(tcp + 16, packet_l4_checksum(k->family, src, dst, IPPROTO_TCP, tcp, TCP_LEN));
        const FlowsEnds *ends = &flow->owner->ends;
        if (to_box)
                ends->send(frame, at + TCP_LEN, ends->data);
        else
                ends->input(frame, at + TCP_LEN, ends->data);
}

/* AccountCut */
static void cut(AccountFlow *account, void *carrier) {
        Flow *flow = carrier;
        const Flow ended = *flow;

        /* Before libslirp hears of it: that may have an answer, by whose frame the flow would end. */
        end_flow(flow, "denied");
        if (ended.key.protocol == IPPROTO_TCP) {
                send_reset(&ended, true);
                send_reset(&ended, false);
        }
}

/* From the client to the box, as the account has published ports. */
static AccountKey inbound_key(const AccountKey *key) {
        return (AccountKey){ .protocol = key->protocol, .family = key->family, .src = key->dst, .dst = key->src, .sport = key->dport, .dport = key->sport };
}

/* decision NULL: it comes in, and no rule speaks of it. */
static Flow *new_flow(Flows *flows, const AccountKey *key, const Packet *packet, const PolicyDecision *decision) {
        const AccountKey inbound = inbound_key(key);

        if (flows->by_use.length >= FLOWS_MAX)
                end_flow(flows->by_use.head->data, "forgotten");
        Flow *flow = g_new0(Flow, 1);
        flow->owner = flows;
        memcpy(&flow->key, key, sizeof flow->key);
        memcpy(flow->mac, packet->frame + 6, sizeof flow->mac);
        flow->inbound = !decision;
        flow->account = decision ? account_start(flows->account, key, decision, ACCOUNT_FRAMES, cut, flow)
                                 : account_start(flows->account, &inbound, NULL, ACCOUNT_PORT, NULL, NULL);
        flow->link.data = flow;
        g_queue_push_tail_link(&flows->by_use, &flow->link);
        g_hash_table_insert(flows->table, &flow->key, flow);
        if (flows->sweep.at < 0)
                flows->sweep.at = events_now(flows->events) + SWEEP_MS;
        return flow;
}

static void touch(Flow *flow) {
        Flows *flows = flow->owner;

        flow->used = events_now(flows->events);
        g_queue_unlink(&flows->by_use, &flow->link);
        g_queue_push_tail_link(&flows->by_use, &flow->link);
}

/* What a TCP segment of either side says about the flow's end. False: the flow is over. */
static bool take_segment(Flow *flow, const Packet *p, bool out) {
        uint32_t next = packet_get32(p->frame + p->l4 + 4) + (uint32_t) payload_of(p) + !!(p->tcp_flags & PACKET_TCP_SYN) +
                        !!(p->tcp_flags & PACKET_TCP_FIN);
        uint32_t *known = out ? &flow->out_next : &flow->in_next;

        if (p->tcp_flags & PACKET_TCP_RST) {
                end_flow(flow, flow->answered ? "reset" : "refused");
                return false;
        }
        /* A segment that is sent again says less than what is known. */
        if ((int32_t) (next - *known) > 0 || p->tcp_flags & PACKET_TCP_SYN)
                *known = next;
        flow->answered |= out == flow->inbound;
        if (p->tcp_flags & PACKET_TCP_FIN)
                *(out ? &flow->out_fin : &flow->in_fin) = true;
        if (flow->out_fin && flow->in_fin) {
                end_flow(flow, "closed");
                return false;
        }
        return true;
}

void flows_out(Flows *flows, const Packet *packet, const PolicyDecision *decision) {
        if (packet->family == AF_UNSPEC)
                return;
        const AccountKey key = key_of(packet, true);
        Flow *flow = g_hash_table_lookup(flows->table, &key);
        if (flow && decision && packet->protocol == IPPROTO_TCP && flow->answered) {
                end_flow(flow, "closed"); /* the same port again: the box has no other flow of it any more */
                flow = NULL;
        }
        if (!flow && decision)
                flow = new_flow(flows, &key, packet, decision);
        if (!flow)
                return;
        touch(flow);
        account_moved(flow->account, payload_of(packet), 1, 0, 0);
        if (packet->protocol == IPPROTO_TCP)
                (void) take_segment(flow, packet, true);
}

void flows_in(Flows *flows, const uint8_t *frame, size_t len) {
        Packet packet;

        if (!packet_parse(frame, len, &packet) || packet.family == AF_UNSPEC)
                return;
        const AccountKey key = key_of(&packet, false);
        Flow *flow = g_hash_table_lookup(flows->table, &key);
        if (packet.protocol == IPPROTO_TCP && (packet.tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN && !(flow && !flow->answered)) {
                if (flow)
                        end_flow(flow, "closed"); /* the same ports again: libslirp has no other connection of them any more */
                flow = new_flow(flows, &key, &packet, NULL);
        }
        if (!flow)
                return;
        touch(flow);
        account_moved(flow->account, 0, 0, payload_of(&packet), 1);
        if (packet.protocol == IPPROTO_TCP)
                (void) take_segment(flow, &packet, false);
}
