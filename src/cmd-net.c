/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox net: a running box's flows, and rules and published ports that hold from now on.
 *
 * Role: verb. Privileges: the caller's. Threads: one.
 */
#include <stdio.h>

#include "base/error.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"
#include "netstack/rules.h"
#include "netstack/values.h"

const VerbOption net_verb_options[] = {
        { .name = "flows", .help = "list the flows (what happens without another word)" },
        { .name = "json", .help = "an object with the flows, and with sums of those that ended, for programs" },
        { 0 },
};

/* The time since then, in s. */
static char *age_text(json_t *flow) {
        double s = (double) g_get_real_time() / G_USEC_PER_SEC - json_number_value(json_object_get(flow, "started"));
        return s < 3600 ? g_strdup_printf("%.0fs", MAX(s, 0)) : g_strdup_printf("%.0fh", s / 3600);
}

/* usbox-net reads what the box sends: what it says is quoted, as what comes from there. The caller's. */
static char *text_of(json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        return text ? err_quote(text) : g_strdup("-");
}

static char *bytes_of(json_t *object, const char *key) {
        return g_format_size_full((guint64) json_integer_value(json_object_get(object, key)), G_FORMAT_SIZE_IEC_UNITS);
}

static void print_flows(json_t *all) {
        json_t *flow;
        size_t i;

        printf("%-5s  %-40s  %-28s  %10s  %10s  %5s  %s\n", "PROTO", "TO", "NAME", "OUT", "IN", "AGE", "RULE");
        json_array_foreach(json_object_get(all, "flows"), i, flow) {
                g_autofree char *out = bytes_of(flow, "bytes_out"), *in = bytes_of(flow, "bytes_in"), *age = age_text(flow);
                g_autofree char *protocol = text_of(flow, "protocol"), *to = text_of(flow, "to"), *name = text_of(flow, "name"), *rule = text_of(flow, "rule");
                printf("%-5s  %-40s  %-28s  %10s  %10s  %5s  %s\n", protocol, to, name, out, in, age, rule);
        }
}

static void print_ended(json_t *all) {
        json_t *sums = json_object_get(all, "ended"), *sum;
        size_t i;

        if (json_array_size(sums) == 0)
                return;
        printf("\n%-47s  %6s  %6s  %10s  %10s\n", "DESTINATION", "FLOWS", "DENIED", "OUT", "IN");
        json_array_foreach(sums, i, sum) {
                g_autofree char *out = bytes_of(sum, "bytes_out"), *in = bytes_of(sum, "bytes_in"), *to = text_of(sum, "to");
                printf("%-47s  %6" JSON_INTEGER_FORMAT "  %6" JSON_INTEGER_FORMAT "  %10s  %10s\n", to,
                       json_integer_value(json_object_get(sum, "flows")), json_integer_value(json_object_get(sum, "denied")), out, in);
        }
}

static bool list(const BoxInfo *box, bool json, GError **error) {
        g_autofree char *text = control_text(box, WIRE_CTL_NET_FLOWS, error);

        if (!text)
                return false;
        json_t *all = json_loads(text, 0, NULL);
        if (!json_is_object(all)) {
                json_decref(all);
                return err_set(error, EPROTO, "the list of flows");
        }
        if (json) {
                g_autofree char *line = jsontext_line(all);
                fputs(line, stdout);
                return true;
        }
        print_flows(all);
        print_ended(all);
        json_decref(all);
        return true;
}

/* Every rule is read before the first is sent: all of them hold, or none. */
static bool change(const BoxInfo *box, bool allow, const VerbArgs *args, GError **error) {
        for (guint i = 2; i < verb_args_n_words(args); i++) {
                g_autoptr(NetRule) rule = net_rule_parse(allow, verb_args_word(args, i), error);
                if (!rule)
                        return false;
        }
        /* Each goes before all others, so the last that is sent is the first that is asked. */
        for (guint i = verb_args_n_words(args) - 1; i >= 2; i--)
                if (!control_do(box, WIRE_CTL_NET_RULE, g_variant_new("(bs)", allow, verb_args_word(args, i)), error))
                        return false;
        return true;
}

static bool change_port(const BoxInfo *box, bool open, const NetPublish *port, GError **error) {
        g_autofree char *text = net_value_publish_text(port);
        return control_do(box, WIRE_CTL_NET_PUBLISH, g_variant_new("(bs)", open, text), error);
}

/* Of a range all ports are opened, or none. */
static bool change_range(const BoxInfo *box, bool open, const GPtrArray *ports, GError **error) {
        for (guint i = 0; i < ports->len; i++) {
                if (change_port(box, open, ports->pdata[i], error))
                        continue;
                while (open && i > 0)
                        (void) change_port(box, false, ports->pdata[--i], NULL);
                return false;
        }
        return true;
}

static bool change_ports(const BoxInfo *box, bool open, const VerbArgs *args, GError **error) {
        g_autoptr(GPtrArray) ranges = g_ptr_array_new_with_free_func((GDestroyNotify) g_ptr_array_unref);

        for (guint i = 2; i < verb_args_n_words(args); i++) {
                GPtrArray *ports = net_value_publish(verb_args_word(args, i), error);
                if (!ports)
                        return false;
                g_ptr_array_add(ranges, ports);
        }
        for (guint i = 0; i < ranges->len; i++)
                if (!change_range(box, open, ranges->pdata[i], error))
                        return false;
        return true;
}

static bool carry_out(const BoxInfo *box, const VerbArgs *args, GError **error) {
        const char *word = verb_args_word(args, 1);

        if (!word)
                return list(box, verb_args_has(args, "json"), error);
        if (g_str_equal(word, "allow") || g_str_equal(word, "deny"))
                return change(box, g_str_equal(word, "allow"), args, error);
        return change_ports(box, g_str_equal(word, "publish"), args, error);
}

int cmd_net(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "net", net_verb_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "net", 1, G_MAXUINT, error))
                return -1;
        const char *word = verb_args_word(&args, 1);
        static const char *const words[] = { "allow", "deny", "publish", "unpublish", NULL };
        if (word && !g_strv_contains(words, word)) {
                g_autofree char *quoted = err_quote(word);
                err_usage(error, "net: '%s' is neither allow, deny, publish nor unpublish", quoted);
                err_hint(error, "usbox help net");
                err_step(error, "options");
                return -1;
        }
        if (word && !verb_args_count(&args, "net", 3, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(BoxInfo) box = spec ? registry_find_network(&spec->caller, verb_args_word(&args, 0), "net", error) : NULL;
        if (!box)
                return -1;
        return carry_out(box, &args, error) ? 0 : -1;
}
