/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The account of the box's flows: those that live, sums for each destination, what was denied, and the log of all that.
 *
 * Role: usbox-net. Privileges: none; the log's descriptor is the launcher's. Threads: one. Order: told by whoever carries a flow, by the
 * loop where the policy refuses, by DNS.
 *
 * All strings that get into the log are safe in JSON as they are: names consist of letters, digits, '-', '_', '.' and '?'
 * (net_name_normal(), dnswire.c), rules of what net_rule_parse() takes, addresses are of our own writing. Log lines are one write(2) each.
 */
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "netstack/account.h"
#include "netstack/config.h"

/* Destinations that have a sum of their own; what comes later is summed up as "other". The box decides how many there are. */
#define SUMS_MAX 4096

typedef struct {
        char *what; /* name, or address where there is none */
        guint64 flows, denied, out_bytes, in_bytes, out_packets, in_packets;
} Sum;

struct AccountFlow {
        AccountKey key;
        AccountPath path;
        AccountCut cut;
        void *carrier;
        guint64 id;
        char *name; /* by which it was decided; NULL: none */
        char *rule; /* "allow TEXT"; "default"; "publish" */
        Sum *sum;
        gint64 started_us; /* of the real clock */
        gint64 begun_us;   /* of the one that nobody sets */
        guint64 out_bytes, out_packets, in_bytes, in_packets;
        GQueue *queue; /* Account.flows or .denied */
        GList link;    /* in it */
};

struct Account {
        int log_fd;
        bool log_failed;   /* which was said */
        bool log_torn;     /* the last line ends in its midst */
        AccountTell tell;
        void *tell_data;
        guint64 next_id;
        GQueue flows;      /* of AccountFlow, by their link: the oldest first */
        GQueue denied;     /* those of them that account_cut() is about to end */
        GHashTable *sums;  /* Sum.what → Sum */
        GHashTable *denials; /* "what" → itself */
};

static void sum_free(gpointer p) {
        Sum *sum = p;
        g_free(sum->what);
        g_free(sum);
}

guint account_key_hash(gconstpointer p) {
        const AccountKey *key = p;
        uint32_t words[4], hash = ((uint32_t) key->sport << 16) ^ key->dport;

        memcpy(words, &key->dst, sizeof words);
        for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
                hash = (hash ^ words[i]) * 0x9e3779b1u;
        return hash ^ (hash >> 15);
}

gboolean account_key_equal(gconstpointer p, gconstpointer q) {
        const AccountKey *a = p, *b = q;
        return a->protocol == b->protocol && a->family == b->family && a->sport == b->sport && a->dport == b->dport &&
               address_same(&a->dst, &b->dst) && address_same(&a->src, &b->src);
}

Account *account_new(int log_fd, AccountTell tell, void *tell_data) {
        Account *a = g_new0(Account, 1);

        *a = (Account){ .log_fd = log_fd, .tell = tell, .tell_data = tell_data, .next_id = 1 };
        g_queue_init(&a->flows);
        g_queue_init(&a->denied);
        a->sums = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, sum_free);
        a->denials = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        return a;
}

void account_free(Account *account) {
        if (!account)
                return;
        while (account->flows.head)
                account_end(account, account->flows.head->data, "open");
        g_hash_table_unref(account->sums);
        g_hash_table_unref(account->denials);
        g_free(account);
}

static const char *protocol_name(uint8_t protocol) {
        return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : "icmp";
}

static bool has_ports(uint8_t protocol) {
        return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* "192.0.2.1:443", "[2001:db8::1]:443"; without the port where there is none. */
static char *place_text(const struct in6_addr *addr, uint8_t protocol, uint16_t port) {
        g_autofree char *text = address_text(addr);

        if (!has_ports(protocol))
                return g_steal_pointer(&text);
        return strchr(text, ':') ? g_strdup_printf("[%s]:%u", text, port) : g_strdup_printf("%s:%u", text, port);
}

/* The line's begin, "{"time":...,"event":"NAME"", for what follows. */
static GString *line_new(const char *event) {
        gint64 now = g_get_real_time();
        GString *line = g_string_sized_new(256);

        g_string_append_printf(line, "{\"time\":%" G_GINT64_FORMAT ".%06d,\"event\":\"%s\"", now / G_USEC_PER_SEC, (int) (now % G_USEC_PER_SEC), event);
        return line;
}

/* A disk that is full may take a part of a line: who reads on, where there is room again, finds the next at a line's begin. */
static void line_write(Account *a, GString *line_take) {
        g_string_append(line_take, "}\n");
        if (a->log_torn)
                g_string_prepend_c(line_take, '\n');
        size_t written = fd_write_most(a->log_fd, line_take->str, line_take->len);
        if (written > 0)
                a->log_torn = written < line_take->len;
        if (written < line_take->len && !a->log_failed) {
                a->log_failed = true;
                log_note("--net-log: lines are missing: %s", err_text(errno));
        }
        g_string_free(line_take, true);
}

static void append_place(GString *line, const AccountKey *key, const char *name) {
        g_autofree char *to = place_text(&key->dst, key->protocol, key->dport);

        g_string_append_printf(line, ",\"protocol\":\"%s\",\"to\":\"%s\"", protocol_name(key->protocol), to);
        if (name)
                g_string_append_printf(line, ",\"name\":\"%s\"", name);
}

static void append_moved(GString *line, guint64 out_bytes, guint64 out_packets, guint64 in_bytes, guint64 in_packets) {
        g_string_append_printf(line, ",\"bytes_out\":%" G_GUINT64_FORMAT ",\"packets_out\":%" G_GUINT64_FORMAT ",\"bytes_in\":%" G_GUINT64_FORMAT
                               ",\"packets_in\":%" G_GUINT64_FORMAT, out_bytes, out_packets, in_bytes, in_packets);
}

static void append_flow(GString *line, const AccountFlow *flow) {
        static const char *const paths[] = { [ACCOUNT_FRAMES] = "frames", [ACCOUNT_UDP] = "udp", [ACCOUNT_SPLICE] = "splice",
                                             [ACCOUNT_PORT] = "port" };
        g_autofree char *from = place_text(&flow->key.src, flow->key.protocol, flow->key.sport);

        append_place(line, &flow->key, flow->name);
        g_string_append_printf(line, ",\"from\":\"%s\",\"path\":\"%s\",\"rule\":\"%s\"", from, paths[flow->path], flow->rule);
}

static Sum *sum_of(Account *a, const struct in6_addr *addr, const char *name) {
        g_autofree char *address = name ? NULL : address_text(addr);
        const char *what = name ? name : address;
        Sum *sum = g_hash_table_lookup(a->sums, what);

        if (!sum && g_hash_table_size(a->sums) >= SUMS_MAX) {
                what = "other";
                sum = g_hash_table_lookup(a->sums, what);
        }
        if (!sum) {
                sum = g_new0(Sum, 1);
                sum->what = g_strdup(what);
                g_hash_table_insert(a->sums, sum->what, sum);
        }
        return sum;
}

AccountFlow *account_start(Account *account, const AccountKey *key, const PolicyDecision *decision, AccountPath path, AccountCut cut, void *carrier) {
        AccountFlow *flow = g_new0(AccountFlow, 1);

        *flow = (AccountFlow){ .key = *key, .path = path, .cut = cut, .carrier = carrier, .id = account->next_id++ };
        flow->started_us = g_get_real_time();
        flow->begun_us = g_get_monotonic_time();
        flow->name = decision ? g_strdup(decision->name) : NULL;
        flow->rule = !decision ? g_strdup("publish") : decision->rule ? g_strconcat("allow ", decision->rule->text, NULL) : g_strdup("default");
        flow->link.data = flow;
        flow->queue = &account->flows;
        g_queue_push_tail_link(flow->queue, &flow->link);
        flow->sum = sum_of(account, &key->dst, flow->name);
        flow->sum->flows++;
        if (account->log_fd >= 0) {
                GString *line = line_new("start");
                g_string_append_printf(line, ",\"flow\":%" G_GUINT64_FORMAT, flow->id);
                append_flow(line, flow);
                line_write(account, line);
        }
        return flow;
}

void account_moved(AccountFlow *flow, guint64 out_bytes, guint64 out_packets, guint64 in_bytes, guint64 in_packets) {
        flow->out_bytes += out_bytes;
        flow->out_packets += out_packets;
        flow->in_bytes += in_bytes;
        flow->in_packets += in_packets;
}

void account_end(Account *account, AccountFlow *flow, const char *how) {
        Sum *sum = flow->sum;

        sum->out_bytes += flow->out_bytes;
        sum->out_packets += flow->out_packets;
        sum->in_bytes += flow->in_bytes;
        sum->in_packets += flow->in_packets;
        if (account->log_fd >= 0) {
                GString *line = line_new("end");
                g_string_append_printf(line, ",\"flow\":%" G_GUINT64_FORMAT ",\"how\":\"%s\",\"seconds\":%.6f", flow->id, how,
                                       (double) (g_get_monotonic_time() - flow->begun_us) / G_USEC_PER_SEC);
                append_flow(line, flow);
                append_moved(line, flow->out_bytes, flow->out_packets, flow->in_bytes, flow->in_packets);
                line_write(account, line);
        }
        g_queue_unlink(flow->queue, &flow->link);
        g_free(flow->name);
        g_free(flow->rule);
        g_free(flow);
}

/* What was denied, once: the key is what the user would read. False: it was told already, or there are too many. */
static bool remember_denial(Account *a, const char *what) {
        if (g_hash_table_contains(a->denials, what) || g_hash_table_size(a->denials) >= NET_DENIALS_MAX)
                return false;
        g_hash_table_add(a->denials, g_strdup(what));
        return true;
}

/* port: as in ":443", or empty. */
static char *allow_name(const char *name, const char *port) {
        g_autofree char *text = net_rule_name_text(name);
        return g_strdup_printf("--allow %s%s", text, port);
}

/* The option that would let this through, as somebody would write it. */
static char *option_for(const AccountKey *key, const PolicyDecision *d) {
        g_autofree char *port = has_ports(key->protocol) ? g_strdup_printf(":%u", key->dport) : g_strdup("");
        g_autofree char *place = place_text(&key->dst, key->protocol, key->dport);

        if (d->reason == POLICY_BY_RULE)
                return g_strdup_printf("--deny %s", d->rule->text);
        if (policy_is_gateway(key->family, &key->dst))
                return has_ports(key->protocol) ? g_strdup_printf("--expose-host %u", key->dport) : g_strdup("--allow " RULES_HOST_NAME);
        if (d->classes & ADDRESS_METADATA)
                return g_strdup_printf("--allow metadata%s", port);
        if (d->classes & ADDRESS_HOST)
                return g_strdup_printf("--allow host%s", port);
        if (d->reason == POLICY_BY_REBINDING)
                return g_strdup_printf("--allow %s%s", d->classes & ADDRESS_LINK_LOCAL ? "link-local" : "private", port);
        return d->name ? allow_name(d->name, port) : g_strdup_printf("--allow %s", place);
}

/* In the box's network, where nobody is but itself and what usbox-net plays. */
static bool is_neighbour(const AccountKey *key) {
        return policy_is_subnet(key->family, &key->dst) && !policy_is_resolver(key->family, &key->dst);
}

static const char *reason_text(PolicyReason reason) {
        static const char *const texts[] = { [POLICY_BY_RULE] = "rule",   [POLICY_BY_DEFAULT] = "default",     [POLICY_BY_UNMATCHED] = "unmatched",
                                             [POLICY_BY_CLASS] = "class", [POLICY_BY_REBINDING] = "rebinding", [POLICY_BY_ADDRESS] = "address" };
        return texts[reason];
}

void account_denied(Account *account, const AccountKey *key, const PolicyDecision *decision) {
        g_autofree char *place = place_text(&key->dst, key->protocol, key->dport);
        g_autofree char *named = decision->name && has_ports(key->protocol) ? g_strdup_printf("%s:%u", decision->name, key->dport) : g_strdup(decision->name);
        g_autofree char *what = g_strdup_printf("%s/%s", named ? named : place, protocol_name(key->protocol));

        sum_of(account, &key->dst, decision->name)->denied++;
        if (account->log_fd >= 0) {
                GString *line = line_new("denied");
                append_place(line, key, decision->name);
                g_string_append_printf(line, ",\"reason\":\"%s\"", reason_text(decision->reason));
                if (decision->reason == POLICY_BY_RULE)
                        g_string_append_printf(line, ",\"rule\":\"deny %s\"", decision->rule->text);
                g_string_append_printf(line, ",\"text\":\"denied by policy: %s\"", decision->name ? decision->name : place);
                line_write(account, line);
        }
        /* Nothing would open such an address: not worth a word to the user. But of the box's own network there may be another on the host's side. */
        bool own = decision->reason == POLICY_BY_ADDRESS && is_neighbour(key);
        if ((decision->reason == POLICY_BY_ADDRESS && !own) || !remember_denial(account, what))
                return;
        g_autofree char *option = own ? g_strdup("") : option_for(key, decision);
        g_autofree char *told = g_strconcat(what, own ? " (of the box's own network)" : "", NULL);
        log_step("denied by policy: %s", told);
        account->tell(told, option, account->tell_data);
}

void account_denied_name(Account *account, const char *name, const NetRule *rule) {
        struct in6_addr none = { 0 };

        sum_of(account, &none, name)->denied++;
        if (account->log_fd >= 0) {
                GString *line = line_new("denied");
                g_string_append_printf(line, ",\"protocol\":\"dns\",\"name\":\"%s\",\"reason\":\"%s\"", name, rule ? "rule" : "unmatched");
                if (rule)
                        g_string_append_printf(line, ",\"rule\":\"deny %s\"", rule->text);
                g_string_append_printf(line, ",\"text\":\"denied by policy: %s\"", name);
                line_write(account, line);
        }
        if (!remember_denial(account, name))
                return;
        g_autofree char *option = rule ? g_strdup_printf("--deny %s", rule->text) : allow_name(name, "");
        log_step("denied by policy: %s", name);
        account->tell(name, option, account->tell_data);
}

void account_answered(Account *account, const char *name, const GArray *addresses) {
        if (account->log_fd < 0)
                return;
        GString *line = line_new("dns");
        g_string_append_printf(line, ",\"name\":\"%s\",\"addresses\":[", name);
        for (guint i = 0; i < addresses->len; i++) {
                g_autofree char *text = address_text(&g_array_index(addresses, struct in6_addr, i));
                g_string_append_printf(line, "%s\"%s\"", i > 0 ? "," : "", text);
        }
        g_string_append_c(line, ']');
        line_write(account, line);
}

/* A rule speaks of it; without a rule: it goes to what has become the host's. */
static bool is_denied(const AccountFlow *flow, const Policy *policy, const NetRule *rule) {
        const AccountKey *key = &flow->key;

        if (rule)
                return policy_rule_speaks(policy, rule, key->protocol, key->family, &key->dst, key->dport, flow->name);
        PolicyDecision now = policy_decide(policy, key->protocol, key->family, &key->dst, key->dport);
        return now.verdict == POLICY_REFUSE && now.classes & ADDRESS_HOST;
}

/* To end one may end others, of those that are to be ended, too: libslirp is given its reset, and may send what it has for any. */
guint account_cut(Account *account, const Policy *policy, const NetRule *rule) {
        for (GList *l = account->flows.head, *next; l; l = next) {
                AccountFlow *flow = l->data;
                next = l->next;
                if (!flow->cut || !is_denied(flow, policy, rule))
                        continue;
                g_queue_unlink(&account->flows, l);
                g_queue_push_tail_link(&account->denied, l);
                flow->queue = &account->denied;
        }
        guint n = account->denied.length;
        while (account->denied.head) {
                AccountFlow *flow = account->denied.head->data;
                flow->cut(flow, flow->carrier);
        }
        return n;
}

char *account_json(const Account *account) {
        GString *text = g_string_new("{\"flows\":[");
        GHashTableIter iter;
        gpointer value;
        bool first = true;

        for (const GList *l = account->flows.head; l; l = l->next) {
                const AccountFlow *flow = l->data;
                g_string_append_printf(text, "%s{\"flow\":%" G_GUINT64_FORMAT ",\"started\":%" G_GINT64_FORMAT ".%06d", l->prev ? "," : "", flow->id,
                                       flow->started_us / G_USEC_PER_SEC, (int) (flow->started_us % G_USEC_PER_SEC));
                append_flow(text, flow);
                append_moved(text, flow->out_bytes, flow->out_packets, flow->in_bytes, flow->in_packets);
                g_string_append_c(text, '}');
        }
        /* Of flows that have ended: a reader adds those above. */
        g_string_append(text, "],\"ended\":[");
        g_hash_table_iter_init(&iter, account->sums);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const Sum *sum = value;
                g_string_append_printf(text, "%s{\"to\":\"%s\",\"flows\":%" G_GUINT64_FORMAT ",\"denied\":%" G_GUINT64_FORMAT, first ? "" : ",", sum->what,
                                       sum->flows, sum->denied);
                append_moved(text, sum->out_bytes, sum->out_packets, sum->in_bytes, sum->in_packets);
                g_string_append_c(text, '}');
                first = false;
        }
        g_string_append(text, "]}\n");
        return g_string_free(text, false);
}
