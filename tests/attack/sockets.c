/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at what listens outside: sockets in files and by abstract names, FIFOs, the host's loopback by every address that leads to it.
 * Who is reached there says a secret.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "probe.h"

/* A name that begins with @ is abstract. */
static socklen_t unix_address(const char *name, struct sockaddr_un *address) {
        *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        size_t n = strnlen(name, sizeof address->sun_path - 1);
        memcpy(address->sun_path, name, n);
        if (*name == '@')
                address->sun_path[0] = 0;
        return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + (*name == '@' ? 0 : 1));
}

static long ask_unix(const char *name, int type) {
        struct sockaddr_un address;
        int s = name ? socket(AF_UNIX, type | SOCK_CLOEXEC, 0) : -1;
        if (s < 0 || connect(s, (struct sockaddr *) &address, unix_address(name, &address)) < 0)
                return -1;
        return reached_secret_fd(s);
}
static long probe_unix_work(void) {
        return ask_unix("socket", SOCK_STREAM);
}
static long probe_unix_tmp(void) {
        return ask_unix(target_path("tmp", "socket"), SOCK_STREAM);
}
static long probe_unix_home(void) {
        return ask_unix(target_path("home", "socket"), SOCK_STREAM);
}
static long probe_unix_session_bus(void) {
        const char *bus = getenv("DBUS_SESSION_BUS_ADDRESS");
        if (bus && strncmp(bus, "unix:path=", 10) == 0 && ask_unix(bus + 10, SOCK_STREAM) >= 0)
                return 0;
        return ask_unix(target_path("runtime", "bus"), SOCK_STREAM);
}
static long probe_unix_user_systemd(void) {
        return ask_unix(target_path("runtime", "systemd/private"), SOCK_STREAM);
}
static long probe_unix_agent(void) {
        const char *agent = getenv("SSH_AUTH_SOCK");
        return agent && ask_unix(agent, SOCK_STREAM) >= 0 ? 0 : ask_unix(target_path("tmp", "agent"), SOCK_STREAM);
}
static long probe_unix_gpg_agent(void) {
        return ask_unix(target_path("runtime", "gnupg/S.gpg-agent"), SOCK_STREAM);
}
static long probe_unix_wayland(void) {
        return ask_unix(target_path("runtime", "wayland-0"), SOCK_STREAM);
}
static long probe_unix_x11(void) {
        return ask_unix(target("x11"), SOCK_STREAM);
}
static long probe_unix_x11_abstract(void) {
        char name[256];
        snprintf(name, sizeof name, "@%s", target("x11") ? target("x11") : "");
        return target("x11") ? ask_unix(name, SOCK_STREAM) : -1;
}
static long probe_unix_abstract(void) {
        return ask_unix(target("abstract"), SOCK_STREAM);
}
static long probe_unix_abstract_packet(void) {
        return ask_unix(target("abstract_packet"), SOCK_SEQPACKET);
}
static long probe_unix_abstract_datagram(void) {
        struct sockaddr_un address;
        int s = target("abstract_datagram") ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
        /* An empty name asks the kernel for one, which the answer goes to. */
        struct sockaddr_un own = { .sun_family = AF_UNIX };
        if (s < 0 || bind(s, (struct sockaddr *) &own, sizeof own.sun_family) < 0 ||
            connect(s, (struct sockaddr *) &address, unix_address(target("abstract_datagram"), &address)) < 0 || send(s, "x", 1, 0) < 0)
                return -1;
        return reached_secret_fd(s);
}
/* The control socket of a box that runs. */
static long probe_unix_control(void) {
        struct sockaddr_un address;
        const char *name = target("control");
        int s = name ? socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) : -1;
        if (s < 0 || connect(s, (struct sockaddr *) &address, unix_address(name, &address)) < 0)
                return -1;
        return reached("a box's launcher");
}
static long probe_fifo_work(void) {
        return reached_secret_file(AT_FDCWD, "fifo");
}
static long probe_fifo_tmp(void) {
        return reached_secret_file(AT_FDCWD, target_path("tmp", "fifo"));
}

/* the host's network */
static long ask(int type, const char *address, const char *port) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in in = { .sin_family = AF_INET };
        bool six = address && strchr(address, ':');
        in.sin_port = in6.sin6_port = htons((uint16_t) target_number(port));
        if (!address || in.sin_port == 0 || inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *) &in6.sin6_addr : (void *) &in.sin_addr) != 1)
                return -1;
        int s = socket(six ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (s < 0)
                return -1;
        int done = connect(s, six ? (struct sockaddr *) &in6 : (struct sockaddr *) &in, six ? sizeof in6 : sizeof in);
        struct pollfd poll_fd = { .fd = s, .events = POLLOUT };
        if (done < 0 && errno != EINPROGRESS)
                return -1;
        int error = poll(&poll_fd, 1, 8000) > 0 ? 0 : ETIMEDOUT;
        socklen_t size = sizeof error;
        if (error == 0 && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                return -1;
        errno = error;
        if (error != 0 || (type == SOCK_DGRAM && send(s, "x", 1, 0) < 0))
                return -1;
        return reached_secret_fd(s);
}
/* Each server listens on one kind of address; so a spelling that leads elsewhere is not taken for it. */
#define LOOPBACK(id, type, address, port)                    \
        static long probe_##id(void) {                       \
                return ask(type, address, port);             \
        }
LOOPBACK(loopback, SOCK_STREAM, "127.0.0.1", "port")
LOOPBACK(loopback_other, SOCK_STREAM, "127.1.2.3", "port")
LOOPBACK(loopback_zero, SOCK_STREAM, "0.0.0.0", "port")
LOOPBACK(loopback_mapped, SOCK_STREAM, "::ffff:127.0.0.1", "port")
LOOPBACK(loopback_mapped_zero, SOCK_STREAM, "::ffff:0.0.0.0", "port")
LOOPBACK(loopback_six, SOCK_STREAM, "::1", "port6")
LOOPBACK(loopback_six_any, SOCK_STREAM, "::", "port6")
LOOPBACK(loopback_udp, SOCK_DGRAM, "127.0.0.1", "udp_port")
LOOPBACK(loopback_udp_zero, SOCK_DGRAM, "0.0.0.0", "udp_port")
LOOPBACK(loopback_udp_six, SOCK_DGRAM, "::1", "udp_port6")
LOOPBACK(host_address, SOCK_STREAM, target("address4"), "port")
LOOPBACK(host_address_udp, SOCK_DGRAM, target("address4"), "udp_port")
LOOPBACK(gateway, SOCK_STREAM, target("gateway"), "port")
LOOPBACK(gateway_udp, SOCK_DGRAM, target("gateway"), "udp_port")
LOOPBACK(gateway_six, SOCK_STREAM, target("gateway6"), "port6")
LOOPBACK(resolver, SOCK_STREAM, target("resolver"), "port")

/* "::ffff:" and the host's own address */
static long probe_host_address_mapped(void) {
        char address[64];
        snprintf(address, sizeof address, "::ffff:%s", target("address4") ? target("address4") : "");
        return ask(SOCK_STREAM, address, "port");
}
/* The host's listening sockets, as a list: the port of ours in it. */
static long probe_sockets_listed(void) {
        char line[512], wanted[16];
        FILE *file = fopen("/proc/net/tcp", "re");
        if (!file)
                return -1;
        snprintf(wanted, sizeof wanted, ":%04lX ", target_number("port"));
        long ret = -1;
        while (ret < 0 && fgets(line, sizeof line, file))
                if (strstr(line, wanted))
                        ret = reached("port %lu listens", target_number("port"));
        fclose(file);
        errno = ENOENT;
        return ret;
}
static long probe_unix_listed(void) {
        char line[512];
        FILE *file = fopen("/proc/net/unix", "re");
        const char *wanted = target("abstract");
        if (!file || !wanted)
                return -1;
        long ret = -1;
        while (ret < 0 && fgets(line, sizeof line, file))
                if (strstr(line, wanted))
                        ret = reached("%s listens", wanted);
        fclose(file);
        errno = ENOENT;
        return ret;
}

const Probe sockets_probes[] = {
        PROBE(unix_work),           PROBE(unix_tmp),           PROBE(unix_home),        PROBE(unix_session_bus), PROBE(unix_user_systemd),
        PROBE(unix_agent),          PROBE(unix_gpg_agent),     PROBE(unix_wayland),     PROBE(unix_x11),         PROBE(unix_x11_abstract),
        PROBE(unix_abstract),       PROBE(unix_abstract_packet), PROBE(unix_abstract_datagram), PROBE(unix_control), PROBE(unix_listed),
        PROBE(fifo_work),           PROBE(fifo_tmp),           PROBE(loopback),         PROBE(loopback_other),   PROBE(loopback_zero),
        PROBE(loopback_mapped),     PROBE(loopback_mapped_zero), PROBE(loopback_six),   PROBE(loopback_six_any), PROBE(loopback_udp),
        PROBE(loopback_udp_zero),   PROBE(loopback_udp_six),   PROBE(host_address),     PROBE(host_address_mapped), PROBE(host_address_udp),
        PROBE(gateway),             PROBE(gateway_udp),        PROBE(gateway_six),      PROBE(resolver),         PROBE(sockets_listed),
        { NULL, NULL },
};
