/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bad networks and captures: their options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); usbox-net carries it out.
 */
#include <string.h>

#include "base/error.h"
#include "spec.h"

#define RATE_MIN 1000
#define RATE_MAX 100000000000.0
#define DELAY_MAX_NS 60000000000ULL

/* Where there are frames to be shaped or captured, they have the length that they have on most networks. */
#define MTU_OF_FRAMES 1500

/* A decimal fraction that is all of text. */
static bool parse_decimal(const char *text, double *ret) {
        char *end;

        if (!g_ascii_isdigit(*text) || strspn(text, "0123456789.") != strlen(text))
                return false;
        *ret = g_ascii_strtod(text, &end);
        return *end == '\0';
}

/* RATE[/up|/down]: bits per second, with k, M or G. */
static bool parse_rate(const char *text, NetSpec *s) {
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
                s->rate_up = (guint64) (rate * factor);
        if (!parts[1] || g_str_equal(parts[1], "down"))
                s->rate_down = (guint64) (rate * factor);
        return true;
}

static bool apply_rate(Spec *draft, const char *const *values, GError **error) {
        g_auto(GStrv) parts = g_strsplit(values[0], ",", -1);

        draft->net.rate_up = draft->net.rate_down = 0;
        for (char **part = parts; *part; part++)
                if (!parse_rate(*part, &draft->net)) {
                        g_autofree char *quoted = err_quote(values[0]);
                        err_usage(error, "--net-rate: '%s' is not RATE[/up|/down][,RATE...]", quoted);
                        return err_hint(error, "bits per second: 10M, 512k/up,2M/down");
                }
        return true;
}

static bool apply_delay(Spec *draft, const char *const *values, GError **error) {
        const char *plus = strstr(values[0], "\u00b1"), *ascii = strstr(values[0], "+-");
        const char *sign = plus ? plus : ascii;
        g_autofree char *delay = sign ? g_strndup(values[0], (size_t) (sign - values[0])) : g_strdup(values[0]);
        guint64 ns, jitter = 0;

        if (!option_duration("--net-delay", delay, &ns, error) || (sign && !option_duration("--net-delay", sign + 2, &jitter, error)))
                return false;
        if (ns > DELAY_MAX_NS || jitter > ns)
                return err_usage(error, ns > DELAY_MAX_NS ? "--net-delay: more than a minute" : "--net-delay: the jitter is more than the delay");
        draft->net.delay_us = (guint32) (ns / 1000);
        draft->net.jitter_us = (guint32) (jitter / 1000);
        return true;
}

static bool apply_loss(Spec *draft, const char *const *values, GError **error) {
        g_autofree char *number = g_strdup(values[0]);
        size_t len = strlen(number);
        double percent;

        if (len > 0 && number[len - 1] == '%')
                number[len - 1] = '\0';
        if (!parse_decimal(number, &percent) || percent > 100) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--net-loss: '%s' is not a percentage such as 1%% or 0.5%%", quoted);
        }
        draft->net.loss_ppm = (guint32) (percent * 10000);
        return true;
}

static bool apply_pcap(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->net.pcap_file);
        draft->net.pcap_file = option_host_path(draft, values[0]);
        return true;
}

const Option netshape_options[] = {
        { .name = "net-rate",
          .arg = "RATE[/up|/down]",
          .group = OPTION_NETWORK,
          .help = "bits per second that the box's network carries: 10M, or 512k/up,2M/down",
          .apply = apply_rate },
        { .name = "net-delay",
          .arg = "TIME[+-TIME]",
          .group = OPTION_NETWORK,
          .help = "each packet is under way for so long, each way, give or take the second time",
          .apply = apply_delay },
        { .name = "net-loss",
          .arg = "PERCENT",
          .group = OPTION_NETWORK,
          .help = "so many of a hundred packets are lost, each way",
          .apply = apply_loss },
        { .name = "pcap",
          .arg = "FILE",
          .group = OPTION_NETWORK,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_FILE,
          .help = "write what passes between the box and its network to FILE, for tcpdump and Wireshark",
          .apply = apply_pcap },
        { 0 },
};

void netshape_clear(NetSpec *s) {
        g_clear_pointer(&s->pcap_file, g_free);
}

static bool is_shaped(const NetSpec *s) {
        return s->rate_up > 0 || s->rate_down > 0 || s->delay_us > 0 || s->loss_ppm > 0;
}

/* Where there is no fast path nobody looks at first bytes. */
static bool tls_names_check(const NetSpec *s, const char *what, GError **error) {
        return !s->tls_names || s->fast_path || err_usage(error, "--tls-names and %s: names are looked at on the fast path alone", what);
}

bool netshape_check(NetSpec *s, GError **error) {
        const char *what = s->rate_up > 0 || s->rate_down > 0 ? "--net-rate" : s->delay_us > 0 ? "--net-delay" : s->loss_ppm > 0 ? "--net-loss"
                           : s->pcap_file ? "--pcap" : NULL;

        if (!what)
                return tls_names_check(s, "--no-fast-path", error);
        if (s->mode != NET_USER)
                return err_usage(error, "%s needs --network=user, not --network=%s", what, s->mode == NET_HOST ? "host" : "none");
        /* Frames are what is shaped and captured, and the fast path has none. */
        s->fast_path = false;
        if (!tls_names_check(s, what, error))
                return false;
        if (is_shaped(s) && !s->mtu_given)
                s->mtu = MTU_OF_FRAMES;
        return true;
}
