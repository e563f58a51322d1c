/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may leave the box: the options about rules and the record of flows.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); usbox-net carries it out. What a rule
 * says and means stands in netstack/rules.c, which both sides have.
 */
#include <string.h>

#include "base/error.h"
#include "netstack/rules.h"
#include "spec.h"

/* The rules go over the wire in one message, with much else. */
#define RULES_BYTES_MAX 32768

static bool apply_rule(Spec *draft, bool allow, const char *text, GError **error) {
        NetRule *rule = net_rule_parse(allow, text, error);

        if (!rule)
                return false;
        /* Of one source (a profile, the command line) in its order; a later source's before those of an earlier one. */
        net_rules_insert(draft->net.rules, draft->net.rules_place++, rule);
        draft->net.rules->closed |= allow;
        return true;
}

static bool apply_allow(Spec *draft, const char *const *values, GError **error) {
        return apply_rule(draft, true, values[0], error);
}

static bool apply_deny(Spec *draft, const char *const *values, GError **error) {
        return apply_rule(draft, false, values[0], error);
}

static bool apply_expose_host(Spec *draft, const char *const *values, GError **error) {
        guint64 port;

        if (!option_digits(values[0], G_MAXUINT16, &port) || port == 0) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--expose-host: '%s' is not a port", quoted);
        }
        guint16 number = (guint16) port;
        g_array_append_val(draft->net.expose, number);
        return true;
}

static bool apply_net_log(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->net.log_file);
        draft->net.log_file = option_host_path(draft, values[0]);
        return true;
}

static bool apply_tls_names(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--tls-names", values[0], &draft->net.tls_names, error);
}

const Option netpolicy_options[] = {
        { .name = "allow",
          .arg = "RULE",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "let flows of RULE, NAME|ADDRESS|CLASS[:PORT[-PORT]][/tcp|/udp], out of the box; what no --allow names is then denied",
          .apply = apply_allow },
        { .name = "deny",
          .arg = "RULE",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "refuse flows of RULE; of all rules the first that matches counts",
          .apply = apply_deny },
        { .name = "expose-host",
          .arg = "PORT",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "that port of the host's loopback is host.usbox:PORT in the box",
          .apply = apply_expose_host },
        { .name = "tls-names",
          .group = OPTION_NETWORK,
          .help = "what an --allow by name opens at port 443 must ask for an allowed name in its TLS hello; not QUIC, not encrypted hellos",
          .apply = apply_tls_names },
        { .name = "net-log",
          .arg = "FILE",
          .group = OPTION_NETWORK,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_FILE,
          .help = "append to FILE, as JSON lines, each flow's start, end and size, and what was denied",
          .apply = apply_net_log },
        { 0 },
};

void netpolicy_init(NetSpec *s) {
        s->rules = net_rules_new();
        s->expose = g_array_new(false, false, sizeof(guint16));
}

void netpolicy_clear(NetSpec *s) {
        g_clear_pointer(&s->rules, net_rules_free);
        g_clear_pointer(&s->expose, g_array_unref);
        g_clear_pointer(&s->log_file, g_free);
}

bool netpolicy_check(const NetSpec *s, GError **error) {
        size_t bytes = 0;

        if (s->mode != NET_USER) {
                const char *what = s->rules->list->len > 0 ? (((const NetRule *) s->rules->list->pdata[0])->allow ? "--allow" : "--deny")
                                   : s->expose->len > 0    ? "--expose-host"
                                   : s->tls_names          ? "--tls-names"
                                   : s->log_file           ? "--net-log"
                                                           : NULL;
                return !what || err_usage(error, "%s needs --network=user, not --network=%s", what, net_mode_name(s->mode));
        }
        for (guint i = 0; i < s->rules->list->len; i++)
                bytes += strlen(((const NetRule *) s->rules->list->pdata[i])->text) + 16;
        if (bytes + s->expose->len * sizeof(guint16) > RULES_BYTES_MAX)
                return err_usage(error, "--allow, --deny: %u rules are more than usbox-net takes", s->rules->list->len);
        return true;
}
