/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-net, and the files by which programs find names.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 4, 6 and 11.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "net-helper.h"
#include "netstack/config.h"

#define ETC_FILE_MAX (1024 * 1024)

static GVariant *pack_config(const Spec *spec) {
        g_autoptr(NetConfig) config = net_config_new();

        config->mtu = spec->net.mtu;
        config->ipv6 = spec->net.ipv6;
        config->fast_path = spec->net.fast_path;
        config->verbose = spec->box.verbose;
        config->best_effort_confine = spec->box.best_effort & BEST_EFFORT_CONFINE;
        for (guint i = 0; i < spec->net.publish->len; i++) {
                const PublishSpec *p = g_ptr_array_index(spec->net.publish, i);
                g_ptr_array_add(config->publish, net_publish_new(p->udp, p->host_ip, p->host_port, NULL, p->box_port));
        }
        return net_config_pack(config);
}

static const HelperKind kind = { .program = "usbox-net", .step = "network", .lost = "network" };

bool net_helper_start(const Spec *spec, NetHelper *ret, GError **error) {
        char *const argv[] = { (char *) "usbox-net", (char *) "--wire", (char *) "3",
                               spec->box.verbose ? (char *) "--verbose" : NULL, NULL };

        ret->ports = NULL;
        return helper_start(&ret->helper, &kind, argv, NULL, 0, error) &&
               helper_send(&ret->helper, WIRE_NET_CONFIG, pack_config(spec), NULL, 0, error);
}

bool net_helper_give_tap(NetHelper *h, int tap, int netns, GError **error) {
        return helper_send(&h->helper, WIRE_NET_TAP, NULL, (int[]){ tap, netns }, 2, error);
}

bool net_helper_dispatch(NetHelper *h, GError **error) {
        g_auto(WireMessage) m = { 0 };

        if (!helper_receive(&h->helper, WIRE_NET_READY, &m, error))
                return false;
        if (h->ports) {
                err_set(error, EPROTO, "usbox-net said %s twice", wire_type_name(m.type));
                return err_step(error, "network");
        }
        g_autoptr(GVariant) ports = g_variant_get_child_value(m.body, 0);
        h->ports = net_publish_parse(ports, error);
        return h->ports ? true : err_step(error, "network");
}

void net_helper_clear(NetHelper *h) {
        helper_clear(&h->helper);
        g_clear_pointer(&h->ports, g_ptr_array_unref);
}

char *net_resolv_conf(const Spec *spec) {
        struct stat st;

        /* --network=none needs none; a host file that is a symlink out of /etc (systemd-resolved's) would dangle in the box. */
        if (spec->net.mode == NET_NONE ||
            (spec->net.mode == NET_HOST && spec->net.dns->len == 0 && !spec->root.rootfs &&
             lstat("/etc/resolv.conf", &st) == 0 && S_ISREG(st.st_mode)))
                return NULL;
        g_autofree char *host = NULL;
        if (!fd_read_file(AT_FDCWD, "/etc/resolv.conf", ETC_FILE_MAX, &host, NULL))
                host = g_strdup("");

        GString *text = g_string_new(NULL);
        for (guint i = 0; i < spec->net.dns->len; i++)
                g_string_append_printf(text, "nameserver %s\n", (const char *) g_ptr_array_index(spec->net.dns, i));
        if (spec->net.dns->len == 0 && spec->net.mode == NET_USER)
                g_string_append(text, "nameserver " NET_DNS_IPV4 "\n");
        bool keep_servers = text->len == 0;

        char *rest = host;
        for (char *line; (line = strsep(&rest, "\n"));)
                if (g_str_has_prefix(line, "search ") || g_str_has_prefix(line, "domain ") ||
                    g_str_has_prefix(line, "options ") || (keep_servers && g_str_has_prefix(line, "nameserver ")))
                        g_string_append_printf(text, "%s\n", line);
        return g_string_free(text, FALSE);
}

char *net_etc_hosts(const Spec *spec) {
        g_autofree char *host = NULL;
        GString *text = g_string_new("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");

        if (spec->net.mode != NET_NONE && fd_read_file(AT_FDCWD, "/etc/hosts", ETC_FILE_MAX, &host, NULL)) {
                char *rest = host;
                for (char *line; (line = strsep(&rest, "\n"));)
                        /* The host's loopback names are the host's; the box has its own. */
                        if (*line && *line != '#' && !g_str_has_prefix(line, "127.") && !g_str_has_prefix(line, "::1"))
                                g_string_append_printf(text, "%s\n", line);
        }
        g_string_append_printf(text, "127.0.1.1 %s\n", spec->namespaces.hostname);
        for (guint i = 0; i < spec->net.hosts->len; i++) {
                /* "NAME IP", checked by --add-host */
                const char *pair = g_ptr_array_index(spec->net.hosts, i);
                const char *space = strchr(pair, ' ');
                g_string_append_printf(text, "%s %.*s\n", space + 1, (int) (space - pair), pair);
        }
        return g_string_free(text, FALSE);
}
