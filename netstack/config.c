/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of usbox-net: packing on the launcher's side, parsing on usbox-net's.
 *
 * Role: launcher and usbox-net. Privileges: none needed. Threads: any. Order: first thing over the wire.
 *
 * The launcher is trusted, but its arguments come from a command line: what is parsed is checked in full, so that no
 * later step has to ask whether an address is one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "base/dict.h"
#include "base/error.h"
#include "netstack/config.h"
#include "netstack/subnet.h"
#include "netstack/values.h"

NetConfig *net_config_new(void) {
        NetConfig *config = g_new0(NetConfig, 1);
        config->mtu = NET_MTU_DEFAULT;
        config->tap = g_strdup(NET_TAP_NAME);
        config->ipv6 = true;
        config->fast_path = true;
        config->publish = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
        config->rules = net_rules_new();
        config->hosts = g_ptr_array_new_with_free_func((GDestroyNotify) net_host_free);
        config->resolvers = g_ptr_array_new_with_free_func(g_free);
        config->log_fd = config->pcap_fd = -1;
        return config;
}

void net_config_free(NetConfig *config) {
        if (!config)
                return;
        g_clear_pointer(&config->tap, g_free);
        g_clear_pointer(&config->publish, g_ptr_array_unref);
        g_clear_pointer(&config->rules, net_rules_free);
        g_clear_pointer(&config->hosts, g_ptr_array_unref);
        g_clear_pointer(&config->resolvers, g_ptr_array_unref);
        g_free(config);
}

bool net_config_offloads(const NetConfig *config) {
        return !net_shape_is_framed(&config->shape, config->pcap_fd >= 0);
}

bool net_is_interface_name(const char *text) {
        size_t len = strlen(text);

        for (size_t i = 0; i < len; i++)
                if (!g_ascii_isgraph(text[i]) || strchr("/:%", text[i]))
                        return false;
        return len > 0 && len < IFNAMSIZ && !g_str_equal(text, ".") && !g_str_equal(text, "..");
}

NetPublish *net_publish_new(bool udp, const char *host_addr, guint16 host_port, const char *box_addr, guint16 box_port) {
        NetPublish *publish = g_new0(NetPublish, 1);
        publish->udp = udp;
        publish->host_addr = g_strdup(host_addr ? host_addr : "");
        publish->host_port = host_port;
        publish->box_addr = g_strdup(box_addr ? box_addr : "");
        publish->box_port = box_port;
        return publish;
}

void net_publish_free(NetPublish *publish) {
        g_free(publish->host_addr);
        g_free(publish->box_addr);
        g_free(publish);
}

char *net_publish_text(const NetPublish *publish) {
        bool v6 = strchr(publish->host_addr, ':');
        return g_strdup_printf("%s %s%s%s:%u", publish->udp ? "udp" : "tcp", v6 ? "[" : "",
                               *publish->host_addr ? publish->host_addr : "*", v6 ? "]" : "", publish->host_port);
}

static socklen_t make_address(const char *text, guint16 port, struct sockaddr_storage *ret) {
        socklen_t len = 0;
        bool ok = net_address_parse(text, port, ret, &len);
        g_assert(ok); /* net_publish_parse() has seen to it */
        return len;
}

socklen_t net_publish_host(const NetPublish *publish, struct sockaddr_storage *ret) {
        bool any = !*publish->host_addr || g_str_equal(publish->host_addr, "*");
        return make_address(any ? "0.0.0.0" : publish->host_addr, publish->host_port, ret);
}

socklen_t net_publish_box(const NetPublish *publish, struct sockaddr_storage *ret) {
        const char *own = strchr(publish->host_addr, ':') ? NET_BOX_IPV6 : subnet_ipv4()->box_text;
        return make_address(*publish->box_addr ? publish->box_addr : own, publish->box_port, ret);
}

guint16 net_sockaddr_port(const struct sockaddr_storage *addr) {
        return ntohs(addr->ss_family == AF_INET ? ((const struct sockaddr_in *) addr)->sin_port
                                                : ((const struct sockaddr_in6 *) addr)->sin6_port);
}

bool net_publish_failed(const NetPublish *publish, int errnum, GError **error) {
        g_autofree char *text = net_publish_text(publish);

        err_set(error, errnum, "publish %s", text);
        if (errnum == EACCES)
                err_hint(error, "ports below net.ipv4.ip_unprivileged_port_start are for root: take a higher one, or "
                                "lower it with sysctl");
        else if (errnum == EADDRINUSE)
                err_hint(error, "port %u is taken: `ss -lntup` shows by whom; 0 takes any free one", publish->host_port);
        else if (errnum == EADDRNOTAVAIL)
                err_hint(error, "the address must be one of this host's: `ip addr` shows them");
        return false;
}

GVariant *net_publish_pack(const GPtrArray *publish) {
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE(NET_PUBLISH_SIGNATURE));
        for (guint i = 0; i < publish->len; i++) {
                const NetPublish *p = publish->pdata[i];
                g_variant_builder_add(&builder, "(ssqsq)", p->udp ? "udp" : "tcp", p->host_addr, p->host_port,
                                      p->box_addr, p->box_port);
        }
        return g_variant_builder_end(&builder);
}

GVariant *net_config_pack(const NetConfig *config) {
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE(NET_CONFIG_SIGNATURE));
        g_variant_builder_add(&builder, "{sv}", "mtu", g_variant_new_uint16(config->mtu));
        g_variant_builder_add(&builder, "{sv}", "tap", g_variant_new_string(config->tap));
        g_variant_builder_add(&builder, "{sv}", "ipv6", g_variant_new_boolean(config->ipv6));
        g_autofree char *cidr = g_strdup_printf("%s/%u", subnet_ipv4()->network_text, subnet_ipv4()->len);
        g_variant_builder_add(&builder, "{sv}", "cidr", g_variant_new_string(cidr));
        g_variant_builder_add(&builder, "{sv}", "verbose", g_variant_new_boolean(config->verbose));
        g_variant_builder_add(&builder, "{sv}", "fast_path", g_variant_new_boolean(config->fast_path));
        g_variant_builder_add(&builder, "{sv}", "best_effort_confine", g_variant_new_boolean(config->best_effort_confine));
        g_variant_builder_add(&builder, "{sv}", "publish", net_publish_pack(config->publish));
        g_variant_builder_add(&builder, "{sv}", "fixed_ports", g_variant_new_boolean(config->fixed_ports));
        g_variant_builder_add(&builder, "{sv}", "tls_names", g_variant_new_boolean(config->tls_names));
        g_variant_builder_add(&builder, "{sv}", "log_fd", g_variant_new_int32(config->log_fd));
        g_variant_builder_add(&builder, "{sv}", "pcap_fd", g_variant_new_int32(config->pcap_fd));
        g_variant_builder_add(&builder, "{sv}", "shape", g_variant_new("(ttuuu)", config->shape.up_bps, config->shape.down_bps, config->shape.delay_us,
                                                                       config->shape.jitter_us, config->shape.loss_ppm));
        net_config_pack_policy(config, &builder);
        return g_variant_builder_end(&builder);
}

/* AF_INET or AF_INET6 for a numeric address, AF_UNSPEC for "", -1 for anything else. */
static int address_family(const char *text, uint8_t bytes[16]) {
        if (!*text)
                return AF_UNSPEC;
        if (inet_pton(AF_INET, text, bytes) == 1)
                return AF_INET;
        if (inet_pton(AF_INET6, text, bytes) == 1)
                return AF_INET6;
        return -1;
}

/* Is this an address that the box's side of the network can have? */
static bool is_box_address(int family, const uint8_t bytes[16]) {
        uint8_t subnet[16], gateway[16], dns[16];
        const Subnet *s = subnet_ipv4();

        if (family == AF_INET) {
                struct in6_addr addr = address_mapped(bytes);
                return address_prefix_has(&s->prefix, &addr) && !address_same(&addr, &s->prefix.addr) && !address_same(&addr, &s->gateway) &&
                       !address_same(&addr, &s->dns) && !address_same(&addr, &s->broadcast);
        }
        inet_pton(AF_INET6, NET_SUBNET_IPV6, subnet);
        inet_pton(AF_INET6, NET_GATEWAY_IPV6, gateway);
        inet_pton(AF_INET6, NET_DNS_IPV6, dns);
        return memcmp(bytes, subnet, NET_PREFIX_IPV6 / 8) == 0 && memcmp(bytes, subnet, 16) != 0 && memcmp(bytes, gateway, 16) != 0 &&
               memcmp(bytes, dns, 16) != 0;
}

static bool publish_check(const NetPublish *p, GError **error) {
        uint8_t host[16], box[16];
        g_autofree char *host_quoted = err_quote(p->host_addr), *box_quoted = err_quote(p->box_addr);

        int host_family = g_str_equal(p->host_addr, "*") ? AF_UNSPEC : address_family(p->host_addr, host), box_family = address_family(p->box_addr, box);
        if (host_family < 0)
                return err_usage(error, "published port: \"%s\" is not a numeric address", host_quoted);
        if (box_family < 0)
                return err_usage(error, "published port: \"%s\" is not a numeric address", box_quoted);
        if (host_family == AF_UNSPEC)
                host_family = AF_INET;
        if (box_family == AF_UNSPEC)
                box_family = host_family;
        else if (!is_box_address(box_family, box))
                return err_usage(error, "published port: %s is not an address of the box's network", box_quoted);
        if (box_family != host_family && !(p->udp && box_family == AF_INET && g_str_equal(p->host_addr, "::")))
                return err_usage(error, "published port: %s and %s are not of one address family",
                                 *host_quoted ? host_quoted : "every IPv4 address", box_quoted);
        if (p->box_port == 0)
                return err_usage(error, "published port: the box's port must not be 0");
        return true;
}

GPtrArray *net_publish_parse(GVariant *array, GError **error) {
        g_autoptr(GPtrArray) publish = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
        const char *proto, *host_addr, *box_addr;
        guint16 host_port, box_port;
        GVariantIter iter;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "(&s&sq&sq)", &proto, &host_addr, &host_port, &box_addr, &box_port)) {
                bool udp = g_str_equal(proto, "udp");
                if (!udp && !g_str_equal(proto, "tcp")) {
                        g_autofree char *quoted = err_quote(proto);
                        err_usage(error, "published port: \"%s\" is neither tcp nor udp", quoted);
                        return NULL;
                }
                NetPublish *p = net_publish_new(udp, host_addr, host_port, box_addr, box_port);
                g_ptr_array_add(publish, p);
                if (!publish_check(p, error))
                        return NULL;
        }
        return g_steal_pointer(&publish);
}

typedef enum {
        KEY_MTU,
        KEY_TAP,
        KEY_IPV6,
        KEY_CIDR,
        KEY_VERBOSE,
        KEY_FAST_PATH,
        KEY_BEST_EFFORT_CONFINE,
        KEY_PUBLISH,
        KEY_FIXED_PORTS,
        KEY_TLS_NAMES,
        KEY_LOG_FD,
        KEY_PCAP_FD,
        KEY_SHAPE,
        KEY_EXPOSE,
        KEY_RULES,
        KEY_HOSTS,
        KEY_RESOLVERS,
        KEY_MAX
} ConfigKey;

static const DictKey config_keys[KEY_MAX] = {
        [KEY_MTU] = { "mtu", "q" },
        [KEY_TAP] = { "tap", "s" },
        [KEY_IPV6] = { "ipv6", "b" },
        [KEY_CIDR] = { "cidr", "s" },
        [KEY_VERBOSE] = { "verbose", "b" },
        [KEY_FAST_PATH] = { "fast_path", "b" },
        [KEY_BEST_EFFORT_CONFINE] = { "best_effort_confine", "b" },
        [KEY_PUBLISH] = { "publish", NET_PUBLISH_SIGNATURE },
        [KEY_FIXED_PORTS] = { "fixed_ports", "b" },
        [KEY_TLS_NAMES] = { "tls_names", "b" },
        [KEY_LOG_FD] = { "log_fd", "i" },
        [KEY_PCAP_FD] = { "pcap_fd", "i" },
        [KEY_SHAPE] = { "shape", "(ttuuu)" },
        [KEY_EXPOSE] = { "expose", "aq" },
        [KEY_RULES] = { "rules", "a(bs)" },
        [KEY_HOSTS] = { "hosts", "a(ss)" },
        [KEY_RESOLVERS] = { "resolvers", "as" },
};

static bool get_fd(GVariant *value, int *ret, GError **error) {
        *ret = g_variant_get_int32(value);
        return *ret == -1 || *ret > 3 || err_usage(error, "%d is no descriptor of the launcher's", *ret);
}

static bool apply_key(void *data, unsigned key, GVariant *value, GError **error) {
        NetConfig *config = data;

        switch ((ConfigKey) key) {
        case KEY_MTU:
                config->mtu = g_variant_get_uint16(value);
                if (config->mtu < NET_MTU_MIN || config->mtu > NET_MTU_MAX)
                        return err_usage(error, "MTU %u is not between %u and %u", config->mtu, NET_MTU_MIN, NET_MTU_MAX);
                return true;
        case KEY_TAP:
                g_free(config->tap);
                config->tap = g_variant_dup_string(value, NULL);
                return net_is_interface_name(config->tap) || err_usage(error, "that is no interface's name");
        case KEY_IPV6:
                config->ipv6 = g_variant_get_boolean(value);
                return true;
        case KEY_CIDR:
                return subnet_ipv4_set("cidr", g_variant_get_string(value, NULL), error);
        case KEY_VERBOSE:
                config->verbose = g_variant_get_boolean(value);
                return true;
        case KEY_FAST_PATH:
                config->fast_path = g_variant_get_boolean(value);
                return true;
        case KEY_BEST_EFFORT_CONFINE:
                config->best_effort_confine = g_variant_get_boolean(value);
                return true;
        case KEY_PUBLISH: {
                GPtrArray *publish = net_publish_parse(value, error);
                if (!publish)
                        return false;
                g_ptr_array_unref(config->publish);
                config->publish = publish;
                return true;
        }
        case KEY_FIXED_PORTS:
                config->fixed_ports = g_variant_get_boolean(value);
                return true;
        case KEY_TLS_NAMES:
                config->tls_names = g_variant_get_boolean(value);
                return true;
        case KEY_LOG_FD:
                return get_fd(value, &config->log_fd, error);
        case KEY_PCAP_FD:
                return get_fd(value, &config->pcap_fd, error);
        case KEY_SHAPE:
                g_variant_get(value, "(ttuuu)", &config->shape.up_bps, &config->shape.down_bps, &config->shape.delay_us, &config->shape.jitter_us,
                              &config->shape.loss_ppm);
                return config->shape.jitter_us <= config->shape.delay_us || err_usage(error, "a jitter that is more than the delay");
        case KEY_EXPOSE:
                return net_config_parse_expose(config, value, error);
        case KEY_RULES:
                return net_config_parse_rules(config, value, error);
        case KEY_HOSTS:
                return net_config_parse_hosts(config->hosts, value, error);
        case KEY_RESOLVERS: {
                GPtrArray *resolvers = net_resolvers_parse(value, error);
                if (!resolvers)
                        return false;
                g_ptr_array_unref(config->resolvers);
                config->resolvers = resolvers;
                return true;
        }
        case KEY_MAX:
                break;
        }
        g_assert_not_reached();
}

NetConfig *net_config_parse(GVariant *dict, GError **error) {
        g_autoptr(NetConfig) config = net_config_new();

        if (!dict_parse(dict, "network configuration", config_keys, KEY_MAX, apply_key, config, error))
                return NULL;
        /* Only now: the keys come in any order. */
        for (guint i = 0; i < config->publish->len; i++) {
                const NetPublish *p = config->publish->pdata[i];
                if (!config->ipv6 && strchr(p->host_addr, ':')) {
                        g_autofree char *text = net_publish_text(p);
                        err_usage(error, "published port %s: IPv6 is off", text);
                        return NULL;
                }
        }
        return g_steal_pointer(&config);
}
