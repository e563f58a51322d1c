/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of usbox-net: what is packed comes back, and what is wrong is refused with its name.
 */
#include <arpa/inet.h>

#include "base/error.h"
#include "netstack/config.h"
#include "netstack/subnet.h"

static NetConfig *round_trip(const NetConfig *config, GError **error) {
        g_autoptr(GVariant) packed = g_variant_ref_sink(net_config_pack(config));
        g_assert_cmpstr(g_variant_get_type_string(packed), ==, NET_CONFIG_SIGNATURE);
        /* As the wire does it: bytes and back. */
        g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(packed);
        g_autoptr(GVariant) received =
                g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(NET_CONFIG_SIGNATURE), bytes, false));
        g_assert_true(g_variant_is_normal_form(received));
        return net_config_parse(received, error);
}

/* Field by field: what is between them is nobody's. */
static bool same_shape(const NetShape *a, const NetShape *b) {
        return a->up_bps == b->up_bps && a->down_bps == b->down_bps && a->delay_us == b->delay_us && a->jitter_us == b->jitter_us &&
               a->loss_ppm == b->loss_ppm;
}

static void test_round_trip(void) {
        g_autoptr(NetConfig) config = net_config_new();
        g_autoptr(GError) error = NULL;

        config->mtu = 1500;
        config->verbose = true;
        config->best_effort_confine = true;
        g_ptr_array_add(config->publish, net_publish_new(false, NULL, 8080, "", 80));
        g_ptr_array_add(config->publish, net_publish_new(true, "127.0.0.1", 0, "10.0.2.100", 53));
        g_ptr_array_add(config->publish, net_publish_new(false, "::1", 65535, "fd00::100", 1));

        config->log_fd = 4;
        config->pcap_fd = 5;
        config->shape = (NetShape){ 1000000, 2000000, 50000, 10000, 10000 };
        net_rules_append(config->rules, net_rule_expose(5432));
        net_rules_append(config->rules, net_rule_expose(80));
        net_rules_append(config->rules, net_rule_parse(false, "ads.example.org", NULL));
        net_rules_append(config->rules, net_rule_parse(true, "*.example.org:443/tcp", NULL));
        g_ptr_array_add(config->hosts, net_host_new("db.lan", "10.1.2.3"));
        g_ptr_array_add(config->resolvers, g_strdup("127.0.0.53"));
        g_ptr_array_add(config->resolvers, g_strdup("fe80::1%2"));

        g_autoptr(NetConfig) back = round_trip(config, &error);
        g_assert_no_error(error);
        g_assert_cmpint(back->log_fd, ==, 4);
        g_assert_cmpint(back->pcap_fd, ==, 5);
        g_assert_true(same_shape(&back->shape, &config->shape));
        g_assert_cmpuint(back->rules->list->len, ==, 4);
        g_assert_true(back->rules->closed);
        for (guint i = 0; i < 4; i++) {
                const NetRule *a = config->rules->list->pdata[i], *b = back->rules->list->pdata[i];
                g_assert_true(a->allow == b->allow && a->exposes == b->exposes && a->kind == b->kind && a->first == b->first);
                g_assert_cmpstr(a->text, ==, b->text);
        }
        g_assert_cmpstr(((NetHost *) back->hosts->pdata[0])->name, ==, "db.lan");
        g_assert_cmpstr(((NetHost *) back->hosts->pdata[0])->address, ==, "10.1.2.3");
        g_assert_cmpstr(back->resolvers->pdata[1], ==, "fe80::1%2");
        g_assert_cmpuint(back->mtu, ==, 1500);
        g_assert_true(back->ipv6);
        g_assert_true(back->verbose);
        g_assert_true(back->best_effort_confine);
        g_assert_cmpuint(back->publish->len, ==, 3);
        for (guint i = 0; i < 3; i++) {
                const NetPublish *a = config->publish->pdata[i], *b = back->publish->pdata[i];
                g_assert_cmpint(a->udp, ==, b->udp);
                g_assert_cmpstr(a->host_addr, ==, b->host_addr);
                g_assert_cmpuint(a->host_port, ==, b->host_port);
                g_assert_cmpstr(a->box_addr, ==, b->box_addr);
                g_assert_cmpuint(a->box_port, ==, b->box_port);
        }
}

static void test_defaults(void) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) empty = g_variant_ref_sink(g_variant_new_parsed("@a{sv} {}"));
        g_autoptr(NetConfig) config = net_config_parse(empty, &error);

        g_assert_no_error(error);
        g_assert_cmpuint(config->mtu, ==, 65520);
        g_assert_true(config->ipv6);
        g_assert_false(config->verbose);
        g_assert_false(config->best_effort_confine);
        g_assert_cmpuint(config->publish->len, ==, 0);
}

static void test_hostile(void) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "{'mtu': <uint16 1279>}", "MTU 1279*" },
                { "{'mtu': <uint16 65521>}", "MTU 65521*" },
                { "{'mtu': <int32 1500>}", "*mtu is of type i, not q" },
                { "{'mtu': <'1500'>}", "*mtu is of type s, not q" },
                { "{'mtu': <uint16 1500>, 'mtu': <uint16 1600>}", "*mtu is given twice" },
                { "{'ipv6': <1>}", "*ipv6 is of type i, not b" },
                { "{'': <1>}", "*unknown key \"\"" },
                { "{'no\\nsuch': <1>}", "*unknown key \"no\\nsuch\"" },
                { "{'publish': <[('tcp', '', uint16 1, '', uint16 2)]>, 'dns': <'x'>}", "*unknown key \"dns\"" },
                { "{'publish': <['tcp']>}", "*publish is of type as*" },
                { "{'rules': <[(true, 'github.com:')]>}", "--allow: 'github.com:' is not*" },
                { "{'rules': <[(false, 'a b')]>}", "--deny: 'a b' is not*" },
                { "{'expose': <[uint16 0]>}", "*0 is none" },
                { "{'hosts': <[('db lan', '10.0.0.1')]>}", "*no name with an address" },
                { "{'hosts': <[('db', '10.0.0.0/8')]>}", "*no name with an address" },
                { "{'resolvers': <['dns.example']>}", "name server: \"dns.example\" is not a numeric address" },
                { "{'resolvers': <['fe80::1%eth0']>}", "*not a numeric address" },
                { "{'shape': <(uint64 0, uint64 0, uint32 5, uint32 6, uint32 0)>}", "*jitter*" },
                { "{'cidr': <'127.0.0.0/8'>}", "cidr: *not a network that a box could have" },
                { "{'cidr': <'10.0.2.0/26'>}", "cidr: *8 to 25 bits*" },
                { "{'log_fd': <2>}", "2 is no descriptor*" },
                { "{'publish': <[('sctp', '', uint16 1, '', uint16 2)]>}", "*\"sctp\" is neither tcp nor udp" },
                { "{'publish': <[('tcp', 'localhost', uint16 1, '', uint16 2)]>}",
                  "*\"localhost\" is not a numeric address" },
                { "{'publish': <[('tcp', '1.2.3', uint16 1, '', uint16 2)]>}", "*\"1.2.3\" is not a numeric address" },
                { "{'publish': <[('tcp', 'fe80::1%eth0', uint16 1, '', uint16 2)]>}", "*not a numeric address" },
                { "{'publish': <[('tcp', '', uint16 1, 'x', uint16 2)]>}", "*\"x\" is not a numeric address" },
                { "{'publish': <[('tcp', '', uint16 1, '', uint16 0)]>}", "*must not be 0" },
                { "{'publish': <[('tcp', '', uint16 1, 'fd00::100', uint16 2)]>}", "*not of one address family" },
                { "{'publish': <[('tcp', '::', uint16 1, '10.0.2.100', uint16 2)]>}", "*not of one address family" },
                { "{'publish': <[('tcp', '', uint16 1, '127.0.0.1', uint16 2)]>}",
                  "*not an address of the box's network" },
                { "{'publish': <[('tcp', '', uint16 1, '10.0.2.2', uint16 2)]>}",
                  "*not an address of the box's network" },
                { "{'publish': <[('tcp', '', uint16 1, '10.0.2.255', uint16 2)]>}",
                  "*not an address of the box's network" },
                { "{'publish': <[('tcp', '::', uint16 1, 'fd00::3', uint16 2)]>}",
                  "*not an address of the box's network" },
                { "{'publish': <[('tcp', '::', uint16 1, '', uint16 2)]>, 'ipv6': <false>}",
                  "published port tcp [::]:1: IPv6 is off" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(GVariant) dict =
                        g_variant_parse(G_VARIANT_TYPE(NET_CONFIG_SIGNATURE), rows[i].text, NULL, NULL, &error);
                g_assert_no_error(error);
                g_autoptr(NetConfig) config = net_config_parse(dict, &error);
                g_assert_null(config);
                g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
                if (!g_pattern_match_simple(rows[i].message, error->message))
                        g_error("%s: \"%s\" is not \"%s\"", rows[i].text, error->message, rows[i].message);
        }
}

static void test_addresses(void) {
        struct sockaddr_storage addr;
        char text[INET6_ADDRSTRLEN];

        NetPublish *v4 = net_publish_new(false, "", 80, "", 81), *v6 = net_publish_new(true, "::1", 82, "", 83);
        g_assert_cmpuint(net_publish_host(v4, &addr), ==, sizeof(struct sockaddr_in));
        g_assert_cmpuint(((struct sockaddr_in *) &addr)->sin_addr.s_addr, ==, INADDR_ANY);
        g_assert_cmpuint(net_sockaddr_port(&addr), ==, 80);
        net_publish_box(v4, &addr);
        g_assert_cmpstr(inet_ntop(AF_INET, &((struct sockaddr_in *) &addr)->sin_addr, text, sizeof text), ==, NET_BOX_IPV4);
        g_assert_cmpuint(net_sockaddr_port(&addr), ==, 81);
        g_assert_cmpuint(net_publish_host(v6, &addr), ==, sizeof(struct sockaddr_in6));
        g_assert_cmpuint(net_sockaddr_port(&addr), ==, 82);
        net_publish_box(v6, &addr);
        g_assert_cmpstr(inet_ntop(AF_INET6, &((struct sockaddr_in6 *) &addr)->sin6_addr, text, sizeof text), ==,
                        NET_BOX_IPV6);
        net_publish_free(v4);
        net_publish_free(v6);
}

/* Another IPv4 network: it goes over the wire, and what asks for an address has it. */
static void test_cidr(void) {
        g_autoptr(GError) error = NULL;
        g_autoptr(NetConfig) sent = net_config_new();
        char text[INET_ADDRSTRLEN];
        struct sockaddr_storage addr;

        g_assert_true(subnet_ipv4_set("--cidr", "172.20.130.7/18", &error));
        g_autoptr(GVariant) dict = g_variant_ref_sink(net_config_pack(sent));
        g_assert_true(subnet_ipv4_set("--cidr", "10.0.2.0/24", &error));
        g_autoptr(NetConfig) config = net_config_parse(dict, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(subnet_ipv4()->network_text, ==, "172.20.128.0");
        g_assert_cmpstr(subnet_ipv4()->gateway_text, ==, "172.20.128.2");
        NetPublish *p = net_publish_new(false, "", 80, "", 81);
        net_publish_box(p, &addr);
        g_assert_cmpstr(inet_ntop(AF_INET, &((struct sockaddr_in *) &addr)->sin_addr, text, sizeof text), ==, "172.20.128.100");
        net_publish_free(p);
        g_autofree char *broadcast = address_text(&subnet_ipv4()->broadcast);
        g_assert_cmpstr(broadcast, ==, "172.20.191.255");
        g_assert_true(subnet_ipv4_set("--cidr", "10.0.2.0/24", &error));
        g_assert_cmpstr(subnet_ipv4()->box_text, ==, NET_BOX_IPV4);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-config/round-trip", test_round_trip);
        g_test_add_func("/net-config/defaults", test_defaults);
        g_test_add_func("/net-config/hostile", test_hostile);
        g_test_add_func("/net-config/addresses", test_addresses);
        g_test_add_func("/net-config/cidr", test_cidr);
        return g_test_run();
}
