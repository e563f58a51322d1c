/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files by which programs find names: what the box gets instead of them, and the host's name servers.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 3; the host's resolv.conf is looked at again whenever it changes.
 *
 * The box asks usbox-net, always. That has no file system, so the launcher reads /etc/resolv.conf for it and says when it is
 * another. Programs write that file in place, or put another in its place, or change what its symlink leads to (systemd-resolved,
 * NetworkManager): so its directory and that of what it leads to are watched, and not the file alone.
 */
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "net-names.h"
#include "netstack/config.h"
#include "netstack/rules.h"

#define ETC_FILE_MAX (1024 * 1024)
#define RESOLV_CONF "/etc/resolv.conf"

/* glibc takes 3 (MAXNS); who has more in the file means something by it. */
#define RESOLVERS_MAX 8

/* What a change of a directory is that may change a file in it. */
#define WATCHED (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM)

char *net_resolv_conf(const Spec *spec) {
        struct stat st;

        /* --network=none needs none; a host file that is a symlink out of /etc (systemd-resolved's) would dangle in the box. */
        if (spec->net.mode == NET_NONE || (spec->net.mode == NET_HOST && !spec->root.rootfs && lstat(RESOLV_CONF, &st) == 0 && S_ISREG(st.st_mode)))
                return NULL;
        g_autofree char *host = NULL;
        if (!fd_read_file(AT_FDCWD, RESOLV_CONF, ETC_FILE_MAX, &host, NULL))
                host = g_strdup("");

        bool own = spec->net.mode == NET_USER;
        GString *text = g_string_new(own ? "nameserver " NET_DNS_IPV4 "\n" : NULL);
        char *rest = host;
        for (char *line; (line = strsep(&rest, "\n"));)
                if (g_str_has_prefix(line, "search ") || g_str_has_prefix(line, "domain ") || g_str_has_prefix(line, "options ") ||
                    (!own && g_str_has_prefix(line, "nameserver ")))
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
                /* "NAME IP", checked by --add-host */
                const char *pair = g_ptr_array_index(spec->net.hosts, i);
                const char *space = strchr(pair, ' ');
                g_string_append_printf(text, "%s %.*s\n", space + 1, (int) (space - pair), pair);
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
static void add_file_hosts(const Spec *spec, GPtrArray *ret) {
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
                        if (name && a_rule_has(spec->net.rules, name))
                                g_ptr_array_add(ret, net_host_new(name, address));
                }
        }
}

void net_given_hosts(const Spec *spec, GPtrArray *ret) {
        if (spec->net.rules->list->len > 0)
                add_file_hosts(spec, ret);
        for (guint i = 0; i < spec->net.hosts->len; i++) {
                g_auto(GStrv) pair = g_strsplit(g_ptr_array_index(spec->net.hosts, i), " ", 2);
                g_autofree char *name = net_name_normal(pair[0]);
                if (name)
                        g_ptr_array_add(ret, net_host_new(name, pair[1]));
        }
}

/* An address of resolv.conf, its zone ("%eth0") as a number, since usbox-net knows no interfaces. NULL: it is none. */
static char *resolver_text(const char *word) {
        struct sockaddr_storage addr;
        const char *zone = strchr(word, '%');
        socklen_t len;

        unsigned index = zone ? if_nametoindex(zone + 1) : 0;
        g_autofree char *text = index > 0 ? g_strdup_printf("%.*s%%%u", (int) (zone - word), word, index) : g_strdup(word);
        return net_resolver_address(text, &addr, &len) ? g_steal_pointer(&text) : NULL;
}

GPtrArray *net_resolvers(const Spec *spec) {
        GPtrArray *resolvers = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *host = NULL;

        for (guint i = 0; i < spec->net.dns->len; i++)
                g_ptr_array_add(resolvers, g_strdup(g_ptr_array_index(spec->net.dns, i)));
        if (resolvers->len > 0)
                return resolvers;
        if (fd_read_file(AT_FDCWD, RESOLV_CONF, ETC_FILE_MAX, &host, NULL)) {
                char *rest = host;
                for (char *line; (line = strsep(&rest, "\n")) && resolvers->len < RESOLVERS_MAX;) {
                        g_auto(GStrv) words = g_strsplit_set(line, " \t\r", -1);
                        if (!words[0] || !g_str_equal(words[0], "nameserver"))
                                continue;
                        char **word = words + 1;
                        while (*word && !**word)
                                word++;
                        char *address = *word ? resolver_text(*word) : NULL;
                        if (address)
                                g_ptr_array_add(resolvers, address);
                }
        }
        /* resolv.conf(5): without one, the name server of this machine. */
        if (resolvers->len == 0)
                g_ptr_array_add(resolvers, g_strdup("127.0.0.1"));
        return resolvers;
}

/* Watch the directory of path, which is spoiled. */
static void watch_directory(int fd, char *path) {
        char *slash = strrchr(path, '/');

        if (!slash)
                return;
        *slash = '\0';
        /* One that is not there cannot change; whoever makes it changes the symlink's directory or is seen at the next change. */
        (void) inotify_add_watch(fd, *path ? path : "/", WATCHED | IN_ONLYDIR);
}

/* Both directories, again where it was done already: what the symlink leads to may be another. */
static void watch_both(int fd) {
        char link[] = RESOLV_CONF, *real = realpath(RESOLV_CONF, NULL);

        /* The file too: where it is a mount of its own (a container's), its directory does not see who writes it. */
        (void) inotify_add_watch(fd, link, IN_CLOSE_WRITE);
        watch_directory(fd, link);
        if (real)
                watch_directory(fd, real);
        free(real);
}

int net_resolv_watch(const Spec *spec, GError **error) {
        if (spec->net.mode != NET_USER || spec->net.dns->len > 0)
                return -1;
        _cleanup_close_ int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd < 0) {
                err_set(error, errno, "watch " RESOLV_CONF);
                err_hint(error, "the limit of inotify instances may be reached (sysctl fs.inotify.max_user_instances); --dns IP needs none");
                return -1;
        }
        watch_both(fd);
        return fd_steal(&fd);
}

/* Something happened in one of the directories: which of the many files in them it was does not matter enough to look. */
bool net_resolv_drain(int fd) {
        union {
                struct inotify_event align;
                char bytes[4096];
        } buf;
        bool any = false;

        while (read(fd, buf.bytes, sizeof buf.bytes) > 0)
                any = true;
        if (any)
                watch_both(fd);
        return any;
}
