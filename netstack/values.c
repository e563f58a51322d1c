/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What options about the network take, as text: of usbox, and of usbox-net where it runs by itself. Rules have rules.c.
 *
 * Role: launcher and usbox-net's front. Privileges: none needed. Threads: any. Order: under the parsers of command lines.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "netstack/values.h"

#define RATE_MIN 1000
#define RATE_MAX 100000000000.0
#define DELAY_MAX_NS 60000000000ULL

char *net_value_address(const char *text) {
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

typedef struct {
        guint16 first, last;
} PortRange;

/* PORT or FIRST-LAST. */
static bool parse_ports(const char *text, guint16 min, PortRange *ret) {
        const char *dash = strchr(text, '-');
        g_autofree char *first = dash ? g_strndup(text, (gsize) (dash - text)) : g_strdup(text);
        guint64 from, to;

        if (!g_ascii_string_to_unsigned(first, 10, min, G_MAXUINT16, &from, NULL) ||
            !g_ascii_string_to_unsigned(dash ? dash + 1 : first, 10, from, G_MAXUINT16, &to, NULL))
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
        ret->host_ip = net_value_address(rest);
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
        if (host > NET_PUBLISH_MAX)
                return err_usage(error, "--publish: %s: %u ports, more than %u", text, host, NET_PUBLISH_MAX);
        return true;
}

GPtrArray *net_value_publish(const char *text, GError **error) {
        g_autofree char *quoted = err_quote(text);
        Published p = { 0 };
        GPtrArray *ports = NULL;

        if (!read_publish(text, &p)) {
                err_usage(error, "--publish: '%s' is not [IP:]HOSTPORT:BOXPORT[/tcp|udp]", quoted);
                err_hint(error, "for example -p 127.0.0.1:8080:80, -p [::1]:8080:80, -p 5353:53/udp or -p 8000-8010:9000-9010");
        } else if (check_range(&p, quoted, error)) {
                ports = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
                for (guint i = 0; i <= (guint) (p.host.last - p.host.first); i++)
                        g_ptr_array_add(ports, net_publish_new(p.udp, p.host_ip ? p.host_ip : "*", (guint16) (p.host.first + i), NULL,
                                                               (guint16) (p.box.first + i)));
        }
        g_free(p.host_ip);
        return ports;
}

char *net_value_publish_text(const NetPublish *p) {
        bool v6 = strchr(p->host_addr, ':'), any = g_str_equal(p->host_addr, "*");
        return g_strdup_printf("%s%s%s%s%u:%u%s", v6 ? "[" : "", any ? "" : p->host_addr, v6 ? "]" : "", any ? "" : ":", p->host_port, p->box_port,
                               p->udp ? "/udp" : "");
}

/* Whatever this lets through is written into the box's /etc/hosts: no blank, no '#', no line end. */
static bool is_host_name(const char *text) {
        return *text && *text != '-' && strlen(text) <= 253 &&
               strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(text);
}

NetHost *net_value_host(const char *text, GError **error) {
        const char *colon = strchr(text, ':');
        g_autofree char *name = colon ? g_strndup(text, (gsize) (colon - text)) : NULL;
        g_autofree char *address = colon ? net_value_address(colon + 1) : NULL;

        if (address && is_host_name(name))
                return net_host_new(name, address);
        g_autofree char *quoted = err_quote(text);
        err_usage(error, "--add-host: '%s' is not NAME:ADDRESS", quoted);
        return NULL;
}

/* A decimal fraction that is all of text. */
static bool parse_decimal(const char *text, double *ret) {
        return number_scan(&text, ret) && *text == '\0';
}

/* RATE[/up|/down]: bits per second, with k, M or G. */
static bool parse_rate(const char *text, NetShape *s) {
        static const struct {
                char unit;
                double factor;
        } units[] = { { 'k', 1e3 }, { 'K', 1e3 }, { 'M', 1e6 }, { 'G', 1e9 } };
        g_auto(GStrv) parts = g_strsplit(text, "/", 2);
        double rate, factor = 1;

        if (!parts[0] || !*parts[0] || (parts[1] && !g_str_equal(parts[1], "up") && !g_str_equal(parts[1], "down")))
                return false;
        char *last = parts[0] + strlen(parts[0]) - 1;
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
                if (*last == units[i].unit) {
                        factor = units[i].factor;
                        *last = '\0';
                        break;
                }
        if (!parse_decimal(parts[0], &rate) || rate * factor < RATE_MIN || rate * factor > RATE_MAX)
                return false;
        if (!parts[1] || g_str_equal(parts[1], "up"))
                s->up_bps = (guint64) (rate * factor);
        if (!parts[1] || g_str_equal(parts[1], "down"))
                s->down_bps = (guint64) (rate * factor);
        return true;
}

bool net_value_rate(const char *text, NetShape *s, GError **error) {
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);

        s->up_bps = s->down_bps = 0;
        for (char **part = parts; *part; part++)
                if (!parse_rate(*part, s)) {
                        g_autofree char *quoted = err_quote(text);
                        err_usage(error, "--net-rate: '%s' is not RATE[/up|/down][,RATE...]", quoted);
                        return err_hint(error, "bits per second: 10M, 512k/up,2M/down");
                }
        return true;
}

bool net_value_delay(const char *text, NetShape *s, GError **error) {
        const char *plus = strstr(text, "\u00b1"), *ascii = strstr(text, "+-");
        const char *sign = plus ? plus : ascii;
        g_autofree char *delay = sign ? g_strndup(text, (size_t) (sign - text)) : g_strdup(text);
        guint64 ns, jitter = 0;

        if (!number_duration(delay, &ns) || (sign && !number_duration(sign + 2, &jitter))) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "--net-delay: '%s' is not TIME[+-TIME], as in 50ms or 50ms+-10ms", quoted);
        }
        if (ns > DELAY_MAX_NS || jitter > ns)
                return err_usage(error, ns > DELAY_MAX_NS ? "--net-delay: more than a minute" : "--net-delay: the jitter is more than the delay");
        s->delay_us = (guint32) (ns / 1000);
        s->jitter_us = (guint32) (jitter / 1000);
        return true;
}

bool net_value_loss(const char *text, NetShape *s, GError **error) {
        g_autofree char *number = g_strdup(text);
        size_t len = strlen(number);
        double percent;

        if (len > 0 && number[len - 1] == '%')
                number[len - 1] = '\0';
        if (!parse_decimal(number, &percent) || percent > 100) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "--net-loss: '%s' is not a percentage such as 1%% or 0.5%%", quoted);
        }
        s->loss_ppm = (guint32) (percent * 10000);
        return true;
}

bool net_shape_is_any(const NetShape *s) {
        return s->up_bps > 0 || s->down_bps > 0 || s->delay_us > 0 || s->loss_ppm > 0;
}

bool net_shape_is_framed(const NetShape *s, bool captured) {
        return captured || net_shape_is_any(s);
}
