/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: the configuration of usbox-net. The first byte is 'b' before GVariant's bytes as they come over the wire, 't' before
 * its text form.
 *
 * Role: tests only. Privileges: none. Threads: one. What is accepted can be used without another look, and comes back from packing
 * as it was.
 */
#include "fuzz.h"
#include "netstack/config.h"

static GVariant *dict_of(const uint8_t *data, size_t size) {
        const GVariantType *type = G_VARIANT_TYPE(NET_CONFIG_SIGNATURE);

        if (size > 0 && data[0] == 't' && g_utf8_validate((const char *) data + 1, (gssize) size - 1, NULL)) /* g_variant_parse() asks for it */
                return g_variant_parse(type, (const char *) data + 1, (const char *) data + size, NULL, NULL);
        if (size == 0 || data[0] != 'b')
                return NULL;
        g_autoptr(GBytes) bytes = g_bytes_new(data + 1, size - 1);
        GVariant *dict = g_variant_ref_sink(g_variant_new_from_bytes(type, bytes, FALSE));
        if (!g_variant_is_normal_form(dict)) /* wire_receive() has refused it */
                g_clear_pointer(&dict, g_variant_unref);
        return dict;
}

static void check_publish(const NetPublish *publish, bool ipv6) {
        struct sockaddr_storage addr;
        g_autofree char *text = net_publish_text(publish);

        g_assert_true(net_publish_host(publish, &addr) > 0 && net_sockaddr_port(&addr) == publish->host_port);
        sa_family_t family = addr.ss_family;
        g_assert_true(family == AF_INET || ipv6);
        g_assert_true(net_publish_box(publish, &addr) > 0 && net_sockaddr_port(&addr) == publish->box_port);
        g_assert_true((addr.ss_family == family || (publish->udp && family == AF_INET6)) && publish->box_port != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autoptr(GVariant) dict = dict_of(data, size);
        g_autoptr(GError) error = NULL;

        if (!dict)
                return 0;
        g_autoptr(NetConfig) config = net_config_parse(dict, &error);
        g_assert_true((config == NULL) == (error != NULL));
        if (!config) {
                for (const char *p = error->message; *p; p++)
                        g_assert_true((unsigned char) *p >= 0x20 && *p != 0x7f);
                return 0;
        }
        g_assert_true(config->mtu >= NET_MTU_MIN && config->mtu <= NET_MTU_MAX);
        for (guint i = 0; i < config->publish->len; i++)
                check_publish(config->publish->pdata[i], config->ipv6);

        g_autoptr(GVariant) packed = g_variant_ref_sink(net_config_pack(config));
        g_autoptr(NetConfig) again = net_config_parse(packed, &error);
        g_assert_no_error(error);
        g_autoptr(GVariant) repacked = g_variant_ref_sink(net_config_pack(again));
        g_assert_true(g_variant_equal(packed, repacked));
        return 0;
}
