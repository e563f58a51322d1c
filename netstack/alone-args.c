/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line of usbox-net without the launcher. What it shares with `usbox run` is spelt and read the same; the
 * rest is slirp4netns's, so that what calls that can call this.
 *
 * Role: usbox-net's front. Privileges: the caller's. Threads: one. Order: first thing.
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "netstack/alone.h"
#include "netstack/subnet.h"
#include "netstack/values.h"

typedef struct {
        const char *name; /* without dashes */
        char short_name;  /* 0: none */
        const char *arg;  /* NULL: a switch */
        bool (*apply)(AloneOptions *o, const char *value, GError **error);
        const char *help; /* NULL: what slirp4netns has and is always so here; accepted, and not listed */
} Row;

static bool bad_value(GError **error, const char *option, const char *value, const char *wanted) {
        g_autofree char *quoted = err_quote(value);
        return err_usage(error, "%s: '%s' is not %s", option, quoted, wanted);
}

static bool apply_netns(AloneOptions *o, const char *value, GError **error) {
        if (o->netns)
                return err_usage(error, "--netns: there is one already");
        o->netns = g_strdup(value);
        return true;
}

static bool apply_netns_type(AloneOptions *o, const char *value, GError **error) {
        o->path = g_str_equal(value, "path");
        return o->path || g_str_equal(value, "pid") || bad_value(error, "--netns-type", value, "pid or path");
}

static bool apply_userns_path(AloneOptions *o, const char *value, GError **error) {
        g_free(o->userns_path);
        o->userns_path = g_strdup(value);
        return true;
}

static bool apply_tap(AloneOptions *o, const char *value, GError **error) {
        if (!net_is_interface_name(value))
                return bad_value(error, "--tap", value, "an interface's name (1 to 15 characters)");
        g_free(o->config->tap);
        o->config->tap = g_strdup(value);
        return true;
}

static bool apply_configure(AloneOptions *o, const char *value, GError **error) {
        return o->configure = true;
}

static bool apply_no_configure(AloneOptions *o, const char *value, GError **error) {
        return o->bare = true;
}

/* A descriptor that the caller left open for us; it goes no further. */
static bool take_fd(const char *option, const char *value, int *ret, GError **error) {
        guint64 fd;

        if (!g_ascii_string_to_unsigned(value, 10, 0, G_MAXINT, &fd, NULL))
                return bad_value(error, option, value, "a file descriptor's number");
        if (fcntl((int) fd, F_SETFD, FD_CLOEXEC) < 0)
                return err_usage(error, "%s: file descriptor %d is not open", option, (int) fd);
        *ret = (int) fd;
        return true;
}

static bool apply_ready_fd(AloneOptions *o, const char *value, GError **error) {
        return take_fd("--ready-fd", value, &o->ready_fd, error);
}

static bool apply_exit_fd(AloneOptions *o, const char *value, GError **error) {
        return take_fd("--exit-fd", value, &o->exit_fd, error);
}

static bool apply_mtu(AloneOptions *o, const char *value, GError **error) {
        guint64 mtu;

        if (!g_ascii_string_to_unsigned(value, 10, NET_MTU_MIN, NET_MTU_MAX, &mtu, NULL))
                return bad_value(error, "--mtu", value, "a number from 1280 to 65520");
        o->config->mtu = (guint16) mtu;
        return o->mtu_given = true;
}

static bool apply_no_ipv6(AloneOptions *o, const char *value, GError **error) {
        o->config->ipv6 = false;
        return true;
}

static bool apply_cidr(AloneOptions *o, const char *value, GError **error) {
        return subnet_ipv4_set("--cidr", value, error);
}

static bool apply_no_fast_path(AloneOptions *o, const char *value, GError **error) {
        o->config->fast_path = false;
        return true;
}

static bool apply_publish(AloneOptions *o, const char *value, GError **error) {
        GPtrArray *ports = net_value_publish(value, error);
        if (!ports)
                return false;
        g_ptr_array_extend_and_steal(o->config->publish, ports);
        return true;
}

static bool apply_rule(AloneOptions *o, bool allow, const char *value, GError **error) {
        NetRule *rule = net_rule_parse(allow, value, error);
        if (!rule)
                return false;
        net_rules_append(o->config->rules, rule);
        return true;
}

static bool apply_allow(AloneOptions *o, const char *value, GError **error) {
        return apply_rule(o, true, value, error);
}

static bool apply_deny(AloneOptions *o, const char *value, GError **error) {
        return apply_rule(o, false, value, error);
}

static bool apply_expose_host(AloneOptions *o, const char *value, GError **error) {
        guint64 port;

        if (!g_ascii_string_to_unsigned(value, 10, 1, G_MAXUINT16, &port, NULL))
                return bad_value(error, "--expose-host", value, "a port");
        net_rules_append(o->config->rules, net_rule_expose((guint16) port));
        return true;
}

static bool apply_tls_names(AloneOptions *o, const char *value, GError **error) {
        return o->config->tls_names = true;
}

static bool apply_dns(AloneOptions *o, const char *value, GError **error) {
        char *address = net_value_address(value);
        if (!address)
                return bad_value(error, "--dns", value, "an address");
        g_ptr_array_add(o->config->resolvers, address);
        return o->dns_given = true;
}

static bool apply_add_host(AloneOptions *o, const char *value, GError **error) {
        NetHost *host = net_value_host(value, error);
        if (!host)
                return false;
        g_ptr_array_add(o->config->hosts, host);
        return true;
}

static bool apply_net_log(AloneOptions *o, const char *value, GError **error) {
        g_free(o->log_file);
        o->log_file = g_strdup(value);
        return true;
}

static bool apply_pcap(AloneOptions *o, const char *value, GError **error) {
        g_free(o->pcap_file);
        o->pcap_file = g_strdup(value);
        return true;
}

static bool apply_rate(AloneOptions *o, const char *value, GError **error) {
        return net_value_rate(value, &o->config->shape, error);
}

static bool apply_delay(AloneOptions *o, const char *value, GError **error) {
        return net_value_delay(value, &o->config->shape, error);
}

static bool apply_loss(AloneOptions *o, const char *value, GError **error) {
        return net_value_loss(value, &o->config->shape, error);
}

static bool apply_best_effort(AloneOptions *o, const char *value, GError **error) {
        o->config->best_effort_confine = g_str_equal(value, "confine");
        return o->config->best_effort_confine || bad_value(error, "--best-effort", value, "confine");
}

static bool apply_verbose(AloneOptions *o, const char *value, GError **error) {
        return o->config->verbose = true;
}

static bool apply_try_fast_path(AloneOptions *o, const char *value, GError **error) {
        return o->try_fast_path = true;
}

static bool apply_help(AloneOptions *o, const char *value, GError **error) {
        return o->help = true;
}

static bool apply_version(AloneOptions *o, const char *value, GError **error) {
        return o->version = true;
}

static bool apply_nothing(AloneOptions *o, const char *value, GError **error) {
        return true;
}

static const Row rows[] = {
        { "netns", 0, "PID|PATH", apply_netns, "the network namespace: of that process, or that file" },
        { "netns-type", 0, "pid|path", apply_netns_type, "path: what looks like a PID is a file's name, too" },
        { "userns-path", 0, "PATH", apply_userns_path, "enter that user namespace first, not the one which the network namespace belongs to" },
        { "tap", 0, "NAME", apply_tap, "the interface there (tap0)" },
        { "configure", 'c', NULL, apply_configure, "set interfaces, addresses and routes up (the default)" },
        { "no-configure", 0, NULL, apply_no_configure, "make the interface alone: DHCP and router advertisements say the rest" },
        { "ready-fd", 'r', "FD", apply_ready_fd, "write \"1\" there when the network works" },
        { "exit-fd", 'e', "FD", apply_exit_fd, "end when the other end of that is closed" },
        { "mtu", 'm', "N", apply_mtu, "largest packet in bytes, 1280 to 65520 (default)" },
        { "no-ipv6", 0, NULL, apply_no_ipv6, "IPv4 alone" },
        { "cidr", 0, "NETWORK/BITS", apply_cidr, "the IPv4 network there (10.0.2.0/24): .2 is the gateway, .3 the resolver, .100 the namespace" },
        { "no-fast-path", 0, NULL, apply_no_fast_path, "TCP by frames, too, instead of by sockets on both sides" },
        { "publish", 'p', "[IP:]HOST:PORT[/udp]", apply_publish, "the host's port HOST leads to PORT there; 0: a free one; both may be ranges" },
        { "allow", 0, "RULE", apply_allow, "let flows of RULE out; what no --allow names is then denied" },
        { "deny", 0, "RULE", apply_deny, "refuse flows of RULE; of all rules the first that matches counts" },
        { "expose-host", 0, "PORT", apply_expose_host, "that port of the host's loopback is host.usbox:PORT there" },
        { "tls-names", 0, NULL, apply_tls_names, "what an --allow by name opens at port 443 must ask for an allowed name" },
        { "dns", 0, "IP", apply_dns, "ask this name server, not the host's" },
        { "add-host", 0, "NAME:IP", apply_add_host, "NAME is IP, for who asks and for --allow" },
        { "net-log", 0, "FILE", apply_net_log, "append each flow to FILE, as JSON lines" },
        { "pcap", 0, "FILE", apply_pcap, "write what passes to FILE, for tcpdump and Wireshark" },
        { "net-rate", 0, "RATE[/up|/down]", apply_rate, "bits per second: 10M, or 512k/up,2M/down" },
        { "net-delay", 0, "TIME[+-TIME]", apply_delay, "each packet is under way for so long, each way" },
        { "net-loss", 0, "PERCENT", apply_loss, "so many of a hundred packets are lost, each way" },
        { "best-effort", 0, "confine", apply_best_effort, "go on where own namespaces are not to be had" },
        { "try-fast-path", 0, NULL, apply_try_fast_path, "say whether the kernel has what the TCP fast path needs, and end" },
        { "verbose", 'v', NULL, apply_verbose, "say what happens" },
        { "help", 'h', NULL, apply_help, "print this" },
        { "version", 'V', NULL, apply_version, "print the version" },
        { "enable-ipv6", '6', NULL, apply_nothing, NULL },
        { "disable-host-loopback", 0, NULL, apply_nothing, NULL },
        { "enable-sandbox", 0, NULL, apply_nothing, NULL },
        { "enable-seccomp", 0, NULL, apply_nothing, NULL },
};

static bool unknown(const char *arg, GError **error) {
        g_autofree char *quoted = err_quote(arg);
        err_usage(error, "%s: unknown option", quoted);
        return err_hint(error, "usbox-net --help lists the options");
}

/* --NAME, --NAME=VALUE, --NAME VALUE; *at is the argument's index, moved to the last one that was taken. */
static bool apply_long(AloneOptions *o, int argc, char *const *argv, int *at, GError **error) {
        const char *arg = argv[*at] + 2, *equals = strchr(arg, '=');
        size_t len = equals ? (size_t) (equals - arg) : strlen(arg);

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                if (strncmp(rows[i].name, arg, len) != 0 || rows[i].name[len])
                        continue;
                if (!rows[i].arg)
                        return equals ? err_usage(error, "--%s takes no value", rows[i].name) : rows[i].apply(o, NULL, error);
                const char *value = equals ? equals + 1 : *at + 1 < argc ? argv[++*at] : NULL;
                if (!value || !*value)
                        return err_usage(error, "--%s needs %s", rows[i].name, rows[i].arg);
                return rows[i].apply(o, value, error);
        }
        return unknown(argv[*at], error);
}

/* -c, -r3, -r 3, -c6r 3. */
static bool apply_short(AloneOptions *o, int argc, char *const *argv, int *at, GError **error) {
        const char *word = argv[*at];

        for (const char *p = word + 1; *p; p++) {
                size_t i = 0;
                while (i < G_N_ELEMENTS(rows) && rows[i].short_name != *p)
                        i++;
                if (i == G_N_ELEMENTS(rows))
                        return unknown(word, error);
                if (!rows[i].arg) {
                        if (!rows[i].apply(o, NULL, error))
                                return false;
                        continue;
                }
                const char *value = p[1] ? p + 1 : *at + 1 < argc ? argv[++*at] : NULL;
                if (!value || !*value)
                        return err_usage(error, "-%c needs %s", *p, rows[i].arg);
                return rows[i].apply(o, value, error);
        }
        return true;
}

static bool check_paths(AloneOptions *o, GError **error) {
        NetConfig *config = o->config;

        if (config->tls_names && !config->fast_path)
                return err_usage(error, "--tls-names and --no-fast-path: names are looked at on the fast path alone");
        if (net_shape_is_any(&config->shape) && !o->mtu_given)
                config->mtu = NET_MTU_SHAPED;
        return true;
}

static bool check(AloneOptions *o, GError **error) {
        if (!o->netns) {
                err_usage(error, "--netns PID|PATH is missing");
                return err_hint(error, "usbox-net --help lists the options");
        }
        if (o->configure && o->bare)
                return err_usage(error, "--configure and --no-configure");
        for (guint i = 0; i < o->config->publish->len && !o->config->ipv6; i++) {
                const NetPublish *p = o->config->publish->pdata[i];
                g_autofree char *text = net_value_publish_text(p);
                if (strchr(p->host_addr, ':'))
                        return err_usage(error, "--publish %s and --no-ipv6", text);
        }
        if (o->config->publish->len > NET_PUBLISH_MAX)
                return err_usage(error, "--publish: %u ports, more than %u", o->config->publish->len, NET_PUBLISH_MAX);
        return check_paths(o, error);
}

/* The namespace and the interface's name, as slirp4netns has them. */
static bool apply_word(AloneOptions *o, unsigned place, const char *word, GError **error) {
        g_autofree char *quoted = err_quote(word);

        return place == 0   ? apply_netns(o, word, error)
               : place == 1 ? apply_tap(o, word, error)
                            : err_usage(error, "'%s': there is a namespace and an interface's name already", quoted);
}

bool alone_parse(int argc, char *const *argv, AloneOptions *ret, GError **error) {
        unsigned words = 0;
        bool only_words = false;

        *ret = (AloneOptions){ .ready_fd = -1, .exit_fd = -1, .config = net_config_new() };
        for (int i = 0; i < argc; i++) {
                const char *arg = argv[i];
                bool ok = true;
                if (only_words || arg[0] != '-' || !arg[1])
                        ok = apply_word(ret, words++, arg, error);
                else if (g_str_equal(arg, "--"))
                        only_words = true;
                else
                        ok = arg[1] == '-' ? apply_long(ret, argc, argv, &i, error) : apply_short(ret, argc, argv, &i, error);
                if (!ok)
                        return false;
                if (ret->help || ret->version)
                        return true;
        }
        return ret->try_fast_path || check(ret, error);
}

void alone_clear(AloneOptions *o) {
        g_clear_pointer(&o->netns, g_free);
        g_clear_pointer(&o->userns_path, g_free);
        g_clear_pointer(&o->log_file, g_free);
        g_clear_pointer(&o->pcap_file, g_free);
        g_clear_pointer(&o->config, net_config_free);
}

char *alone_help(void) {
        GString *text = g_string_new("usage: usbox-net [OPTION...] --netns PID|PATH\n"
                                     "       usbox-net [OPTION...] PID|PATH [NAME]\n"
                                     "\n"
                                     "Connect a network namespace of the caller's with the world, without rights. In it 10.0.2.3 answers the DNS.\n"
                                     "\n");

        for (size_t i = 0; i < G_N_ELEMENTS(rows) && rows[i].help; i++) {
                g_autofree char *letter = rows[i].short_name ? g_strdup_printf("-%c, ", rows[i].short_name) : g_strdup("    ");
                g_autofree char *left = g_strdup_printf("%s--%s%s%s", letter, rows[i].name, rows[i].arg ? " " : "", rows[i].arg ? rows[i].arg : "");
                g_string_append_printf(text, "  %-36s %s\n", left, rows[i].help);
        }
        g_string_append(text, "\n--enable-ipv6 (-6), --disable-host-loopback, --enable-sandbox and --enable-seccomp are always so, and accepted.\n");
        return g_string_free(text, FALSE);
}
