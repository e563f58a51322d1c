/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: the text of --allow and --deny. The first byte says which: 'a' or 'd'.
 *
 * Role: tests only. Privileges: none. Threads: one. A rule that is taken has one kind of target, ports in order, text that can stand in a log as it
 * is, and is the same when it is read again.
 */
#include <string.h>

#include "fuzz.h"
#include "netstack/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autoptr(GError) error = NULL;

        if (size < 1 || memchr(data, 0, size))
                return 0;
        g_autofree char *text = g_strndup((const char *) data + 1, size - 1);
        g_autoptr(NetRule) rule = net_rule_parse(data[0] == 'a', text, &error);
        g_assert_true((rule == NULL) == (error != NULL));
        if (!rule)
                return 0;
        g_assert_true(strspn(rule->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*:/[]") == strlen(rule->text));
        g_assert_true(rule->first <= rule->last && rule->protocols != 0 && (rule->first == 0 || !(rule->protocols & RULE_ICMP)));
        g_assert_true((rule->name != NULL) == (rule->kind == RULE_NAME || rule->kind == RULE_WILDCARD || rule->kind == RULE_GATEWAY));
        if (rule->kind == RULE_PREFIX) {
                g_autofree char *address = address_text(&rule->prefix.addr);
                g_assert_true(rule->prefix.len <= 128 && address_prefix_has(&rule->prefix, &rule->prefix.addr));
        }
        if (rule->kind == RULE_NAME)
                g_assert_true(net_rule_has_name(rule, rule->name));
        if (rule->kind == RULE_WILDCARD)
                g_assert_false(net_rule_has_name(rule, rule->name));
        g_autoptr(NetRule) again = net_rule_parse(rule->allow, rule->text, NULL);
        g_assert_true(again && again->kind == rule->kind && again->first == rule->first && again->last == rule->last && again->protocols == rule->protocols);
        return 0;
}
