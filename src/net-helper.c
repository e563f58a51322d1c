/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-net, and the files by which programs find names.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 3, 6 and 11.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/wire.h"
#include "net-helper.h"
#include "netstack/config.h"

#define ETC_FILE_MAX (1024 * 1024)

static GVariant *pack_config(const Spec *spec) {
        g_autoptr(NetConfig) config = net_config_new();

        config->mtu = spec->net.mtu;
        config->ipv6 = spec->net.ipv6;
        config->verbose = spec->box.verbose;
        config->best_effort_confine = spec->box.best_effort & BEST_EFFORT_CONFINE;
        for (guint i = 0; i < spec->net.publish->len; i++) {
                const PublishSpec *p = g_ptr_array_index(spec->net.publish, i);
                g_ptr_array_add(config->publish, net_publish_new(p->udp, p->host_ip, p->host_port, NULL, p->box_port));
        }
        return net_config_pack(config);
}

/* It ended before it could be told anything: what it said last is the reason. */
static bool explain_broken_wire(NetHelper *h, GError **error) {
        if (err_get_errno(*error) != EPIPE)
                return err_step(error, "network");
        g_clear_error(error);
        return net_helper_dispatch(h, error) ? net_helper_died(h, error) : false;
}

bool net_helper_start(const Spec *spec, NetHelper *ret, GError **error) {
        int ends[2];

        *ret = (NetHelper){ .pidfd = -1, .wire = -1 };
        g_autofree char *path = proc_helper_path("usbox-net", error);
        if (!path || !wire_pair(ends, error))
                return false;

        char *const argv[] = { (char *) "usbox-net", (char *) "--wire", (char *) "3",
                               spec->box.verbose ? (char *) "--verbose" : NULL, NULL };
        char *const envp[] = { NULL };
        /* Nothing of the caller's but stderr. */
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0)
                ret->pid = proc_spawn(path, argv, envp, (ProcFd[]){ { null, 0 }, { null, 1 }, { ends[1], 3 } }, 3,
                                      &ret->pidfd, error);
        else
                ret->pid = err_set(error, errno, "/dev/null") ? 0 : -1;
        close(ends[1]);
        ret->wire = ends[0];
        if (ret->pid < 0) {
                ret->pid = 0;
                return false;
        }
        return wire_send(ret->wire, WIRE_NET_CONFIG, pack_config(spec), NULL, 0, error) ||
               explain_broken_wire(ret, error);
}

bool net_helper_give_tap(NetHelper *h, int tap, GError **error) {
        return wire_send(h->wire, WIRE_NET_TAP, NULL, &tap, 1, error) || explain_broken_wire(h, error);
}

bool net_helper_dispatch(NetHelper *h, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(h->wire, &m, error);
        if (r < 0)
                return err_step(error, "network");
        if (r == 0)
                return net_helper_died(h, error);
        if (m.type == WIRE_ERROR) {
                wire_error_to_gerror(&m, error);
                return err_step(error, "network");
        }
        if (m.type != WIRE_NET_READY || h->ports) {
                err_set(error, EPROTO, "usbox-net said %s", wire_type_name(m.type));
                return err_step(error, "network");
        }
        g_autoptr(GVariant) ports = g_variant_get_child_value(m.body, 0);
        h->ports = net_publish_parse(ports, error);
        return h->ports ? true : err_step(error, "network");
}

bool net_helper_died(NetHelper *h, GError **error) {
        int status;
        /* Its wire may close a moment before it is a zombie. */
        if (h->pid > 0 && proc_wait(h->pid, &status)) {
                g_autofree char *how = proc_status_text(status);
                h->pid = 0;
                err_set(error, 0, "the helper usbox-net ended: %s", how);
        } else {
                err_set(error, 0, "the helper usbox-net ended");
        }
        err_hint(error,
                 "the box was stopped, as it had no network any more; usbox --verbose shows what the helper says");
        return err_step(error, "network");
}

void net_helper_kill(NetHelper *h) {
        if (h->pid > 0)
                kill(h->pid, SIGKILL);
}

void net_helper_clear(NetHelper *h) {
        net_helper_kill(h);
        if (h->pid > 0)
                (void) proc_wait(h->pid, NULL);
        h->pid = 0;
        fd_closep(&h->pidfd);
        fd_closep(&h->wire);
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
