/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of usbox-net, as far as it is about rules and names: packing and parsing.
 *
 * Role: launcher and usbox-net. Privileges: none needed. Threads: any. Order: under config.c; name servers come again while the box runs.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "netstack/config.h"

NetHost *net_host_new(const char *name, const char *address) {
        NetHost *host = g_new0(NetHost, 1);
        host->name = g_strdup(name);
        host->address = g_strdup(address);
        return host;
}

void net_host_free(NetHost *host) {
        g_free(host->name);
        g_free(host->address);
        g_free(host);
}

bool net_address_parse(const char *text, guint16 port, struct sockaddr_storage *ret, socklen_t *ret_len) {
        struct sockaddr_in *in = (struct sockaddr_in *) ret;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) ret;
        g_auto(GStrv) parts = g_strsplit(text, "%", 2);
        guint64 scope = 0;

        *ret = (struct sockaddr_storage){ 0 };
        if (!parts[0] || (parts[1] && !g_ascii_string_to_unsigned(parts[1], 10, 1, G_MAXINT32, &scope, NULL)))
                return false;
        if (!parts[1] && inet_pton(AF_INET, parts[0], &in->sin_addr) == 1) {
                in->sin_family = AF_INET;
                in->sin_port = htons(port);
                *ret_len = sizeof *in;
                return true;
        }
        if (inet_pton(AF_INET6, parts[0], &in6->sin6_addr) != 1)
                return false;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        in6->sin6_scope_id = (uint32_t) scope;
        *ret_len = sizeof *in6;
        return true;
}

bool net_resolver_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len) {
        return net_address_parse(text, 53, ret, ret_len);
}

GVariant *net_resolvers_pack(const GPtrArray *resolvers) {
        return g_variant_new_strv((const char *const *) resolvers->pdata, (gssize) resolvers->len);
}

GPtrArray *net_resolvers_parse(GVariant *array, GError **error) {
        g_autoptr(GPtrArray) resolvers = g_ptr_array_new_with_free_func(g_free);
        struct sockaddr_storage addr;
        GVariantIter iter;
        const char *text;
        socklen_t len;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "&s", &text)) {
                if (!net_resolver_address(text, &addr, &len)) {
                        g_autofree char *quoted = err_quote(text);
                        err_usage(error, "name server: \"%s\" is not a numeric address", quoted);
                        return NULL;
                }
                g_ptr_array_add(resolvers, g_strdup(text));
        }
        return g_steal_pointer(&resolvers);
}

GVariant *net_hosts_pack(const GPtrArray *hosts) {
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ss)"));
        for (guint i = 0; i < hosts->len; i++) {
                const NetHost *host = hosts->pdata[i];
                g_variant_builder_add(&builder, "(ss)", host->name, host->address);
        }
        return g_variant_builder_end(&builder);
}

void net_config_pack_policy(const NetConfig *config, GVariantBuilder *builder) {
        GVariantBuilder expose, rules;

        g_variant_builder_init(&expose, G_VARIANT_TYPE("aq"));
        g_variant_builder_init(&rules, G_VARIANT_TYPE("a(bs)"));
        for (guint i = 0; i < config->rules->list->len; i++) {
                const NetRule *rule = config->rules->list->pdata[i];
                if (rule->exposes)
                        g_variant_builder_add(&expose, "q", rule->first);
                else
                        g_variant_builder_add(&rules, "(bs)", rule->allow, rule->text);
        }
        g_variant_builder_add(builder, "{sv}", "expose", g_variant_builder_end(&expose));
        g_variant_builder_add(builder, "{sv}", "rules", g_variant_builder_end(&rules));
        g_variant_builder_add(builder, "{sv}", "hosts", net_hosts_pack(config->hosts));
        g_variant_builder_add(builder, "{sv}", "resolvers", net_resolvers_pack(config->resolvers));
}

bool net_config_parse_expose(NetConfig *config, GVariant *array, GError **error) {
        GVariantIter iter;
        guint16 port;
        guint place = 0;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "q", &port)) {
                if (port == 0)
                        return err_usage(error, "exposed port of the host: 0 is none");
                net_rules_insert(config->rules, place++, net_rule_expose(port));
        }
        return true;
}

bool net_config_parse_rules(NetConfig *config, GVariant *array, GError **error) {
        GVariantIter iter;
        gboolean allow;
        const char *text;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "(b&s)", &allow, &text)) {
                NetRule *rule = net_rule_parse(allow, text, error);
                if (!rule)
                        return false;
                net_rules_append(config->rules, rule);
        }
        return true;
}

bool net_config_parse_hosts(GPtrArray *hosts, GVariant *array, GError **error) {
        const char *name, *address;
        AddressPrefix prefix;
        GVariantIter iter;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "(&s&s)", &name, &address)) {
                g_autofree char *normal = net_name_normal(name);
                if (!normal || strchr(address, '/') || !address_prefix_parse(address, &prefix)) {
                        g_autofree char *name_quoted = err_quote(name), *address_quoted = err_quote(address);
                        return err_usage(error, "name: \"%s\" of \"%s\" is no name with an address", name_quoted, address_quoted);
                }
                g_ptr_array_add(hosts, net_host_new(normal, address));
        }
        return true;
}
