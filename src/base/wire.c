/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The wire: typed messages with descriptors over SOCK_SEQPACKET.
 *
 * Role: every process. Privileges: none needed. Threads: any. What is received is checked here, once: the type
 * is of the table, the body is of its signature and in normal form, the number of fds is right.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"

typedef struct {
        const char *name;
        const char *signature;
        unsigned n_fds;
        const char *sender, *receiver; /* for ARCHITECTURE.md's reader and its test; not checked at run time */
        unsigned more; /* descriptors that there may be beside n_fds */
} WireRow;

static const WireRow wire_table[WIRE_TYPE_MAX] = {
        [WIRE_MAPPED] = { "MAPPED", "()", 0, "launcher", "child" },
        [WIRE_GO] = { "GO", "()", 0, "launcher", "payload" },
        [WIRE_SIGNAL] = { "SIGNAL", "(i)", 0, "launcher", "child" },
        [WIRE_PLAN] = { "PLAN", "()", 0, "launcher", "child" },
        [WIRE_DIRS] = { "DIRS", "()", 0, "launcher", "child" },
        [WIRE_SCOPED] = { "SCOPED", "(s)", 0, "launcher", "child" },
        [WIRE_MOVED] = { "MOVED", "()", 0, "launcher", "payload" },
        [WIRE_RESUME] = { "RESUME", "()", 0, "launcher", "child" },
        [WIRE_FS_FDS] = { "FS_FDS", "()", 4, "child", "launcher" },
        [WIRE_NET_FDS] = { "NET_FDS", "(s)", 2, "payload", "launcher", 4 },
        [WIRE_OUTER] = { "OUTER", "()", 1, "child", "payload" },
        [WIRE_NETNS] = { "NETNS", "()", 1, "payload", "child" },
        [WIRE_UNSHARED] = { "UNSHARED", "()", 0, "payload", "child" },
        [WIRE_PTY] = { "PTY", "()", 1, "child", "launcher" },
        [WIRE_BORN] = { "BORN", "()", 1, "child", "launcher" },
        [WIRE_ROOTED] = { "ROOTED", "()", 2, "child", "launcher" },
        [WIRE_GUARDED] = { "GUARDED", "(u)", 1, "child", "launcher" },
        [WIRE_POD_FDS] = { "POD_FDS", "()", 4, "child", "launcher" },
        [WIRE_STOPPED] = { "STOPPED", "(i)", 0, "child", "launcher" },
        [WIRE_EXITED] = { "EXITED", "(ixxx)", 0, "child", "launcher" },
        [WIRE_NET_CONFIG] = { "NET_CONFIG", "a{sv}", 0, "launcher", "usbox-net" },
        [WIRE_NET_TAP] = { "NET_TAP", "(s)", 2, "launcher", "usbox-net", 4 },
        [WIRE_NET_RESOLVERS] = { "NET_RESOLVERS", "(as)", 0, "launcher", "usbox-net" },
        [WIRE_NET_RULE] = { "NET_RULE", "(ubsa(ss))", 0, "launcher", "usbox-net" },
        [WIRE_NET_FLOWS] = { "NET_FLOWS", "(u)", 1, "launcher", "usbox-net" },
        [WIRE_NET_PUBLISH] = { "NET_PUBLISH", "(ub(ssqsq))", 0, "launcher", "usbox-net" },
        [WIRE_NET_PORTS] = { "NET_PORTS", "(a(ssqsq))", 0, "usbox-net", "launcher" },
        [WIRE_NET_DONE] = { "NET_DONE", "(uss)", 0, "usbox-net", "launcher" },
        [WIRE_NET_DENIED] = { "NET_DENIED", "(ss)", 0, "usbox-net", "launcher" },
        [WIRE_NET_READY] = { "NET_READY", "(a(ssqsq))", 0, "usbox-net", "launcher" },
        [WIRE_FS_CONFIG] = { "FS_CONFIG", "a{sv}", 0, "launcher", "usbox-fs" },
        [WIRE_FS_MOUNT] = { "FS_MOUNT", "()", 4, "launcher", "usbox-fs" },
        [WIRE_FS_READY] = { "FS_READY", "()", 0, "usbox-fs", "launcher" },
        [WIRE_FORKED] = { "FORKED", "(i)", 1, "joiner", "launcher" },
        [WIRE_DETACHED] = { "DETACHED", "(s)", 0, "launcher", "caller" },
        [WIRE_CTL_SIGNAL] = { "CTL_SIGNAL", "(i)", 0, "verb", "launcher" },
        [WIRE_CTL_STOP] = { "CTL_STOP", "(u)", 0, "verb", "launcher" },
        [WIRE_CTL_WAIT] = { "CTL_WAIT", "()", 0, "verb", "launcher" },
        [WIRE_CTL_INSPECT] = { "CTL_INSPECT", "()", 0, "verb", "launcher" },
        [WIRE_CTL_NET_RULE] = { "CTL_NET_RULE", "(bs)", 0, "verb", "launcher" },
        [WIRE_CTL_NET_FLOWS] = { "CTL_NET_FLOWS", "()", 0, "verb", "launcher" },
        [WIRE_CTL_NET_PUBLISH] = { "CTL_NET_PUBLISH", "(bs)", 0, "verb", "launcher" },
        [WIRE_CTL_HELLO] = { "CTL_HELLO", "()", 0, "verb", "launcher" },
        [WIRE_CTL_EXEC] = { "CTL_EXEC", "a{sv}", 3, "verb", "launcher", 1 },
        [WIRE_CTL_EXEC_SIGNAL] = { "CTL_EXEC_SIGNAL", "(i)", 0, "verb", "launcher" },
        [WIRE_CTL_CGROUP] = { "CTL_CGROUP", "()", 0, "verb", "launcher" },
        [WIRE_CTL_UPDATE] = { "CTL_UPDATE", "(a(ss)a(ss))", 0, "verb", "launcher" },
        [WIRE_CTL_POD_JOIN] = { "CTL_POD_JOIN", "(s)", 0, "launcher", "launcher" },
        [WIRE_POD_BOX] = { "POD_BOX", "()", 2, "launcher", "launcher" },
        [WIRE_POD_JOINED] = { "POD_JOINED", "a{sv}", 4, "launcher", "launcher" },
        [WIRE_POD_END] = { "POD_END", "(u)", 0, "launcher", "launcher" },
        [WIRE_CTL_OK] = { "CTL_OK", "()", 0, "launcher", "verb" },
        [WIRE_CTL_TEXT] = { "CTL_TEXT", "()", 1, "launcher", "verb" },
        [WIRE_CTL_PTY] = { "CTL_PTY", "()", 1, "launcher", "verb" },
        [WIRE_CTL_EXITED] = { "CTL_EXITED", "(i)", 0, "launcher", "verb" },
        [WIRE_CTL_FAILED] = { "CTL_FAILED", "(iisss)", 0, "launcher", "verb" },
        [WIRE_NOT_EXECUTED] = { "NOT_EXECUTED", "(i)", 0, "payload", "launcher" },
        [WIRE_SCOPE_CONFIG] = { "SCOPE_CONFIG", "(sa(ss)a(ss)ssbbb)", 0, "launcher", "usbox-scope" },
        [WIRE_SCOPE_JOIN] = { "SCOPE_JOIN", "(auau)", 0, "launcher", "usbox-scope" },
        [WIRE_SCOPE_ADOPT] = { "SCOPE_ADOPT", "(uauaub)", 1, "launcher", "usbox-scope" },
        [WIRE_SCOPE_UPDATE] = { "SCOPE_UPDATE", "(a(ss)a(ss))", 0, "launcher", "usbox-scope" },
        [WIRE_SCOPE_MADE] = { "SCOPE_MADE", "(ss)", 1, "usbox-scope", "launcher" },
        [WIRE_SCOPE_JOINED] = { "SCOPE_JOINED", "(iss)", 0, "usbox-scope", "launcher" },
        [WIRE_SCOPE_UPDATED] = { "SCOPE_UPDATED", "(iss)", 0, "usbox-scope", "launcher" },
        [WIRE_ERROR] = { "ERROR", "(iisss)", 0, "any", "launcher" },
};

static const WireRow *wire_row(uint32_t type) {
        return type < WIRE_TYPE_MAX && wire_table[type].name ? &wire_table[type] : NULL;
}

const char *wire_type_name(WireType type) {
        const WireRow *row = wire_row(type);
        return row ? row->name : "?";
}

const char *wire_type_signature(WireType type) {
        const WireRow *row = wire_row(type);
        return row ? row->signature : NULL;
}

unsigned wire_type_n_fds(WireType type) {
        const WireRow *row = wire_row(type);
        return row ? row->n_fds : 0;
}

unsigned wire_type_more_fds(WireType type) {
        const WireRow *row = wire_row(type);
        return row ? row->more : 0;
}

static bool fds_fit(const WireRow *row, unsigned n_fds) {
        return n_fds >= row->n_fds && n_fds <= row->n_fds + row->more;
}

void wire_message_clear(WireMessage *m) {
        for (unsigned i = 0; i < m->n_fds; i++)
                fd_closep(&m->fds[i]);
        m->n_fds = 0;
        g_clear_pointer(&m->body, g_variant_unref);
}

int wire_message_take_fd(WireMessage *m, unsigned i) {
        return i < m->n_fds ? fd_steal(&m->fds[i]) : -1;
}

bool wire_pair(int ret_fds[2], GError **error) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0)
                return err_set(error, errno, "socketpair");
        return true;
}

bool wire_send(int fd, WireType type, GVariant *body, const int *fds, unsigned n_fds, GError **error) {
        const WireRow *row = wire_row(type);
        g_assert(row && fds_fit(row, n_fds) && n_fds <= WIRE_MAX_FDS);

        g_autoptr(GVariant) held = body ? g_variant_ref_sink(body) : NULL;
        g_assert(held ? g_variant_is_of_type(held, G_VARIANT_TYPE(row->signature)) : g_str_equal(row->signature, "()"));

        uint32_t header = type;
        struct iovec iov[2] = { { .iov_base = &header, .iov_len = sizeof header } };
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 1 };
        if (held) {
                iov[1].iov_len = g_variant_get_size(held);
                iov[1].iov_base = (void *) g_variant_get_data(held);
                msg.msg_iovlen = 2;
                if (iov[1].iov_len > WIRE_MAX_BODY)
                        return err_set(error, EMSGSIZE, "send %s", row->name);
        }

        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
        } control = { 0 };
        if (n_fds > 0)
                fd_attach(&msg, &control, fds, n_fds);

        for (;;) {
                if (sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0)
                        return true;
                /* ECONNRESET says, once, that the peer closed without having read all; the next try says EPIPE. */
                if (errno != EINTR && errno != ECONNRESET)
                        return err_set(error, errno, "send %s", row->name);
        }
}

/* Move the fds of a received packet into m. False if there were more than fit. */
static bool take_control(struct msghdr *msg, WireMessage *m) {
        bool fits = !(msg->msg_flags & MSG_CTRUNC);

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        if (m->n_fds < WIRE_MAX_FDS) {
                                m->fds[m->n_fds++] = fd;
                        } else {
                                close(fd);
                                fits = false;
                        }
                }
        }
        return fits;
}

bool wire_is_full(GError *failure_take, GError **error) {
        if (err_get_errno(failure_take) != EAGAIN) {
                g_propagate_error(error, failure_take);
                return false;
        }
        g_error_free(failure_take);
        return true;
}

int wire_receive(int fd, WireMessage *ret, GError **error) {
        /* On the heap and no larger than the largest message; the body is copied out of it at its own size. */
        g_autofree uint8_t *buf = g_malloc(WIRE_MAX_SIZE);
        struct iovec iov = { .iov_base = buf, .iov_len = WIRE_MAX_SIZE };
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
        } control = { 0 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
        g_auto(WireMessage) m = { 0 };

        /* ECONNRESET says, once, that the peer closed without having read all: what it had sent before is still to come, its
         * error perhaps, and then the end. */
        ssize_t n;
        do
                n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0) {
                err_set(error, errno, "receive");
                return -1;
        }

        bool fits = take_control(&msg, &m);
        if (n == 0)
                return 0;
        if (!fits || (msg.msg_flags & MSG_TRUNC) || (size_t) n < sizeof(uint32_t)) {
                err_set(error, EPROTO, "receive: malformed packet");
                return -1;
        }

        uint32_t type;
        memcpy(&type, buf, sizeof type);
        const WireRow *row = wire_row(type);
        if (!row || !fds_fit(row, m.n_fds)) {
                err_set(error, EPROTO, "receive: type %u with %u descriptors", type, m.n_fds);
                return -1;
        }
        m.type = (WireType) type;

        size_t body_len = (size_t) n - sizeof type;
        if (body_len == 0 && g_str_equal(row->signature, "()")) {
                m.body = g_variant_ref_sink(g_variant_new_tuple(NULL, 0));
        } else {
                g_autoptr(GBytes) bytes = g_bytes_new(buf + sizeof type, body_len);
                m.body = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(row->signature), bytes, false));
                if (!g_variant_is_normal_form(m.body)) {
                        err_set(error, EPROTO, "receive: %s has a malformed body", row->name);
                        return -1;
                }
        }

        *ret = m;
        m = (WireMessage){ 0 };
        return 1;
}

bool wire_expect(int fd, const char *peer, WireType type, WireMessage *ret, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(fd, &m, error);
        if (r < 0) {
                g_prefix_error(error, "%s: ", peer);
                return false;
        }
        if (r == 0)
                return err_set(error, 0, "%s ended before it said %s", peer, wire_type_name(type));
        if (m.type == WIRE_ERROR)
                return wire_error_to_gerror(&m, error);
        if (m.type != type)
                return err_set(error, EPROTO, "%s said %s, not %s", peer, wire_type_name(m.type), wire_type_name(type));

        *ret = m;
        m = (WireMessage){ 0 };
        return true;
}

/*
 * An error must get through, whatever is in it: a name as long as an argument can be would not fit, and GVariant takes no
 * invalid UTF-8. Both ends stay, with the object at the one and the kernel's word at the other.
 */
static char *sendable(const char *text) {
        const size_t half = 2048; /* bytes; three whole texts fit even if each byte of them becomes U+FFFD */
        size_t len = text ? strlen(text) : 0;
        g_autofree char *clipped = len <= 2 * half ? g_strdup(text) : g_strdup_printf("%.*s...%s", (int) half, text, text + len - half);

        return g_utf8_make_valid(clipped ? clipped : "", -1);
}

void wire_send_error_as(int fd, WireType type, const GError *error) {
        g_autofree char *step = sendable(err_get_step(error)), *text = sendable(error->message), *hint = sendable(err_get_hint(error));
        int code = error->domain == USBOX_ERROR ? error->code : USBOX_ERROR_FAILED;

        (void) wire_send(fd, type, g_variant_new("(iisss)", code, err_get_errno(error), step, text, hint), NULL, 0, NULL);
}

void wire_send_error(int fd, const GError *error) {
        wire_send_error_as(fd, WIRE_ERROR, error);
}

bool wire_error_to_gerror(const WireMessage *m, GError **error) {
        int code, errnum;
        const char *step, *text, *hint;
        g_variant_get(m->body, "(ii&s&s&s)", &code, &errnum, &step, &text, &hint);

        if (code < USBOX_ERROR_FAILED || code > USBOX_ERROR_NOT_FOUND)
                code = USBOX_ERROR_FAILED;
        /* errno goes along as a number; its text is in the message already. */
        if (error) {
                err_set_code(error, (UsboxErrorCode) code, 0, "%s", text);
                err_set_errno(*error, errnum);
                if (*step)
                        err_step(error, step);
                if (*hint)
                        err_hint(error, "%s", hint);
        }
        return false;
}
