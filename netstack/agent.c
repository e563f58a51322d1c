/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent: the one process that has rights over the box's network namespace while the box runs.
 *
 * Role: a fork of usbox-net. Privileges: CAP_NET_ADMIN of the box's outer user namespace, which counts for the box's network alone; on
 * the host none but the caller's, and a filter that leaves no call to use them. Threads: one. Order: forked before usbox-net confines itself; waits
 * for the namespace, which comes with the TAP. The box need not wait for it: rules, routes and the sockets of the fast path are there by then
 * (divert.c), and what it makes are those of connections from outside.
 *
 * Why a process apart. A socket is born in its maker's network namespace, and netfilter looks at the rights of who opened a socket and of
 * who sends: usbox-net, which parses what the box sends, has its sockets on the host and no right anywhere. So what
 * needs either while the box runs is done here, by a process that reads nothing but usbox-net's requests: three words. It is of the host's pid
 * namespace: the payload can neither see, signal nor trace it. Not the launcher's fork in the box does this, since such one would be visible there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "net-agent-seccomp.h" /* made from agent-seccomp.json */
#include "netstack/agent.h"
#include "netstack/divert.h"
#include "netstack/enter.h"
#include "netstack/unmap.h"

#define TEXT_MAX 256

/* A request; with JOIN comes the network namespace. */
typedef struct {
        enum { AGENT_JOIN = 1, AGENT_MAKE_SOCKETS, AGENT_UNMAP } op;
        int family; /* MAKE_SOCKETS: AF_INET, AF_INET6 */
} Request;

/* An answer, with descriptors. */
typedef struct {
        int family; /* AF_UNSPEC: to JOIN */
        int errnum; /* JOIN: 0, or why not */
        char text[TEXT_MAX];
} Answer;

/* --- both sides ---------------------------------------------------------------------------------------------------- */

typedef union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * AGENT_SOCKETS)];
} Control;

static bool send_fds(int fd, const void *data, size_t len, const int *fds, size_t n_fds) {
        struct iovec iov = { .iov_base = (void *) data, .iov_len = len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        Control control = { 0 };
        ssize_t n;

        if (n_fds > 0)
                fd_attach(&msg, &control, fds, n_fds);
        do
                n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n == (ssize_t) len;
}

/* Returns the number of descriptors, the caller's; -1 where nothing (or not len bytes) came. */
static int receive_fds(int fd, void *data, size_t len, int ret_fds[AGENT_SOCKETS]) {
        struct iovec iov = { .iov_base = data, .iov_len = len };
        Control control;
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
        int count = 0;
        ssize_t n;

        /* ECONNRESET says, once, that the other has closed without having read all: what it said before is still to come. */
        do
                n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return -1;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                count = (int) ((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                memcpy(ret_fds, CMSG_DATA(c), sizeof(int) * (size_t) count);
        }
        if (n == (ssize_t) len)
                return count;
        while (count > 0)
                close(ret_fds[--count]);
        return -1;
}

/* --- the agent ----------------------------------------------------------------------------------------------------- */

static bool confine_agent(pid_t parent, GError **error) {
        return confine_keep_caps(1u << CAP_NET_ADMIN, error) && confine_self(error) && confine_die_with_parent(parent, error) &&
               confine_seccomp(net_agent_seccomp, G_N_ELEMENTS(net_agent_seccomp), error);
}

static void serve_join(int wire, pid_t parent, int netns) {
        g_autoptr(GError) error = NULL;
        Answer answer = { .family = AF_UNSPEC };

        if (!enter_netns(netns, -1, &error) || !confine_agent(parent, &error)) {
                answer.errnum = err_get_errno(error) ? err_get_errno(error) : EIO;
                g_strlcpy(answer.text, error->message, sizeof answer.text);
        }
        if (!send_fds(wire, &answer, sizeof answer, NULL, 0) || error)
                _exit(EXIT_FAILURE);
        close(netns);
}

static void serve_sockets(int wire, int family) {
        Answer answer = { .family = family };
        int fds[AGENT_SOCKETS];
        size_t n = 0;

        while (n < AGENT_SOCKETS && (fds[n] = divert_open_own(family)) >= 0)
                n++;
        if (!send_fds(wire, &answer, sizeof answer, fds, n))
                _exit(EXIT_FAILURE);
        while (n > 0)
                close(fds[--n]);
}

static _Noreturn void agent_main(int wire, pid_t parent) {
        g_autoptr(GError) error = NULL;
        int keep[1] = { wire }, fds[AGENT_SOCKETS], n;
        Request request;

        bool ok = confine_die_with_parent(parent, &error);
        (void) prctl(PR_SET_NAME, "usbox-net-agent", 0, 0, 0);
        if (!ok || !fd_keep_only(keep, 1))
                _exit(EXIT_FAILURE);
        wire = keep[0];
        while ((n = receive_fds(wire, &request, sizeof request, fds)) >= 0) {
                if (request.op == AGENT_JOIN && n == 1)
                        serve_join(wire, parent, fds[0]);
                else if (request.op == AGENT_MAKE_SOCKETS && n == 0)
                        serve_sockets(wire, request.family == AF_INET6 ? AF_INET6 : AF_INET);
                else if (request.op == AGENT_UNMAP && n == 0)
                        unmap_start();
                else
                        break;
        }
        _exit(EXIT_SUCCESS);
}

/* --- usbox-net ----------------------------------------------------------------------------------------------------- */

int agent_start(GError **error) {
        pid_t parent = getpid();
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
                err_set(error, errno, "socketpair");
                return -1;
        }
        pid_t pid = fork();
        if (pid == 0)
                agent_main(ends[1], parent);
        int saved = errno;
        close(ends[1]);
        if (pid < 0) {
                close(ends[0]);
                err_set(error, saved, "fork the agent");
                return -1;
        }
        return ends[0];
}

bool agent_ask_join(int agent, int netns) {
        const Request request = { .op = AGENT_JOIN };
        return send_fds(agent, &request, sizeof request, &netns, 1);
}

int agent_take_sockets(int agent, int *ret_family, int ret_fds[AGENT_SOCKETS], GError **error) {
        Answer answer;

        int n = receive_fds(agent, &answer, sizeof answer, ret_fds);
        if (n < 0) {
                err_set(error, 0, "the agent has ended");
        } else if (answer.errnum != 0) {
                answer.text[TEXT_MAX - 1] = '\0';
                err_set(error, 0, "the agent has ended: %s", answer.text); /* has the errno's text in it */
                n = -1;
        }
        *ret_family = n >= 0 ? answer.family : AF_UNSPEC;
        return n;
}

bool agent_take_join(int agent, GError **error) {
        int fds[AGENT_SOCKETS], family;
        return agent_take_sockets(agent, &family, fds, error) >= 0;
}

bool agent_ask_sockets(int agent, int family) {
        const Request request = { .op = AGENT_MAKE_SOCKETS, .family = family };
        return send_fds(agent, &request, sizeof request, NULL, 0);
}

bool agent_ask_unmap(int agent) {
        const Request request = { .op = AGENT_UNMAP };
        return send_fds(agent, &request, sizeof request, NULL, 0);
}
