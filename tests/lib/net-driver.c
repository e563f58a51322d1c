/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * net-driver: usbox-net without the launcher, for tests.
 *
 * net-driver [--mtu N] [--no-ipv6] [--no-fast-path] [--verbose] [--best-effort] [--no-tap] [--resolver IP]... [-p PROTO,HOST,PORT,BOX,PORT]... USBOX-NET CMD...
 *
 * Starts USBOX-NET in the network namespace that it is called in, makes a user and a network namespace with a TAP for itself,
 * hands that over, prints "ready PROTO HOST PORT BOX PORT ..." lines and "pid N" on descriptor 1, and runs CMD in the
 * namespace. Ends with CMD's status; 70 and the error on stderr when usbox-net says one, 71 for what else goes wrong.
 */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/wire.h"
#include "netstack/config.h"
#include "netstack/divert.h"

#define EXIT_NET 70
#define EXIT_DRIVER 71

static void die(int status, const GError *error) {
        fprintf(stderr, "net-driver: %s\n", error->message);
        if (err_get_hint(error))
                fprintf(stderr, "hint: %s\n", err_get_hint(error));
        exit(status);
}

static void make_namespaces(void) {
        g_autoptr(GError) error = NULL;
        g_autofree char *uid_map = g_strdup_printf("0 %d 1", (int) getuid()),
                        *gid_map = g_strdup_printf("0 %d 1", (int) getgid());

        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 || !fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny") ||
            !fd_write_file(AT_FDCWD, "/proc/self/uid_map", uid_map) ||
            !fd_write_file(AT_FDCWD, "/proc/self/gid_map", gid_map)) {
                err_set(&error, errno, "namespaces");
                die(EXIT_DRIVER, error);
        }
}

static int make_tap(const NetConfig *config) {
        g_autoptr(GError) error = NULL;
        struct ifreq request = { .ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

        int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0 || (net_config_offloads(config) && !boxside_offload(tap))) {
                err_set(&error, errno, "TAP");
                die(EXIT_DRIVER, error);
        }
        g_autofree char *script = g_strdup_printf("ip link set lo up && ip link set tap0 mtu %u up && ip addr add "
                                                  "%s/%d dev tap0 && ip route add default via %s",
                                                  config->mtu, NET_BOX_IPV4, NET_PREFIX_IPV4, NET_GATEWAY_IPV4);
        g_autofree char *script6 = g_strdup_printf("ip addr add %s/%d dev tap0 nodad && ip -6 route add default via %s",
                                                   NET_BOX_IPV6, NET_PREFIX_IPV6, NET_GATEWAY_IPV6);
        if (system(script) != 0 || (config->ipv6 && system(script6) != 0)) {
                err_set(&error, 0, "ip failed");
                die(EXIT_DRIVER, error);
        }
        return tap;
}

static void print_ready(const WireMessage *ready) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) list = g_variant_get_child_value(ready->body, 0);
        g_autoptr(GPtrArray) ports = net_publish_parse(list, &error);

        if (!ports)
                die(EXIT_DRIVER, error);
        for (guint i = 0; i < ports->len; i++) {
                const NetPublish *p = ports->pdata[i];
                printf("ready %s %s %u %s %u\n", p->udp ? "udp" : "tcp", p->host_addr, p->host_port, p->box_addr,
                       p->box_port);
        }
}

static void parse_publish(NetConfig *config, const char *text) {
        g_auto(GStrv) parts = g_strsplit(text, ",", 5);
        g_assert(g_strv_length(parts) == 5);
        g_ptr_array_add(config->publish, net_publish_new(g_str_equal(parts[0], "udp"), parts[1],
                                                         (guint16) atoi(parts[2]), parts[3], (guint16) atoi(parts[4])));
}

/* As the launcher does it. */
static void read_resolvers(NetConfig *config) {
        g_autofree char *text = NULL;
        char address[64];

        if (!fd_read_file(AT_FDCWD, "/etc/resolv.conf", 65536, &text, NULL))
                return;
        for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
                if (sscanf(line, "nameserver %63s", address) == 1)
                        g_ptr_array_add(config->resolvers, g_strdup(address));
}

int main(int argc, char **argv) {
        g_autoptr(GError) error = NULL;
        g_autoptr(NetConfig) config = net_config_new();
        g_auto(WireMessage) ready = { 0 };
        int wire[2], i = 1;
        bool with_tap = true, able = true;

        for (; i < argc && argv[i][0] == '-'; i++)
                if (g_str_equal(argv[i], "--mtu"))
                        config->mtu = (guint16) atoi(argv[++i]);
                else if (g_str_equal(argv[i], "--no-ipv6"))
                        config->ipv6 = false;
                else if (g_str_equal(argv[i], "--verbose"))
                        config->verbose = true;
                else if (g_str_equal(argv[i], "--best-effort"))
                        config->best_effort_confine = true;
                else if (g_str_equal(argv[i], "--no-fast-path"))
                        config->fast_path = false;
                else if (g_str_equal(argv[i], "--unable")) /* as where the kernel lacks what the fast path needs */
                        able = false;
                else if (g_str_equal(argv[i], "--delay")) /* ms */
                        config->shape.delay_us = (guint32) atoi(argv[++i]) * 1000;
                else if (g_str_equal(argv[i], "--no-tap"))
                        with_tap = false;
                else if (g_str_equal(argv[i], "--resolver"))
                        g_ptr_array_add(config->resolvers, g_strdup(argv[++i]));
                else if (g_str_equal(argv[i], "--expose"))
                        net_rules_append(config->rules, net_rule_expose((uint16_t) atoi(argv[++i])));
                else if (g_str_equal(argv[i], "-p"))
                        parse_publish(config, argv[++i]);
        g_assert(argc - i >= 2);
        read_resolvers(config);

        if (!wire_pair(wire, &error))
                die(EXIT_DRIVER, error);
        char wire_option[] = "--wire", wire_number[] = "3";
        char *net_argv[] = { argv[i], wire_option, wire_number, NULL }, *net_envp[] = { NULL };
        ProcFd map = { .fd = wire[1], .number = 3 };
        pid_t net = proc_spawn(argv[i], net_argv, net_envp, &map, 1, NULL, &error);
        if (net < 0)
                die(EXIT_DRIVER, error);
        close(wire[1]);
        if (!wire_send(wire[0], WIRE_NET_CONFIG, net_config_pack(config), NULL, 0, &error))
                die(EXIT_DRIVER, error);

        make_namespaces();
        int tap = make_tap(config);
        if (with_tap) {
                /* When usbox-net has ended already, its error is still to be read. */
                int fds[2 + DIVERT_FDS_MAX] = { tap, open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) };
                unsigned n = 2;
                const BoxSide side = { .tap = "tap0", .ipv6 = config->ipv6, .framed = config->shape.delay_us > 0 };
                g_autoptr(GError) why = NULL;
                if (config->fast_path && (able || err_set(&why, ENOENT, "nftables")) && divert_set_up(&side, fds + 2, &why))
                        n += config->ipv6 ? DIVERT_FDS_MAX : DIVERT_FDS_IPV4;
                (void) wire_send(wire[0], WIRE_NET_TAP, g_variant_new("(s)", why ? why->message : ""), fds, n, NULL);
                while (n > 0)
                        close(fds[--n]);
        }
        if (with_tap && !wire_expect(wire[0], "usbox-net", WIRE_NET_READY, &ready, &error))
                die(EXIT_NET, error);
        if (with_tap)
                print_ready(&ready);
        printf("pid %d\n", (int) net);
        fflush(stdout);

        pid_t child = fork();
        if (child == 0) {
                execvp(argv[i + 1], argv + i + 1);
                _exit(127);
        }
        int status;
        g_assert(proc_wait(child, &status));
        close(wire[0]);
        int net_status;
        g_assert(proc_wait(net, &net_status));
        if (net_status != 0) {
                g_autofree char *text = proc_status_text(net_status);
                fprintf(stderr, "net-driver: usbox-net: %s\n", text);
                return EXIT_NET;
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
