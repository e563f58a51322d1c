/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of --allow, --deny and --expose-host: their text, and what one speaks of.
 *
 * Role: the launcher, which checks them, and usbox-net, which asks them. Privileges: none. Threads: any; pure functions. Order: read with
 * the options; asked by the policy for each new flow, by DNS for each name.
 *
 * The first rule that speaks of a flow decides. Two things are never opened by a rule that merely includes them, because nobody thinks of
 * them when he writes it: the host itself, and the address where a cloud gives out credentials. A rule has to name that class, or
 * that one address. The rule "any" and a wide prefix pass over them, and so they stay closed by the policy's default.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "netstack/rules.h"

#define LABEL_MAX 63

static const struct {
        const char *name;
        AddressClass class;
} rule_classes[] = {
        { "host", ADDRESS_HOST },
        { "private", ADDRESS_PRIVATE },
        { "link-local", ADDRESS_LINK_LOCAL },
        { "metadata", ADDRESS_METADATA },
};

void net_rule_free(NetRule *rule) {
        if (!rule)
                return;
        g_free(rule->name);
        g_free(rule->text);
        g_free(rule);
}

char *net_name_normal(const char *text) {
        size_t len = strlen(text), label = 0;

        if (len > 0 && text[len - 1] == '.')
                len--;
        if (len == 0 || len > RULES_NAME_MAX)
                return NULL;
        for (size_t i = 0; i < len; i++) {
                char c = text[i];
                if (c == '.' ? label == 0 : (!g_ascii_isalnum(c) && c != '-' && c != '_') || ++label > LABEL_MAX)
                        return NULL;
                if (c == '.')
                        label = 0;
        }
        return label == 0 ? NULL : g_ascii_strdown(text, (gssize) len);
}

/* PORT or PORT-PORT. */
static bool parse_ports(const char *text, NetRule *rule) {
        g_auto(GStrv) parts = g_strsplit(text, "-", 2);
        guint64 n[2] = { 0 };

        for (int i = 0; i < 2 && parts[i]; i++)
                if (!g_ascii_isdigit(*parts[i]) || !g_ascii_string_to_unsigned(parts[i], 10, 1, G_MAXUINT16, &n[i], NULL))
                        return false;
        rule->first = (uint16_t) n[0];
        rule->last = (uint16_t) (parts[0] && parts[1] ? n[1] : n[0]);
        return rule->first > 0 && rule->first <= rule->last;
}

/* Cut "/tcp" or "/udp" off; a CIDR's slash stays. */
static void take_protocol(char *text, NetRule *rule) {
        char *slash = strrchr(text, '/');

        if (slash && g_str_equal(slash, "/tcp"))
                rule->protocols = RULE_TCP;
        else if (slash && g_str_equal(slash, "/udp"))
                rule->protocols = RULE_UDP;
        else
                return;
        *slash = '\0';
}

/* Cut the port off. Returns the target without brackets, or NULL: what is in text. */
static char *take_ports(char *text, NetRule *rule, bool *ret_bracketed) {
        char *colon = strrchr(text, ':');

        *ret_bracketed = *text == '[';
        if (*ret_bracketed) {
                char *end = strchr(text, ']');
                if (!end || (end[1] != '\0' && end[1] != ':'))
                        return NULL;
                colon = end[1] ? end + 1 : NULL;
                *end = '\0';
                text++;
        } else if (colon && strchr(text, ':') != colon) {
                return text; /* an IPv6 address, all of it */
        }
        if (!colon)
                return text;
        *colon = '\0';
        return parse_ports(colon + 1, rule) ? text : NULL;
}

static bool parse_class(const char *text, NetRule *rule) {
        const char *name = rule->allow && g_str_has_prefix(text, "allow-") ? text + strlen("allow-") : text;

        /* In capitals, too: it would be a name, of which nobody has heard. */
        if (g_ascii_strcasecmp(name, "any") == 0) {
                rule->kind = RULE_ANY;
                return true;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(rule_classes); i++)
                if (g_ascii_strcasecmp(name, rule_classes[i].name) == 0) {
                        rule->kind = RULE_CLASS;
                        rule->classes = rule_classes[i].class;
                        return true;
                }
        return false;
}

static bool parse_target(const char *text, bool bracketed, NetRule *rule) {
        bool wildcard = g_str_has_prefix(text, "*.");

        if (address_prefix_parse(text, &rule->prefix)) {
                rule->kind = RULE_PREFIX;
                return !bracketed || !address_is_mapped(&rule->prefix.addr) || rule->prefix.len < 96;
        }
        /* What is nothing but digits and dots is a mistyped address and no name: no top level domain is a number. */
        if (bracketed || strspn(text, "0123456789.") == strlen(text))
                return false;
        if (parse_class(text, rule))
                return true;
        rule->kind = wildcard ? RULE_WILDCARD : RULE_NAME;
        rule->name = net_name_normal(wildcard ? text + 2 : text);
        if (rule->name && !wildcard && g_str_equal(rule->name, RULES_HOST_NAME))
                rule->kind = RULE_GATEWAY;
        return rule->name != NULL;
}

/* What is taken for a class, and would be the name of a machine that there is not: a --deny of it closed nothing, and said so to nobody. With a dot behind
 * it is a name even so. NULL: it is none of these. */
static const char *hint_for_no_name(const char *text) {
        static const char *const all[] = { "all", "everything", "internet", "public", "world", "lan", "local", NULL };
        static const char *const here[] = { "localhost", "loopback", NULL };
        g_autofree char *name = g_ascii_strdown(text, -1);

        if (g_strv_contains(here, name))
                return "in the box that is the box itself; --expose-host PORT lets in a port of this host's loopback, and the class host is all of this host";
        if (g_strv_contains(all, name))
                return "for everything: any; for local networks: private; for a machine that has this name: the name with a dot behind it";
        return NULL;
}

NetRule *net_rule_parse(bool allow, const char *text, GError **error) {
        g_autoptr(NetRule) rule = g_new0(NetRule, 1);
        g_autofree char *rest = g_strdup(text);
        bool bracketed;

        *rule = (NetRule){ .allow = allow, .last = G_MAXUINT16, .text = g_strdup(text) };
        take_protocol(rest, rule);
        char *target = take_ports(rest, rule, &bracketed);
        if (!target || !parse_target(target, bracketed, rule)) {
                g_autofree char *quoted = err_quote(text);
                err_usage(error, "%s: '%s' is not TARGET[:PORT[-PORT]][/tcp|/udp]", allow ? "--allow" : "--deny", quoted);
                err_hint(error, "TARGET is a name (github.com, *.debian.org), an address or CIDR ([2001:db8::1] in brackets before a port), or "
                                "any, host, private, link-local, metadata");
                return NULL;
        }
        const char *no_name = rule->kind == RULE_NAME ? hint_for_no_name(target) : NULL;
        if (no_name) {
                g_autofree char *quoted = err_quote(target);
                err_usage(error, "%s: '%s' is no class of addresses", allow ? "--allow" : "--deny", quoted);
                err_hint(error, "%s", no_name);
                return NULL;
        }
        if (rule->protocols == 0)
                rule->protocols = RULE_TCP | RULE_UDP | (rule->first == 0 ? RULE_ICMP : 0);
        return g_steal_pointer(&rule);
}

char *net_rule_name_text(const char *name) {
        g_autoptr(NetRule) rule = net_rule_parse(true, name, NULL);
        bool as_it_is = rule && (rule->kind == RULE_NAME || rule->kind == RULE_GATEWAY);
        return as_it_is ? g_strdup(name) : g_strconcat(name, ".", NULL);
}

NetRule *net_rule_expose(uint16_t port) {
        NetRule *rule = g_new0(NetRule, 1);

        *rule = (NetRule){ .allow = true, .exposes = true, .kind = RULE_GATEWAY, .first = port, .last = port, .protocols = RULE_TCP | RULE_UDP,
                           .text = g_strdup_printf(RULES_HOST_NAME ":%u", port) };
        return rule;
}

NetRules *net_rules_new(void) {
        NetRules *rules = g_new0(NetRules, 1);
        rules->list = g_ptr_array_new_with_free_func((GDestroyNotify) net_rule_free);
        return rules;
}

void net_rules_free(NetRules *rules) {
        if (!rules)
                return;
        g_ptr_array_unref(rules->list);
        g_free(rules);
}

void net_rules_append(NetRules *rules, NetRule *rule_take) {
        rules->closed |= rule_take->allow && !rule_take->exposes;
        g_ptr_array_add(rules->list, rule_take);
}

void net_rules_insert(NetRules *rules, guint place, NetRule *rule_take) {
        g_ptr_array_insert(rules->list, (int) place, rule_take);
}

bool net_rule_has_port(const NetRule *rule, const RuleTarget *target) {
        return (rule->protocols & target->protocol) &&
               (target->protocol == RULE_ICMP || (rule->first <= target->port && target->port <= rule->last));
}

static bool has_embedded(const AddressPrefix *prefix, const struct in6_addr *addr) {
        struct in6_addr inner[ADDRESS_EMBEDDED_MAX];
        unsigned n = address_embedded(addr, inner);

        for (unsigned i = 0; i < n; i++)
                if (address_prefix_has(prefix, &inner[i]))
                        return true;
        return false;
}

bool net_rule_has_address(const NetRule *rule, const RuleTarget *target) {
        unsigned guarded = rule->allow ? target->classes & (ADDRESS_HOST | ADDRESS_METADATA) : 0;

        switch (rule->kind) {
        case RULE_ANY:
                return guarded == 0;
        case RULE_CLASS:
                return (target->classes & rule->classes) && (guarded & ~rule->classes) == 0;
        case RULE_PREFIX:
                if (address_prefix_has(&rule->prefix, &target->addr))
                        return guarded == 0 || rule->prefix.len == 128;
                /* What is denied is so as well in the spellings that a translator on the way makes the same of. */
                return !rule->allow && has_embedded(&rule->prefix, &target->addr);
        case RULE_GATEWAY:
                return target->gateway;
        case RULE_NAME:
        case RULE_WILDCARD:
                break;
        }
        return false;
}

bool net_rule_has_name(const NetRule *rule, const char *name) {
        if (rule->kind == RULE_NAME)
                return g_str_equal(rule->name, name);
        if (rule->kind != RULE_WILDCARD)
                return false;
        size_t len = strlen(name), parent = strlen(rule->name);
        return len > parent + 1 && name[len - parent - 1] == '.' && g_str_equal(name + len - parent, rule->name);
}

bool net_rules_name_asked(const NetRules *rules, const char *name, const NetRule **ret_rule) {
        *ret_rule = NULL;
        for (guint i = 0; i < rules->list->len; i++) {
                const NetRule *rule = rules->list->pdata[i];
                bool whole = rule->protocols & RULE_ICMP; /* neither ports nor a protocol of its own */

                if (net_rule_has_name(rule, name) && (rule->allow || whole)) {
                        *ret_rule = rule;
                        return rule->allow;
                }
                /* An address that some rule opens is a reason to ask, whatever its name; after "deny any" there are no more such. */
                if (rule->allow && !rule->exposes && !rule->name && rule->kind != RULE_GATEWAY)
                        return true;
                if (!rule->allow && rule->kind == RULE_ANY && whole)
                        return false;
        }
        return !rules->closed;
}
