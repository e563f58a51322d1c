/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's name servers, and when they are others.
 *
 * Role: launcher, and usbox-net's front where that runs by itself. Privileges: the caller's. Threads: one. Order: at the start; again
 * whenever the file changes.
 *
 * Programs write resolv.conf in place, or put another in its place, or change what its symlink leads to (systemd-resolved,
 * NetworkManager): so its directory and that of what it leads to are watched, and not the file alone.
 */
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/config.h"
#include "netstack/resolvconf.h"

#define FILE_MAX (1024 * 1024)

/* glibc takes 3 (MAXNS); who has more in the file means something by it. */
#define RESOLVERS_MAX 8

/* As many symlinks on the way to a file as the kernel follows. */
#define LINKS_MAX 40

/* What a change of a directory is that may change a file in it. */
#define WATCHED (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM)

/* An address of resolv.conf, its zone ("%eth0") as a number, since usbox-net knows no interfaces. NULL: it is none. */
static char *resolver_text(const char *word) {
        struct sockaddr_storage addr;
        const char *zone = strchr(word, '%');
        socklen_t len;

        unsigned index = zone ? if_nametoindex(zone + 1) : 0;
        g_autofree char *text = index > 0 ? g_strdup_printf("%.*s%%%u", (int) (zone - word), word, index) : g_strdup(word);
        return net_resolver_address(text, &addr, &len) ? g_steal_pointer(&text) : NULL;
}

GPtrArray *resolvconf_servers(void) {
        GPtrArray *resolvers = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *host = NULL;

        if (fd_read_file(AT_FDCWD, RESOLVCONF_PATH, FILE_MAX, &host, NULL)) {
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
        (void) inotify_add_watch(fd, *path ? path : "/", WATCHED | IN_ONLYDIR);
}

/* One symlink further. False: path is none, and as it was. */
static bool follow(char path[PATH_MAX]) {
        char to[PATH_MAX];

        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n < 0)
                return false;
        to[n] = '\0';
        g_autofree char *directory = g_path_get_dirname(path), *next = g_build_filename(*to == '/' ? "" : directory, to, NULL);
        return strlen(next) < PATH_MAX && g_strlcpy(path, next, PATH_MAX) > 0;
}

/* The symlink leads nowhere, as before whoever writes the file is started: the last directory on the way to it sees the next one, or the file, come.
 * False: it has come meanwhile. */
static bool watch_way(int fd) {
        char path[PATH_MAX] = RESOLVCONF_PATH;

        for (int i = 0; i < LINKS_MAX && follow(path); i++)
                ;
        for (;;) {
                g_autofree char *next = g_strdup(path);
                watch_directory(fd, path);
                if (!*path || access(path, F_OK) == 0)
                        return access(next, F_OK) < 0;
        }
}

/* All names on the way to the file, each between slashes. */
static char *names_on_way(void) {
        char path[PATH_MAX] = RESOLVCONF_PATH, *real = realpath(RESOLVCONF_PATH, NULL);
        GString *names = g_string_new(real);

        free(real);
        for (int i = 0; i < LINKS_MAX; i++) {
                g_string_append(names, path);
                if (!follow(path))
                        break;
        }
        g_string_append_c(names, '/');
        return g_string_free(names, false);
}

/* Both directories, again where it was done already: what the symlink leads to may be another. */
static void watch_both(int fd) {
        char link[] = RESOLVCONF_PATH, *real;

        /* The file too: where it is a mount of its own (a container's), its directory does not see who writes it. */
        (void) inotify_add_watch(fd, link, IN_CLOSE_WRITE);
        watch_directory(fd, link);
        while (!(real = realpath(RESOLVCONF_PATH, NULL)) && !watch_way(fd))
                ;
        if (real)
                watch_directory(fd, real);
        free(real);
}

int resolvconf_watch(GError **error) {
        _cleanup_close_ int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd < 0) {
                err_set(error, errno, "watch " RESOLVCONF_PATH);
                err_hint(error, "the limit of inotify instances may be reached (sysctl fs.inotify.max_user_instances); --dns IP needs none");
                return -1;
        }
        watch_both(fd);
        return fd_steal(&fd);
}

/* Is it about the file itself, or a watch that has ended, or about something on the way to it? In /etc most is not. */
static bool matters(const struct inotify_event *event, const char *names) {
        g_autofree char *name = event->len > 0 ? g_strdup_printf("/%s/", event->name) : NULL;
        return !name || strstr(names, name);
}

bool resolvconf_drain(int fd) {
        union {
                struct inotify_event align;
                char bytes[4096];
        } buf;
        g_autofree char *names = names_on_way();
        bool any = false;
        ssize_t n;

        while ((n = read(fd, buf.bytes, sizeof buf.bytes)) > 0)
                for (const char *at = buf.bytes; at < buf.bytes + n;) {
                        const struct inotify_event *event = (const void *) at;
                        any |= matters(event, names);
                        at += sizeof *event + event->len;
                }
        if (any)
                watch_both(fd);
        return any;
}
