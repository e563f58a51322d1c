/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-net.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 4, 6 and 11.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "net-helper.h"
#include "net-names.h"
#include "netstack/config.h"
#include "netstack/records.h"
#include "netstack/resolvconf.h"

/* For the last lines of --net-log. */
#define LAST_LINES_MS 5000

/* Denials that are named after the run, and options that would allow them. */
#define TOLD_MAX 5

static GVariant *pack_config(const Spec *spec, const NetRecords *records) {
        g_autoptr(NetConfig) config = net_config_new();

        config->mtu = spec->net.mtu;
        config->ipv6 = spec->net.ipv6;
        config->fast_path = spec->net.fast_path;
        config->verbose = spec->box.verbose;
        config->best_effort_confine = spec->box.best_effort & BEST_EFFORT_CONFINE;
        config->tls_names = spec->net.tls_names;
        net_records_tell(records, config);
        config->shape = spec->net.shape;
        for (guint i = 0; i < spec->net.publish->len; i++) {
                const NetPublish *p = g_ptr_array_index(spec->net.publish, i);
                g_ptr_array_add(config->publish, net_publish_new(p->udp, p->host_addr, p->host_port, p->box_addr, p->box_port));
        }
        for (guint i = 0; i < spec->net.expose->len; i++)
                net_rules_append(config->rules, net_rule_expose(g_array_index(spec->net.expose, guint16, i)));
        for (guint i = 0; i < spec->net.rules->list->len; i++) {
                const NetRule *rule = spec->net.rules->list->pdata[i];
                net_rules_append(config->rules, net_rule_parse(rule->allow, rule->text, NULL));
        }
        net_given_hosts(spec, config->hosts);
        g_ptr_array_unref(config->resolvers);
        config->resolvers = net_resolvers(spec);
        return net_config_pack(config);
}

static const HelperKind kind = { .program = "usbox-net", .file = "usbox-net-stack", .step = "network", .lost = "network" };

/* Requests that wait for their answer: as many as there are who may ask (control.h), and some whose asker has gone. */
#define QUESTIONS_MAX 64u

/* A NET_RULE, NET_FLOWS or NET_PUBLISH that was not answered yet. */
typedef struct {
        guint32 serial;
        NetHelperDone done;
        void *data;
} Question;

bool net_helper_start(const Spec *spec, NetHelper *ret, GError **error) {
        char *const argv[] = { (char *) "usbox-net", (char *) "--wire", (char *) "3",
                               spec->box.verbose ? (char *) "--verbose" : NULL, NULL };
        g_auto(NetRecords) records = NET_RECORDS_NONE;
        int fds[NET_RECORDS_MAX];

        *ret = NET_HELPER_NONE;
        ret->denied = g_ptr_array_new_with_free_func(g_free);
        ret->options = g_ptr_array_new_with_free_func(g_free);
        ret->questions = g_array_new(false, false, sizeof(Question));
        if (!net_records_open(spec->net.log_file, spec->net.pcap_file, &records, error))
                return err_step(error, kind.step);
        ret->keeps = records.log >= 0;
        ret->spec = spec;
        if (!helper_start(&ret->helper, &kind, argv, fds, net_records_fds(&records, fds), error))
                return false;
        if (helper_send(&ret->helper, WIRE_NET_CONFIG, pack_config(spec, &records), NULL, 0, error))
                return true;
        if (error && *error && err_get_errno(*error) == EMSGSIZE && spec->net.hosts->len > 0)
                err_hint(error, "%u times --add-host are too much", spec->net.hosts->len);
        return false;
}

/* From then on it may be stopped for as long as somebody likes, and no signal, time limit or request to the launcher waits for it. */
bool net_helper_give_tap(NetHelper *h, const WireMessage *fds, GError **error) {
        return helper_send(&h->helper, WIRE_NET_TAP, fds->body, fds->fds, fds->n_fds, error) &&
               (fd_set_nonblock(h->helper.wire, true) || (err_set(error, errno, "fcntl"), err_step(error, kind.step)));
}

/* Where its wire is full, what they are by then is said as soon as there is room. */
static bool send_resolvers(NetHelper *h, GError **error) {
        g_autoptr(GPtrArray) resolvers = net_resolvers(h->spec);
        GVariant *array = net_resolvers_pack(resolvers);
        GError *failure = NULL;

        h->owes_resolvers = !helper_send(&h->helper, WIRE_NET_RESOLVERS, g_variant_new_tuple(&array, 1), NULL, 0, &failure);
        return !h->owes_resolvers || wire_is_full(failure, error);
}

bool net_helper_watch(NetHelper *h, GError **error) {
        g_autoptr(GError) failure = NULL;

        h->watch = net_resolv_watch(h->spec, &failure);
        if (failure) {
                log_note("%s: the box goes on with the name servers that it has", failure->message);
                if (err_get_hint(failure))
                        log_note("hint: %s", err_get_hint(failure));
        }
        /* It may have changed since it was read. */
        return h->watch < 0 || send_resolvers(h, error);
}

bool net_helper_resolvers(NetHelper *h, GError **error) {
        return !resolvconf_drain(h->watch) || send_resolvers(h, error);
}

static bool is_stopped(const NetHelper *h) {
        siginfo_t state = { 0 };
        return waitid(P_PID, (id_t) h->helper.pid, &state, WSTOPPED | WNOHANG | WNOWAIT) == 0 && state.si_pid > 0;
}

static bool send_question(const NetHelper *h, WireType type, GVariant *body, const int *memfd, GError **error) {
        bool stopped = is_stopped(h);

        if (!stopped && h->questions->len < QUESTIONS_MAX) {
                GError *failure = NULL;
                if (wire_send(h->helper.wire, type, body, memfd, memfd ? 1 : 0, &failure))
                        return true;
                if (!wire_is_full(failure, error))
                        return false;
        }
        if (stopped)
                err_set(error, 0, "usbox-net of the box is stopped");
        else
                err_set(error, 0, "usbox-net of the box has not answered the last %u requests", h->questions->len);
        return err_hint(error, "kill -CONT %d, if somebody has stopped it", (int) h->helper.pid);
}

/* Whatever is in the way is told by done to who asks: that the box has no network any more is found, and said, by net_helper_dispatch(). */
static void ask(NetHelper *h, WireType type, GVariant *body, const int *memfd, NetHelperDone done, void *data) {
        Question question = { .serial = h->serial, .done = done, .data = data };
        g_autoptr(GVariant) held = g_variant_ref_sink(body);
        g_autoptr(GError) failure = NULL;

        if (!send_question(h, type, held, memfd, &failure))
                done(failure->message, err_get_hint(failure), data);
        else
                g_array_append_val(h->questions, question);
}

GVariant *net_helper_rule_hosts(const NetHelper *h, bool allow, const char *text, GError **error) {
        g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func((GDestroyNotify) net_host_free);
        g_autoptr(NetRules) rules = net_rules_new();

        NetRule *rule = net_rule_parse(allow, text, error);
        if (!rule)
                return NULL;
        net_rules_append(rules, rule);
        net_file_hosts(h->spec, rules, hosts);
        g_autoptr(GVariant) packed = g_variant_ref_sink(net_hosts_pack(hosts));
        if (g_variant_get_size(packed) > WIRE_MAX_SIZE / 2) {
                err_set(error, 0, "/etc/hosts has %u names of that rule, which is too many for a box that runs", hosts->len);
                return NULL;
        }
        return g_steal_pointer(&packed);
}

void net_helper_rule(NetHelper *h, bool allow, const char *text, GVariant *hosts, NetHelperDone done, void *data) {
        ask(h, WIRE_NET_RULE, g_variant_new("(ubs@a(ss))", ++h->serial, allow, text, hosts), NULL, done, data);
}

void net_helper_flows(NetHelper *h, int memfd, NetHelperDone done, void *data) {
        ask(h, WIRE_NET_FLOWS, g_variant_new("(u)", ++h->serial), &memfd, done, data);
}

void net_helper_publish(NetHelper *h, bool open, const NetPublish *p, NetHelperDone done, void *data) {
        GVariant *body = g_variant_new("(ub(ssqsq))", ++h->serial, open, p->udp ? "udp" : "tcp", p->host_addr, p->host_port, p->box_addr, p->box_port);
        ask(h, WIRE_NET_PUBLISH, body, NULL, done, data);
}

static bool take_ports(NetHelper *h, GVariant *body, GError **error) {
        g_autoptr(GVariant) array = g_variant_get_child_value(body, 0);
        GPtrArray *ports = net_publish_parse(array, error);

        if (!ports)
                return err_step(error, "network");
        g_ptr_array_unref(h->ports);
        h->ports = ports;
        return true;
}

static bool take_ready(NetHelper *h, GVariant *body, GError **error) {
        if (h->ports) {
                err_set(error, EPROTO, "usbox-net said NET_READY twice");
                return err_step(error, "network");
        }
        g_autoptr(GVariant) ports = g_variant_get_child_value(body, 0);
        h->ports = net_publish_parse(ports, error);
        return h->ports ? true : err_step(error, "network");
}

static void take_done(NetHelper *h, GVariant *body) {
        const char *text, *hint;
        guint32 serial;

        g_variant_get(body, "(u&s&s)", &serial, &text, &hint);
        for (guint i = 0; i < h->questions->len; i++) {
                Question question = g_array_index(h->questions, Question, i);
                if (question.serial != serial)
                        continue;
                g_array_remove_index(h->questions, i);
                question.done(*text ? text : NULL, *hint ? hint : NULL, question.data);
                return;
        }
}

/* Its word that there are no more is that of who parses what the box sends. */
static bool take_denied(NetHelper *h, GVariant *body, GError **error) {
        const char *what, *option;

        if (h->denied->len >= NET_DENIALS_MAX) {
                err_set(error, EPROTO, "usbox-net said NET_DENIED more than %u times", NET_DENIALS_MAX);
                return err_step(error, "network");
        }
        g_variant_get(body, "(&s&s)", &what, &option);
        g_ptr_array_add(h->denied, err_quote(what));
        g_ptr_array_add(h->options, err_quote(option));
        return true;
}

static bool take_message(NetHelper *h, const WireMessage *m, GError **error) {
        switch (m->type) {
        case WIRE_NET_READY:
                return take_ready(h, m->body, error);
        case WIRE_NET_PORTS:
                return take_ports(h, m->body, error);
        case WIRE_NET_DONE:
                take_done(h, m->body);
                return true;
        case WIRE_NET_DENIED:
                return take_denied(h, m->body, error);
        default:
                err_set(error, EPROTO, "usbox-net said %s", wire_type_name(m->type));
                return err_step(error, "network");
        }
}

short net_helper_events(const NetHelper *h) {
        return h->owes_resolvers ? POLLIN | POLLOUT : POLLIN;
}

bool net_helper_dispatch(NetHelper *h, short revents, GError **error) {
        g_auto(WireMessage) m = { 0 };

        if (h->owes_resolvers && (revents & POLLOUT) && !send_resolvers(h, error))
                return false;
        if (!(revents & ~POLLOUT))
                return true;
        return helper_receive_any(&h->helper, &m, error) && take_message(h, &m, error);
}

void net_helper_stop(NetHelper *h) {
        helper_adopt(&h->helper);
        if (h->keeps && h->helper.wire >= 0)
                (void) shutdown(h->helper.wire, SHUT_WR); /* as if we had gone: it writes the log's last lines, and ends */
        else
                helper_kill(&h->helper);
}

void net_helper_finish(NetHelper *h) {
        struct pollfd end = { .fd = h->helper.pidfd, .events = POLLIN }, wire = { .fd = h->helper.wire, .events = POLLIN };

        net_helper_stop(h);
        if (h->keeps && h->helper.pid > 0)
                (void) poll(&end, 1, LAST_LINES_MS);
        helper_kill(&h->helper); /* else this might not be its last */
        /* What it said last: of a flow that was denied it speaks before the box hears of it. */
        while (h->helper.wire >= 0 && poll(&wire, 1, 0) > 0) {
                g_auto(WireMessage) m = { 0 };
                if (wire_receive(h->helper.wire, &m, NULL) <= 0 || m.type == WIRE_ERROR || !take_message(h, &m, NULL))
                        break;
        }
}

/* Each option once, in their order. */
static char *options_text(const NetHelper *h) {
        g_autoptr(GPtrArray) shown = g_ptr_array_new();
        bool allows = false;

        for (guint i = 0; i < h->options->len && shown->len < TOLD_MAX; i++) {
                char *option = h->options->pdata[i];
                if (!*option || g_str_has_prefix(option, "--deny ") || g_ptr_array_find_with_equal_func(shown, option, g_str_equal, NULL))
                        continue;
                allows |= g_str_has_prefix(option, "--allow ");
                g_ptr_array_add(shown, option);
        }
        if (shown->len == 0)
                return NULL;
        /* The first --allow closes what none is of. */
        if (allows && !h->spec->net.rules->closed)
                g_ptr_array_add(shown, (char *) "--allow any");
        g_ptr_array_add(shown, NULL);
        return g_strjoinv(" ", (char **) shown->pdata);
}

void net_helper_tell_denied(const NetHelper *h) {
        g_autoptr(GString) text = g_string_new(NULL);

        if (!h->denied || h->denied->len == 0)
                return;
        for (guint i = 0; i < MIN(h->denied->len, TOLD_MAX); i++) {
                const char *option = h->options->pdata[i];
                g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", (char *) h->denied->pdata[i]);
                if (g_str_has_prefix(option, "--deny "))
                        g_string_append_printf(text, " (%s)", option);
        }
        if (h->denied->len > TOLD_MAX)
                g_string_append_printf(text, " and %s%u more", h->denied->len >= NET_DENIALS_MAX ? "at least " : "", h->denied->len - TOLD_MAX);
        g_autofree char *options = options_text(h);
        log_note("denied by policy: %s%s%s", text->str, options ? "; to allow: " : "", options ? options : "");
}

void net_helper_clear(NetHelper *h) {
        FdLater later = { .n = 0 };

        fd_later_take(&later, &h->watch);
        fd_later_release(&later);
        helper_clear(&h->helper);
        g_clear_pointer(&h->ports, g_ptr_array_unref);
        g_clear_pointer(&h->denied, g_ptr_array_unref);
        g_clear_pointer(&h->options, g_ptr_array_unref);
        for (guint i = 0; h->questions && i < h->questions->len; i++) {
                const Question *question = &g_array_index(h->questions, Question, i);
                question->done("the box has ended", NULL, question->data);
        }
        g_clear_pointer(&h->questions, g_array_unref);
}
