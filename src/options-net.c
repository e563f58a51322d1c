/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's network: its options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); net-setup.c and
 * usbox-net carry it out.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "spec.h"

/* IPv6's least (RFC 8200), and the largest that libslirp's buffers hold. */
#define MTU_MIN 1280
#define MTU_MAX 65520

/* A numeric address of either family, in brackets or not, as inet_ntop(3) writes it; NULL where it is none. */
static char *parse_address(const char *text) {
        size_t len = strlen(text);
        g_autofree char *bare =
                len > 2 && text[0] == '[' && text[len - 1] == ']' ? g_strndup(text + 1, len - 2) : g_strdup(text);
        char out[INET6_ADDRSTRLEN];
        unsigned char address[sizeof(struct in6_addr)];

        for (int i = 0; i < 2; i++) {
                int family = i == 0 ? AF_INET : AF_INET6;
                /* Brackets are for IPv6 alone. */
                if ((family == AF_INET6 || *text != '[') && inet_pton(family, bare, address) == 1)
                        return g_strdup(inet_ntop(family, address, out, sizeof out));
        }
        return NULL;
}

static bool apply_network(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--network", values[0], "user|none|host", &place, error))
                return false;
        draft->net.mode = (NetMode) place;
        return true;
}

void publish_free(PublishSpec *publish) {
        g_free(publish->host_ip);
        g_free(publish->text);
        g_free(publish);
}

typedef struct {
        guint16 first, last;
} PortRange;

/* PORT or FIRST-LAST. */
static bool parse_ports(const char *text, guint16 min, PortRange *ret) {
        const char *dash = strchr(text, '-');
        g_autofree char *first = dash ? g_strndup(text, (gsize) (dash - text)) : g_strdup(text);
        guint64 from, to;

        if (!option_digits(first, G_MAXUINT16, &from) || from < min || !option_digits(dash ? dash + 1 : first, G_MAXUINT16, &to) || to < from)
                return false;
        *ret = (PortRange){ (guint16) from, (guint16) to };
        return true;
}

/* What -p takes, as typed. */
typedef struct {
        PortRange host, box;
        char *host_ip;
        bool udp;
} Published;

/* [IP:]HOST:BOX[/tcp|udp], read from its end: an IPv6 address, in brackets, has colons of its own. */
static bool read_publish(const char *text, Published *ret) {
        g_autofree char *rest = g_strdup(text);
        char *slash = strchr(rest, '/'), *colon;

        if (slash) {
                *slash = '\0';
                ret->udp = g_str_equal(slash + 1, "udp");
                if (!ret->udp && !g_str_equal(slash + 1, "tcp"))
                        return false;
        }
        colon = strrchr(rest, ':');
        if (!colon || !parse_ports(colon + 1, 1, &ret->box))
                return false;
        *colon = '\0';
        colon = strrchr(rest, ':');
        if (!parse_ports(colon ? colon + 1 : rest, 0, &ret->host))
                return false;
        if (!colon)
                return true;
        *colon = '\0';
        if (strchr(rest, ':') && *rest != '[')
                return false;
        ret->host_ip = parse_address(rest);
        return ret->host_ip != NULL;
}

static bool check_range(const Published *p, const char *text, GError **error) {
        unsigned host = p->host.last - p->host.first + 1u, box = p->box.last - p->box.first + 1u;

        if (p->host.first == 0 && (host > 1 || box > 1)) {
                err_usage(error, "--publish: %s: port 0, any free one, is no part of a range", text);
                return err_hint(error, "give -p once for each of the box's ports");
        }
        if (host != box)
                return err_usage(error, "--publish: %s: %u ports of the host for %u of the box", text, host, box);
        if (host > PUBLISH_MAX)
                return err_usage(error, "--publish: %s: %u ports, more than %u", text, host, PUBLISH_MAX);
        return true;
}

/* The one of a range that is so far behind its first; its text is what -p would take for it alone. */
static PublishSpec *publish_new(const Published *p, guint16 at, const char *text) {
        bool single = p->host.first == p->host.last, v6 = p->host_ip && strchr(p->host_ip, ':');
        PublishSpec *publish = g_new0(PublishSpec, 1);

        *publish = (PublishSpec){ .host_ip = g_strdup(p->host_ip), .host_port = (guint16) (p->host.first + at), .box_port = (guint16) (p->box.first + at),
                                  .udp = p->udp };
        publish->text = single ? g_strdup(text)
                               : g_strdup_printf("%s%s%s%s%u:%u%s", v6 ? "[" : "", p->host_ip ? p->host_ip : "", v6 ? "]" : "", p->host_ip ? ":" : "",
                                                 publish->host_port, publish->box_port, p->udp ? "/udp" : "");
        return publish;
}

GPtrArray *publish_parse(const char *text, GError **error) {
        g_autofree char *quoted = err_quote(text);
        Published p = { 0 };
        GPtrArray *ports = NULL;

        if (!read_publish(text, &p)) {
                err_usage(error, "--publish: '%s' is not [IP:]HOSTPORT:BOXPORT[/tcp|udp]", quoted);
                err_hint(error, "for example -p 127.0.0.1:8080:80, -p [::1]:8080:80, -p 5353:53/udp or -p 8000-8010:9000-9010");
        } else if (check_range(&p, quoted, error)) {
                ports = g_ptr_array_new_with_free_func((GDestroyNotify) publish_free);
                for (guint i = 0; i <= (guint) (p.host.last - p.host.first); i++)
                        g_ptr_array_add(ports, publish_new(&p, (guint16) i, text));
        }
        g_free(p.host_ip);
        return ports;
}

static bool apply_publish(Spec *draft, const char *const *values, GError **error) {
        GPtrArray *ports = publish_parse(values[0], error);
        if (!ports)
                return false;
        g_ptr_array_extend_and_steal(draft->net.publish, ports);
        return true;
}

static bool apply_dns(Spec *draft, const char *const *values, GError **error) {
        char *address = parse_address(values[0]);
        if (!address) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--dns: '%s' is not an address", quoted);
        }
        g_ptr_array_add(draft->net.dns, address);
        return true;
}

/* Whatever this lets through is written into the box's /etc/hosts: no blank, no '#', no line end. */
static bool is_host_name(const char *text) {
        return *text && *text != '-' && strlen(text) <= 253 &&
               strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(text);
}

static bool apply_add_host(Spec *draft, const char *const *values, GError **error) {
        const char *colon = strchr(values[0], ':');
        g_autofree char *name = colon ? g_strndup(values[0], (gsize) (colon - values[0])) : NULL;
        g_autofree char *address = colon ? parse_address(colon + 1) : NULL;

        if (!address || !is_host_name(name)) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--add-host: '%s' is not NAME:ADDRESS", quoted);
        }
        g_ptr_array_add(draft->net.hosts, g_strdup_printf("%s %s", name, address));
        return true;
}

static bool apply_mtu(Spec *draft, const char *const *values, GError **error) {
        gint64 mtu;
        if (!option_i64("--mtu", values[0], MTU_MIN, MTU_MAX, &mtu, error))
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
          .arg = "user|none|host",
          .group = OPTION_NETWORK,
          .complete = COMPLETE_CHOICES,
          .choices = "user|none|host",
          .help = "a network of its own to the internet (default), none, or the host's own",
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
        s->mtu = MTU_MAX;
        s->ipv6 = true;
        s->fast_path = true;
        s->dns = g_ptr_array_new_with_free_func(g_free);
        s->hosts = g_ptr_array_new_with_free_func(g_free);
        s->publish = g_ptr_array_new_with_free_func((GDestroyNotify) publish_free);
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
                        const PublishSpec *a = g_ptr_array_index(publish, i), *b = g_ptr_array_index(publish, j);
                        if (a->host_port != 0 && a->host_port == b->host_port && a->udp == b->udp &&
                            g_strcmp0(a->host_ip, b->host_ip) == 0)
                                return err_usage(error, "--publish: %s and %s take the same port of the host", a->text,
                                                 b->text);
                }
        return true;
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
                        return err_usage(error, "%s needs --network=user, not --network=%s", what,
                                         s->mode == NET_HOST ? "host" : "none");
                return netpolicy_check(s, error) && netshape_check(&draft->net, error);
        }
        for (guint i = 0; i < s->publish->len && !s->ipv6; i++) {
                const PublishSpec *p = g_ptr_array_index(s->publish, i);
                if (p->host_ip && strchr(p->host_ip, ':'))
                        return err_usage(error, "--publish %s and --no-ipv6", p->text);
        }
        if (s->publish->len > PUBLISH_MAX)
                return err_usage(error, "--publish: %u ports, more than %u", s->publish->len, PUBLISH_MAX);
        return check_published_once(s->publish, error) && netpolicy_check(s, error) && netshape_check(&draft->net, error);
}
