/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files by which programs find names: what the box gets instead of them, and the host's name servers.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 3; the host's resolv.conf is looked at again whenever it changes.
 *
 * The box asks usbox-net, always. That has no file system, so the launcher reads /etc/resolv.conf for it and says when it is another.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "net-names.h"
#include "netstack/config.h"
#include "netstack/resolvconf.h"
#include "netstack/rules.h"

#define ETC_FILE_MAX (1024 * 1024)

/* As libc reads it: the word stands first, and a blank, which may be a tab, behind it. */
static bool is_about(const char *line, const char *keyword) {
        return g_str_has_prefix(line, keyword) && (line[strlen(keyword)] == ' ' || line[strlen(keyword)] == '\t');
}

char *net_resolv_conf(const Spec *spec) {
        struct stat st;

        /* --network=none needs none; a host file that is a symlink out of /etc (systemd-resolved's) would dangle in the box. */
        if (spec->net.mode == NET_NONE || (spec->net.mode == NET_HOST && !spec->root.rootfs && lstat(RESOLVCONF_PATH, &st) == 0 && S_ISREG(st.st_mode)))
                return NULL;
        g_autofree char *host = NULL;
        if (!fd_read_file(AT_FDCWD, RESOLVCONF_PATH, ETC_FILE_MAX, &host, NULL))
                host = g_strdup("");

        bool own = spec->net.mode == NET_USER;
        GString *text = g_string_new(own ? "nameserver " NET_DNS_IPV4 "\n" : NULL);
        char *rest = host;
        for (char *line; (line = strsep(&rest, "\n"));)
                if (is_about(line, "search") || is_about(line, "domain") || is_about(line, "options") || (!own && is_about(line, "nameserver")))
                        g_string_append_printf(text, "%s\n", line);
        return g_string_free(text, FALSE);
}

/* The lines of the host's /etc/hosts that hold in the box too: its loopback names are its own, and so are the box's. NULL-terminated. */
static char **host_lines(const Spec *spec) {
        g_autofree char *host = NULL;
        g_autoptr(GStrvBuilder) lines = g_strv_builder_new();

        if (spec->net.mode != NET_NONE && fd_read_file(AT_FDCWD, "/etc/hosts", ETC_FILE_MAX, &host, NULL)) {
                char *rest = host;
                for (char *line; (line = strsep(&rest, "\n"));)
                        if (*line && *line != '#' && !g_str_has_prefix(line, "127.") && !g_str_has_prefix(line, "::1"))
                                g_strv_builder_add(lines, line);
        }
        return g_strv_builder_end(lines);
}

char *net_etc_hosts(const Spec *spec) {
        g_auto(GStrv) lines = host_lines(spec);
        GString *text = g_string_new("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");

        for (char **line = lines; *line; line++)
                g_string_append_printf(text, "%s\n", *line);
        g_string_append_printf(text, "127.0.1.1 %s\n", spec->namespaces.hostname);
        for (guint i = 0; i < spec->net.hosts->len; i++) {
                const NetHost *host = g_ptr_array_index(spec->net.hosts, i);
                g_string_append_printf(text, "%s %s\n", host->address, host->name);
        }
        return g_string_free(text, FALSE);
}

static bool a_rule_has(const NetRules *rules, const char *name) {
        for (guint i = 0; i < rules->list->len; i++)
                if (net_rule_has_name(rules->list->pdata[i], name))
                        return true;
        return false;
}

/* Of /etc/hosts, which may be long, only what a rule is of: the box finds the rest in its own /etc/hosts. */
void net_file_hosts(const Spec *spec, const NetRules *rules, GPtrArray *ret) {
        g_auto(GStrv) lines = host_lines(spec);

        for (char **line = lines; *line; line++) {
                char *rest = *line, *comment = strchr(*line, '#'), *address;
                AddressPrefix prefix;
                if (comment)
                        *comment = '\0';
                do
                        address = strsep(&rest, " \t\r");
                while (address && !*address);
                if (!address || strchr(address, '/') || !address_prefix_parse(address, &prefix))
                        continue;
                for (char *word; (word = strsep(&rest, " \t\r"));) {
                        g_autofree char *name = net_name_normal(word);
                        if (name && a_rule_has(rules, name))
                                g_ptr_array_add(ret, net_host_new(name, address));
                }
        }
}

void net_given_hosts(const Spec *spec, GPtrArray *ret) {
        if (spec->net.rules->list->len > 0)
                net_file_hosts(spec, spec->net.rules, ret);
        for (guint i = 0; i < spec->net.hosts->len; i++) {
                const NetHost *host = g_ptr_array_index(spec->net.hosts, i);
                g_autofree char *name = net_name_normal(host->name);
                if (name)
                        g_ptr_array_add(ret, net_host_new(name, host->address));
        }
}

GPtrArray *net_resolvers(const Spec *spec) {
        if (spec->net.dns->len == 0)
                return resolvconf_servers();
        GPtrArray *resolvers = g_ptr_array_new_with_free_func(g_free);
        for (guint i = 0; i < spec->net.dns->len; i++)
                g_ptr_array_add(resolvers, g_strdup(g_ptr_array_index(spec->net.dns, i)));
        return resolvers;
}

int net_resolv_watch(const Spec *spec, GError **error) {
        return spec->net.mode != NET_USER || spec->net.dns->len > 0 ? -1 : resolvconf_watch(error);
}
