/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a packet on a box's control socket. The first byte says how many descriptors come with it.
 *
 * Role: tests only. Privileges: none. Threads: one. The box has not been started, so nothing is executed; whatever is asked for, the client is
 * answered or cut off, its descriptors are gone afterwards, and the launcher lives.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/wire.h"
#include "control.h"
#include "fuzz.h"
#include "send.h"
#include "supervise.h"

static int listen_somewhere(struct sockaddr_un *ret) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        socklen_t len = sizeof *ret;

        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        g_assert_true(fd >= 0 && bind(fd, (struct sockaddr *) ret, sizeof(sa_family_t)) == 0 && listen(fd, 4) == 0);
        g_assert_true(getsockname(fd, (struct sockaddr *) ret, &len) == 0);
        return fd;
}

static int open_descriptors(void) {
        int n = 0;
        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void turn(Sandbox *s) {
        struct pollfd fds[CONTROL_N_FDS];

        control_poll(s->control, fds);
        /* libFuzzer has a timer: its signal ends even a poll that does not wait. */
        g_assert_true(TEMP_FAILURE_RETRY(poll(fds, CONTROL_N_FDS, 0)) >= 0);
        control_dispatch(s->control, s, fds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static Sandbox s;
        static struct sockaddr_un address;
        static socklen_t address_len;

        if (size < 1 || size > WIRE_MAX_SIZE)
                return 0;
        if (!s.control) {
                static char *const argv[] = { (char *) "true", NULL };
                s.spec = spec_build(spec_new(NULL), argv, NULL);
                g_assert_nonnull(s.spec);
                s.child_wire = s.payload_pidfd = s.mount_ns = -1;
                s.envp = g_new0(char *, 1);
                s.plan = g_new0(RootPlan, 1);
                s.control = control_new(listen_somewhere(&address));
                address_len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 6); /* autobind: a zero byte and five digits */
        }
        int before = open_descriptors();
        int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        g_assert_true(client >= 0 && connect(client, (struct sockaddr *) &address, address_len) == 0);
        turn(&s);

        if (fuzz_send(client, client, data, size) >= 0)
                turn(&s);
        close(client);
        turn(&s);
        /* A descriptor of itself in its own queue would be the kernel's to collect; here none is left in a queue. */
        g_assert_cmpint(open_descriptors(), ==, before);
        return 0;
}
