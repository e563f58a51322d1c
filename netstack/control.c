/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the launcher says while packets move: new rules, other name servers, how the flows are; and what it is told.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: from the loop, between packets.
 *
 * A message may bring a descriptor, for which there is a place whatever the box has opened: one is kept back (net->spare).
 *
 * Every NET_RULE and NET_FLOWS has its NET_DONE. The launcher may be stopped for long, and packets must not wait for it: NET_DENIED is said so
 * seldom (account.c) that all of them fit into the wire.
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/wire.h"
#include "netstack/control.h"
#include "netstack/ports.h"

static bool answer(const Net *net, guint32 serial, const GError *failure, GError **error) {
        const char *hint = failure ? err_get_hint(failure) : NULL;

        return wire_send(net->wire, WIRE_NET_DONE, g_variant_new("(uss)", serial, failure ? failure->message : "", hint ? hint : ""), NULL, 0, error);
}

/* Among the first n. */
static bool has_host(const GPtrArray *hosts, guint n, const NetHost *wanted) {
        for (guint i = 0; i < n; i++) {
                const NetHost *host = hosts->pdata[i];
                if (g_str_equal(host->name, wanted->name) && g_str_equal(host->address, wanted->address))
                        return true;
        }
        return false;
}

/* What the host's /etc/hosts has of names that no rule was of before: from now on as if it had been so from the start. */
static bool add_hosts(Net *net, GVariant *array, GError **error) {
        GPtrArray *hosts = net->config->hosts;
        guint known = hosts->len;

        if (!net_config_parse_hosts(hosts, array, error)) {
                g_ptr_array_set_size(hosts, (int) known);
                return false;
        }
        for (guint i = known; i < hosts->len;) {
                const NetHost *host = hosts->pdata[i];
                AddressPrefix prefix;
                if (address_prefix_parse(host->address, &prefix))
                        names_add(net->names, &prefix.addr, host->name, NULL, 0, 0);
                if (has_host(hosts, known, host))
                        g_ptr_array_remove_index_fast(hosts, i);
                else
                        i++;
        }
        return true;
}

/* The new rule is asked before all that were there: the latest word counts. */
static bool change_rule(Net *net, GVariant *body, GError **error) {
        g_autoptr(GError) failure = NULL;
        const char *text;
        gboolean allow;
        guint32 serial;

        g_autoptr(GVariant) hosts = g_variant_get_child_value(body, 3);
        g_variant_get(body, "(ub&s@a(ss))", &serial, &allow, &text, NULL);
        NetRule *rule = add_hosts(net, hosts, &failure) ? net_rule_parse(allow, text, &failure) : NULL;
        if (rule) {
                net_rules_insert(net->config->rules, 0, rule);
                guint n = allow ? 0 : account_cut(net->account, &net->policy, rule);
                log_step("new rule: %s %s, %u flows cut", allow ? "allow" : "deny", text, n);
        }
        return answer(net, serial, failure, error);
}

static bool tell_ports(const Net *net, GError **error) {
        GVariant *all = net_publish_pack(net->published);
        return wire_send(net->wire, WIRE_NET_PORTS, g_variant_new_tuple(&all, 1), NULL, 0, error);
}

/* The list of ports goes before the answer, so that it is known when that is. */
static bool change_ports(Net *net, GVariant *body, GError **error) {
        g_autoptr(GVariant) one = g_variant_get_child_value(body, 2);
        g_autoptr(GVariant) array = g_variant_ref_sink(g_variant_new_array(NULL, &one, 1));
        g_autoptr(GError) failure = NULL;
        gboolean open;
        guint32 serial;

        g_variant_get_child(body, 0, "u", &serial);
        g_variant_get_child(body, 1, "b", &open);
        g_autoptr(GPtrArray) port = net_publish_parse(array, &failure);
        if (port && (open ? ports_open : ports_close)(net, port->pdata[0], &failure) && !tell_ports(net, error))
                return false;
        return answer(net, serial, failure, error);
}

static bool list_flows(Net *net, WireMessage *m, GError **error) {
        _cleanup_close_ int fd = wire_message_take_fd(m, 0);
        g_autofree char *text = account_json(net->account);
        g_autoptr(GError) failure = NULL;
        guint32 serial;

        g_variant_get(m->body, "(u)", &serial);
        if (!fd_write_all(fd, text, strlen(text)))
                err_set(&failure, errno, "write the list of flows");
        return answer(net, serial, failure, error);
}

static bool change_resolvers(Net *net, GVariant *body, GError **error) {
        g_autoptr(GVariant) array = g_variant_get_child_value(body, 0);
        GPtrArray *resolvers = net_resolvers_parse(array, error);

        if (!resolvers)
                return false;
        log_step("%u name servers", resolvers->len);
        g_ptr_array_unref(net->config->resolvers);
        net->config->resolvers = resolvers;
        dns_resolvers_changed(net->dns);
        return true;
}

void control_begin(Net *net) {
        net->spare = fcntl(net->wire, F_DUPFD_CLOEXEC, 0);
}

static int take_message(Net *net, GError **error) {
        g_auto(WireMessage) m = { 0 };
        bool ok;

        fd_closep(&net->spare);
        int r = wire_receive(net->wire, &m, error);
        if (r <= 0)
                return r;
        if (m.n_fds == 0)
                control_begin(net); /* before a port is opened, which would take it */
        switch (m.type) {
        case WIRE_NET_RULE:
                ok = change_rule(net, m.body, error);
                break;
        case WIRE_NET_PUBLISH:
                ok = change_ports(net, m.body, error);
                break;
        case WIRE_NET_FLOWS:
                ok = list_flows(net, &m, error);
                break;
        case WIRE_NET_RESOLVERS:
                ok = change_resolvers(net, m.body, error);
                break;
        default:
                ok = err_set(error, EPROTO, "unexpected message %s", wire_type_name(m.type));
        }
        return ok ? 1 : -1;
}

int control_receive(Net *net, GError **error) {
        int r = take_message(net, error);

        if (net->spare < 0)
                control_begin(net);
        return r;
}

void control_agent_lost(void *data) {
        Net *net = data;
        guint before = net->published->len;

        ports_lost(net);
        if (net->published->len < before)
                (void) tell_ports(net, NULL); /* a launcher that has gone needs no list */
}

void control_tell_denied(const char *what, const char *option, void *data) {
        const Net *net = data;

        (void) wire_send(net->wire, WIRE_NET_DENIED, g_variant_new("(ss)", what, option), NULL, 0, NULL);
}
