/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's network: its options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); net-setup.c and
 * usbox-net carry it out.
 */
#include <string.h>

#include "base/error.h"
#include "netstack/values.h"
#include "spec.h"

#define NETWORKS "user|none|host|pod" /* in the order of NetMode */

static bool apply_network(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--network", values[0], NETWORKS, &place, error))
                return false;
        draft->net.mode = (NetMode) place;
        return true;
}

static bool apply_publish(Spec *draft, const char *const *values, GError **error) {
        GPtrArray *ports = net_value_publish(values[0], error);
        if (!ports)
                return false;
        g_ptr_array_extend_and_steal(draft->net.publish, ports);
        return true;
}

static bool apply_dns(Spec *draft, const char *const *values, GError **error) {
        char *address = net_value_address(values[0]);
        if (!address) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--dns: '%s' is not an address", quoted);
        }
        g_ptr_array_add(draft->net.dns, address);
        return true;
}

static bool apply_add_host(Spec *draft, const char *const *values, GError **error) {
        NetHost *host = net_value_host(values[0], error);
        if (!host)
                return false;
        g_ptr_array_add(draft->net.hosts, host);
        return true;
}

static bool apply_mtu(Spec *draft, const char *const *values, GError **error) {
        gint64 mtu;
        if (!option_i64("--mtu", values[0], NET_MTU_MIN, NET_MTU_MAX, &mtu, error))
                return false;
        draft->net.mtu = (guint16) mtu;
        draft->net.mtu_given = true;
        return true;
}

static bool apply_no_ipv6(Spec *draft, const char *const *values, GError **error) {
        bool off;
        if (!option_bool("--no-ipv6", values[0], &off, error))
                return false;
        draft->net.ipv6 = !off;
        return true;
}

static bool apply_no_fast_path(Spec *draft, const char *const *values, GError **error) {
        bool off;
        if (!option_bool("--no-fast-path", values[0], &off, error))
                return false;
        draft->net.fast_path = !off;
        return true;
}

const Option net_options[] = {
        { .name = "network",
          .alias = "net",
          .arg = NETWORKS,
          .group = OPTION_NETWORK,
          .complete = COMPLETE_CHOICES,
          .choices = NETWORKS,
          .help = "a network of its own to the internet (default), none, the host's own, or (with --pod) the pod's",
          .apply = apply_network },
        { .name = "publish",
          .short_name = 'p',
          .arg = "[IP:]HOST:BOX[/udp]",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "the host's port HOST leads to the box's port BOX; HOST 0: a free one; both may be ranges, as 80-85",
          .apply = apply_publish },
        { .name = "dns",
          .arg = "IP",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "what the box asks goes to this name server",
          .apply = apply_dns },
        { .name = "add-host",
          .arg = "NAME:IP",
          .group = OPTION_NETWORK,
          .flags = OPTION_LIST,
          .help = "NAME is IP in the box: in its /etc/hosts, and for --allow",
          .apply = apply_add_host },
        { .name = "mtu",
          .arg = "N",
          .group = OPTION_NETWORK,
          .help = "largest packet in bytes, 1280 to 65520 (default)",
          .apply = apply_mtu },
        { .name = "no-ipv6",
          .group = OPTION_NETWORK,
          .help = "IPv4 alone",
          .apply = apply_no_ipv6 },
        { .name = "no-fast-path",
          .group = OPTION_NETWORK,
          .help = "TCP by frames and libslirp, too, instead of by sockets on both sides",
          .apply = apply_no_fast_path },
        { 0 },
};

void net_init(NetSpec *s) {
        s->mode = NET_USER;
        s->mtu = NET_MTU_DEFAULT;
        s->ipv6 = true;
        s->fast_path = true;
        s->dns = g_ptr_array_new_with_free_func(g_free);
        s->hosts = g_ptr_array_new_with_free_func((GDestroyNotify) net_host_free);
        s->publish = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
        netpolicy_init(s);
}

void net_clear(NetSpec *s) {
        g_clear_pointer(&s->dns, g_ptr_array_unref);
        g_clear_pointer(&s->hosts, g_ptr_array_unref);
        g_clear_pointer(&s->publish, g_ptr_array_unref);
        netpolicy_clear(s);
        netshape_clear(s);
}

static bool check_published_once(const GPtrArray *publish, GError **error) {
        for (guint i = 0; i < publish->len; i++)
                for (guint j = i + 1; j < publish->len; j++) {
                        const NetPublish *a = g_ptr_array_index(publish, i), *b = g_ptr_array_index(publish, j);
                        if (a->host_port == 0 || a->host_port != b->host_port || a->udp != b->udp || !g_str_equal(a->host_addr, b->host_addr))
                                continue;
                        g_autofree char *one = net_value_publish_text(a), *other = net_value_publish_text(b);
                        return err_usage(error, "--publish: %s and %s take the same port of the host", one, other);
                }
        return true;
}

bool net_is_own(const NetSpec *s) {
        return s->mode == NET_USER || s->mode == NET_NONE;
}

const char *net_mode_name(NetMode mode) {
        static const char *const names[] = { [NET_USER] = "user", [NET_NONE] = "none", [NET_HOST] = "host", [NET_POD] = "pod" };
        return names[mode];
}

bool net_check(Spec *draft, GError **error) {
        const NetSpec *s = &draft->net;

        if (s->mode != NET_USER) {
                const char *what = s->publish->len > 0 ? "--publish"
                                   : s->dns->len > 0   ? "--dns"
                                   : s->mtu_given      ? "--mtu"
                                   : !s->fast_path     ? "--no-fast-path"
                                                       : NULL;
                if (!what && s->mode == NET_HOST && !s->ipv6)
                        what = "--no-ipv6";
                if (what)
                        return err_usage(error, "%s needs --network=user, not --network=%s", what, net_mode_name(s->mode));
                return netpolicy_check(s, error) && netshape_check(&draft->net, error);
        }
        for (guint i = 0; i < s->publish->len && !s->ipv6; i++) {
                const NetPublish *p = g_ptr_array_index(s->publish, i);
                g_autofree char *text = net_value_publish_text(p);
                if (strchr(p->host_addr, ':'))
                        return err_usage(error, "--publish %s and --no-ipv6", text);
        }
        if (s->publish->len > NET_PUBLISH_MAX)
                return err_usage(error, "--publish: %u ports, more than %u", s->publish->len, NET_PUBLISH_MAX);
        return check_published_once(s->publish, error) && netpolicy_check(s, error) && netshape_check(&draft->net, error);
}
