/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of the wire: every type there and back, every kind of packet that must not be taken, and that descriptors never stay open.
 *
 * Role: test program. Privileges: none. Threads: one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"

#define FDS_MAX 16

typedef struct {
        int ends[2];
        unsigned open_before; /* descriptors of this process, the pair included */
} Wire;

static unsigned count_open(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;
        g_assert_nonnull(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static void set_up(Wire *w, gconstpointer data) {
        g_autoptr(GError) error = NULL;
        g_assert_true(wire_pair(w->ends, &error));
        w->open_before = count_open();
}

static void tear_down(Wire *w, gconstpointer data) {
        g_assert_cmpuint(count_open(), ==, w->open_before);
        close(w->ends[0]);
        close(w->ends[1]);
}

/* A packet as it is, past wire_send()'s own checks. */
static void send_raw(int fd, const void *data, size_t len, unsigned n_fds) {
        struct iovec iov = { .iov_base = (void *) data, .iov_len = len };
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        } control = { 0 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (n_fds > 0) {
                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
                *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * n_fds) };
                for (unsigned i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof null, &null, sizeof null);
        }
        g_assert_cmpint(sendmsg(fd, &msg, MSG_NOSIGNAL), ==, (gssize) len);
        close(null);
}

/* u32 type and body in one buffer. */
static void send_typed(int fd, uint32_t type, const void *body, size_t len, unsigned n_fds) {
        g_autofree char *packet = g_malloc(sizeof type + len);
        memcpy(packet, &type, sizeof type);
        if (len > 0)
                memcpy(packet + sizeof type, body, len);
        send_raw(fd, packet, sizeof type + len, n_fds);
}

/* Refused with EPROTO; ret untouched; what came with it is closed (tear_down() counts). */
static void assert_not_taken(Wire *w, const char *needle) {
        WireMessage m = { .type = WIRE_TYPE_MAX };
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(wire_receive(w->ends[1], &m, &error), ==, -1);
        g_assert_cmpint(err_get_errno(error), ==, EPROTO);
        if (!strstr(error->message, needle))
                g_error("\"%s\" is not in: %s", needle, error->message);
        g_assert_cmpint(m.type, ==, WIRE_TYPE_MAX);
        g_assert_null(m.body);
        g_assert_cmpuint(m.n_fds, ==, 0);
        g_assert_cmpuint(count_open(), ==, w->open_before);
}

static GVariant *sample_body(WireType type) {
        const char *signature = wire_type_signature(type);
        if (g_str_equal(signature, "(i)"))
                return g_variant_new("(i)", -7);
        if (g_str_equal(signature, "(s)"))
                return g_variant_new("(s)", "text");
        if (g_str_equal(signature, "(u)"))
                return g_variant_new("(u)", 7);
        if (g_str_equal(signature, "(iisss)"))
                return g_variant_new("(iisss)", 2, 13, "mount", "ä text", "");
        if (g_str_equal(signature, "a{sv}"))
                return g_variant_new_parsed("{'mtu': <uint16 1500>, 'publish': <@a(ssqsq) []>}");
        if (g_str_equal(signature, "(a(ssqsq))"))
                return g_variant_new_parsed("([('tcp', '', uint16 80, '', uint16 8080)],)");
        if (g_str_equal(signature, "(ub(ssqsq))"))
                return g_variant_new_parsed("(uint32 7, true, ('tcp', '', uint16 80, '', uint16 8080))");
        if (g_str_equal(signature, "(bs)"))
                return g_variant_new_parsed("(true, '192.0.2.0/24')");
        if (g_str_equal(signature, "(as)"))
                return g_variant_new_parsed("(['192.0.2.53', 'fe80::1%2'],)");
        if (g_str_equal(signature, "(ubsa(ss))"))
                return g_variant_new_parsed("(uint32 7, false, 'ads.example.org:443/tcp', [('intra.example', '10.1.2.3')])");
        if (g_str_equal(signature, "(u)"))
                return g_variant_new_parsed("(uint32 7,)");
        if (g_str_equal(signature, "(uss)"))
                return g_variant_new_parsed("(uint32 7, 'text', 'hint')");
        if (g_str_equal(signature, "(ss)"))
                return g_variant_new_parsed("('192.0.2.1:80/tcp', '--allow 192.0.2.1:80')");
        if (g_str_equal(signature, "(s)"))
                return g_variant_new("(s)", "/sys/fs/cgroup/x");
        if (g_str_equal(signature, "(iss)"))
                return g_variant_new("(iss)", 0, "", "");
        if (g_str_equal(signature, "(ixxx)"))
                return g_variant_new("(ixxx)", 9, (gint64) 1500000, (gint64) 20000, (gint64) 4096);
        if (g_str_equal(signature, "(uauaub)"))
                return g_variant_new_parsed("(uint32 7, [uint32 1, 2], [uint32 3], true)");
        if (g_str_equal(signature, "(auau)"))
                return g_variant_new_parsed("([uint32 1, 2], [uint32 3])");
        if (g_str_equal(signature, "(a(ss)a(ss))"))
                return g_variant_new_parsed("([('memory.max', '1')], @a(ss) [])");
        if (g_str_equal(signature, "(sa(ss)a(ss)ssbbb)"))
                return g_variant_new_parsed("('0a', [('memory.max', '1')], @a(ss) [], '/run', '', true, false, false)");
        g_assert_cmpstr(signature, ==, "()");
        return NULL;
}

static void test_every_type(Wire *w, gconstpointer data) {
        unsigned n = 0;

        for (unsigned type = 0; type < WIRE_TYPE_MAX; type++) {
                if (!wire_type_signature((WireType) type))
                        continue;
                n++;
                g_autoptr(GError) error = NULL;
                g_auto(WireMessage) m = { 0 };
                g_autoptr(GVariant) body = sample_body((WireType) type);
                if (body)
                        g_variant_ref_sink(body);
                unsigned n_fds = wire_type_n_fds((WireType) type) + wire_type_more_fds((WireType) type);
                int fds[WIRE_MAX_FDS], pipes[WIRE_MAX_FDS][2];
                for (unsigned i = 0; i < n_fds; i++) {
                        g_assert_cmpint(pipe2(pipes[i], O_CLOEXEC), ==, 0);
                        fds[i] = pipes[i][1];
                }
                g_assert_true(wire_send(w->ends[0], (WireType) type, body, fds, n_fds, &error));
                g_assert_cmpint(wire_receive(w->ends[1], &m, &error), ==, 1);
                g_assert_no_error(error);
                g_assert_cmpint(m.type, ==, type);
                g_assert_cmpuint(m.n_fds, ==, n_fds);
                if (body)
                        g_assert_true(g_variant_equal(m.body, body));
                else
                        g_assert_cmpuint(g_variant_n_children(m.body), ==, 0);
                /* in the order in which they were sent, and not for the programs that are started */
                for (unsigned i = 0; i < n_fds; i++) {
                        char byte = (char) ('a' + i), got = 0;
                        g_assert_true(fcntl(m.fds[i], F_GETFD) & FD_CLOEXEC);
                        g_assert_cmpint(write(m.fds[i], &byte, 1), ==, 1);
                        g_assert_cmpint(read(pipes[i][0], &got, 1), ==, 1);
                        g_assert_cmpint(got, ==, byte);
                        close(pipes[i][0]);
                        close(pipes[i][1]);
                }
        }
        g_assert_cmpuint(n, ==, WIRE_TYPE_MAX - 1);
        g_assert_cmpstr(wire_type_name((WireType) 0), ==, "?");
        g_assert_cmpstr(wire_type_name(WIRE_TYPE_MAX), ==, "?");
}

static void test_short_packets(Wire *w, gconstpointer data) {
        for (size_t len = 1; len < sizeof(uint32_t); len++) {
                send_raw(w->ends[0], "\1\0\0", len, 0);
                assert_not_taken(w, "malformed packet");
                send_raw(w->ends[0], "\1\0\0", len, 2);
                assert_not_taken(w, "malformed packet");
        }
}

static void test_unknown_types(Wire *w, gconstpointer data) {
        static const uint32_t types[] = { 0, WIRE_TYPE_MAX, WIRE_TYPE_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff, WIRE_GO << 8, WIRE_GO << 24 };
        for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
                send_typed(w->ends[0], types[i], NULL, 0, 0);
                assert_not_taken(w, "receive: type ");
        }
}

/* Each type with each number of descriptors but its own; more than fit as well. */
static void test_wrong_descriptors(Wire *w, gconstpointer data) {
        for (unsigned type = 1; type < WIRE_TYPE_MAX; type++)
                for (unsigned n_fds = 0; n_fds <= FDS_MAX; n_fds++) {
                        g_autoptr(GVariant) body = sample_body((WireType) type);
                        unsigned least = wire_type_n_fds((WireType) type);
                        if (n_fds >= least && n_fds <= least + wire_type_more_fds((WireType) type))
                                continue;
                        if (body)
                                g_variant_ref_sink(body);
                        send_typed(w->ends[0], type, body ? g_variant_get_data(body) : NULL, body ? g_variant_get_size(body) : 0, n_fds);
                        assert_not_taken(w, n_fds > WIRE_MAX_FDS ? "malformed packet" : "descriptors");
                }
}

static void test_wrong_bodies(Wire *w, gconstpointer data) {
        static const struct {
                WireType type;
                const char *body;
                size_t len;
        } rows[] = {
                { WIRE_GO, "x", 1 }, /* "()" as GVariant has it is one byte, 0 */
                { WIRE_GO, "\0\0", 2 },
                { WIRE_SIGNAL, NULL, 0 },
                { WIRE_SIGNAL, "\0\0\0", 3 },
                { WIRE_SIGNAL, "\0\0\0\0\0", 5 },
                { WIRE_SIGNAL, "\0\0\0\0\0\0\0\0", 8 },
                { WIRE_ERROR, NULL, 0 },
                { WIRE_ERROR, "\0\0\0\0\0\0\0\0", 8 },
                { WIRE_ERROR, "\0\0\0\0\0\0\0\0a\0b\0c\0\xff\xff", 16 },
                { WIRE_ERROR, "\0\0\0\0\0\0\0\0\xff\0b\0c\0\x0c\x0a", 16 },       /* not UTF-8 */
                { WIRE_ERROR, "\0\0\0\0\0\0\0\0abcdef\x0c\x0a", 16 },             /* texts without an end */
                { WIRE_ERROR, "\0\0\0\0\0\0\0\0a\0b\0c\0\x0a\x0c", 16 },          /* ends that run backwards */
                { WIRE_NET_CONFIG, "x", 1 },
                { WIRE_NET_CONFIG, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16 },
                { WIRE_NET_READY, "\xff\xff\xff\xff", 4 },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                send_typed(w->ends[0], rows[i].type, rows[i].body, rows[i].len, 0);
                assert_not_taken(w, "malformed body");
        }
}

/* Every body that is one byte or one bit away from a good one is refused, or is a good one of the same type again. */
static void test_bent_bodies(Wire *w, gconstpointer data) {
        for (unsigned type = 1; type < WIRE_TYPE_MAX; type++) {
                g_autoptr(GVariant) body = sample_body((WireType) type);
                if (!body || wire_type_n_fds((WireType) type) > 0)
                        continue;
                g_variant_ref_sink(body);
                size_t size = g_variant_get_size(body);
                g_autofree char *bytes = g_memdup2(g_variant_get_data(body), size);
                for (size_t at = 0; at <= size * 8; at++) {
                        g_auto(WireMessage) m = { 0 };
                        g_autoptr(GError) error = NULL;
                        if (at < size * 8)
                                bytes[at / 8] = (char) (bytes[at / 8] ^ (1 << at % 8));
                        send_typed(w->ends[0], type, bytes, at < size * 8 ? size : size - 1, 0);
                        if (at < size * 8)
                                bytes[at / 8] = (char) (bytes[at / 8] ^ (1 << at % 8));
                        int r = wire_receive(w->ends[1], &m, &error);
                        g_assert_cmpint(r, !=, 0);
                        g_assert_true(r == 1 ? g_variant_is_of_type(m.body, G_VARIANT_TYPE(wire_type_signature((WireType) type)))
                                             : err_get_errno(error) == EPROTO);
                }
        }
}

static void test_sizes(Wire *w, gconstpointer data) {
        g_autofree char *large = g_malloc0(WIRE_MAX_SIZE + 1);
        g_autoptr(GError) error = NULL;

        memcpy(large, &(uint32_t){ WIRE_GO }, sizeof(uint32_t));
        send_raw(w->ends[0], large, WIRE_MAX_SIZE + 1, 0);
        assert_not_taken(w, "malformed packet");
        send_raw(w->ends[0], large, WIRE_MAX_SIZE, 0);
        assert_not_taken(w, "malformed body");

        /* what does not fit is not sent; the largest that does comes whole */
        g_autofree char *text = g_strnfill(WIRE_MAX_SIZE, 'x');
        g_assert_false(wire_send(w->ends[0], WIRE_ERROR, g_variant_new("(iisss)", 0, 0, "", text, ""), NULL, 0, &error));
        g_assert_cmpint(err_get_errno(error), ==, EMSGSIZE);
        text[WIRE_MAX_SIZE - 64] = '\0';
        g_auto(WireMessage) m = { 0 };
        g_assert_true(wire_send(w->ends[0], WIRE_ERROR, g_variant_new("(iisss)", 0, 0, "", text, ""), NULL, 0, NULL));
        g_assert_cmpint(wire_receive(w->ends[1], &m, NULL), ==, 1);
        const char *got;
        g_variant_get_child(m.body, 3, "&s", &got);
        g_assert_cmpstr(got, ==, text);
}

/* No packet is the end; one without bytes is taken for it, and gives no descriptor away. */
static void test_ends(Wire *w, gconstpointer data) {
        WireMessage m = { 0 };
        g_autoptr(GError) error = NULL;
        int pair[2];

        g_assert_true(fd_set_nonblock(w->ends[1], true));
        g_assert_cmpint(wire_receive(w->ends[1], &m, &error), ==, -1);
        g_assert_cmpint(err_get_errno(error), ==, EAGAIN);
        send_raw(w->ends[0], "", 0, 3);
        g_assert_cmpint(wire_receive(w->ends[1], &m, NULL), ==, 0);
        g_assert_cmpuint(m.n_fds, ==, 0);

        g_assert_true(wire_pair(pair, NULL));
        g_assert_true(wire_send(pair[0], WIRE_GO, NULL, NULL, 0, NULL));
        g_assert_true(wire_send(pair[1], WIRE_RESUME, NULL, NULL, 0, NULL));
        close(pair[0]); /* with a packet that it never read: ECONNRESET at the other end */
        g_assert_cmpint(wire_receive(pair[1], &m, NULL), ==, 1);
        g_assert_cmpint(m.type, ==, WIRE_GO);
        wire_message_clear(&m);
        g_assert_cmpint(wire_receive(pair[1], &m, NULL), ==, 0);
        g_clear_error(&error);
        g_assert_false(wire_send(pair[1], WIRE_GO, NULL, NULL, 0, &error)); /* EPIPE and no signal */
        g_assert_cmpint(err_get_errno(error), ==, EPIPE);
        close(pair[1]);
}

/* Packets wait in a queue: a bad one takes no other with it. */
static void test_after_a_bad_one(Wire *w, gconstpointer data) {
        g_auto(WireMessage) m = { 0 };

        send_typed(w->ends[0], 77, "rubbish", 7, 1);
        g_assert_true(wire_send(w->ends[0], WIRE_SIGNAL, g_variant_new("(i)", 15), NULL, 0, NULL));
        assert_not_taken(w, "type 77 with 1 descriptors");
        g_assert_cmpint(wire_receive(w->ends[1], &m, NULL), ==, 1);
        g_assert_cmpint(m.type, ==, WIRE_SIGNAL);
}

static void test_take_fd(Wire *w, gconstpointer data) {
        WireMessage m = { 0 };

        send_typed(w->ends[0], WIRE_ROOTED, NULL, 0, 2);
        g_assert_cmpint(wire_receive(w->ends[1], &m, NULL), ==, 1);
        int taken = wire_message_take_fd(&m, 1);
        g_assert_cmpint(taken, >=, 0);
        g_assert_cmpint(wire_message_take_fd(&m, 1), ==, -1);
        g_assert_cmpint(wire_message_take_fd(&m, 2), ==, -1);
        wire_message_clear(&m);
        g_assert_cmpint(fcntl(taken, F_GETFD), >=, 0);
        close(taken);
}

static void test_expect(Wire *w, gconstpointer data) {
        g_auto(WireMessage) m = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(wire_send(w->ends[0], WIRE_GO, NULL, NULL, 0, NULL));
        g_assert_true(wire_expect(w->ends[1], "launcher", WIRE_GO, &m, &error));
        wire_message_clear(&m);

        send_typed(w->ends[0], WIRE_ROOTED, NULL, 0, 2); /* of another type: its descriptor goes with it */
        g_assert_false(wire_expect(w->ends[1], "launcher", WIRE_GO, &m, &error));
        g_assert_cmpstr(error->message, ==, "launcher said ROOTED, not GO: Protocol error");
        g_clear_error(&error);

        send_raw(w->ends[0], "x", 1, 0);
        g_assert_false(wire_expect(w->ends[1], "launcher", WIRE_GO, &m, &error));
        g_assert_true(g_str_has_prefix(error->message, "launcher: receive: "));
        g_clear_error(&error);

        send_raw(w->ends[0], "", 0, 0);
        g_assert_false(wire_expect(w->ends[1], "launcher", WIRE_GO, &m, &error));
        g_assert_cmpstr(error->message, ==, "launcher ended before it said GO");
}

/* Sends, receives, gives it back as *error. */
static void pass_error(Wire *w, const GError *sent, GError **error) {
        g_auto(WireMessage) m = { 0 };
        wire_send_error(w->ends[0], sent);
        g_assert_false(wire_expect(w->ends[1], "child", WIRE_GO, &m, error));
}

static void test_errors(Wire *w, gconstpointer data) {
        g_autoptr(GError) sent = NULL, got = NULL, bare = NULL, foreign = NULL, strange = NULL;

        err_set_code(&sent, USBOX_ERROR_NOT_EXEC, EACCES, "run %s", "x");
        err_step(&sent, "exec");
        err_hint(&sent, "chmod");
        pass_error(w, sent, &got);
        g_assert_error(got, USBOX_ERROR, USBOX_ERROR_NOT_EXEC);
        g_assert_cmpstr(got->message, ==, sent->message);
        g_assert_cmpstr(err_get_step(got), ==, "exec");
        g_assert_cmpstr(err_get_hint(got), ==, "chmod");
        g_assert_cmpint(err_get_errno(got), ==, EACCES);

        g_clear_error(&sent);
        err_set(&sent, 0, "no more than %s", "this");
        pass_error(w, sent, &bare);
        g_assert_null(err_get_step(bare));
        g_assert_null(err_get_hint(bare));
        g_assert_cmpint(err_get_errno(bare), ==, 0);

        g_clear_error(&sent);
        g_set_error(&sent, G_FILE_ERROR, G_FILE_ERROR_NOENT, "GLib's %%s");
        pass_error(w, sent, &foreign);
        g_assert_error(foreign, USBOX_ERROR, USBOX_ERROR_FAILED);
        g_assert_cmpstr(foreign->message, ==, "GLib's %s");

        g_assert_true(wire_send(w->ends[0], WIRE_ERROR, g_variant_new("(iisss)", 4711, -1, "", "", ""), NULL, 0, NULL));
        g_auto(WireMessage) m = { 0 };
        g_assert_false(wire_expect(w->ends[1], "child", WIRE_GO, &m, &strange));
        g_assert_error(strange, USBOX_ERROR, USBOX_ERROR_FAILED);
}

/* An error is never lost for what is in it: a name of any length, bytes that are no text. */
static void test_error_texts(Wire *w, gconstpointer data) {
        g_autofree char *name = g_strnfill(200000, 'x'), *rubbish = g_strnfill(200000, '\xff');
        g_autoptr(GError) sent = NULL, got = NULL;

        err_set(&sent, ENAMETOOLONG, "start %s", name);
        err_hint(&sent, "%s", rubbish);
        err_step(&sent, rubbish);
        pass_error(w, sent, &got);
        g_assert_true(g_str_has_prefix(got->message, "start xxx"));
        g_assert_true(g_str_has_suffix(got->message, "xxx: File name too long"));
        g_assert_cmpuint(strlen(got->message), <, 5000);
        g_assert_true(g_utf8_validate(err_get_hint(got), -1, NULL));
        g_assert_cmpint(err_get_errno(got), ==, ENAMETOOLONG);
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                void (*test)(Wire *w, gconstpointer data);
        } tests[] = {
                { "/wire/every-type", test_every_type },
                { "/wire/short-packets", test_short_packets },
                { "/wire/unknown-types", test_unknown_types },
                { "/wire/wrong-descriptors", test_wrong_descriptors },
                { "/wire/wrong-bodies", test_wrong_bodies },
                { "/wire/bent-bodies", test_bent_bodies },
                { "/wire/sizes", test_sizes },
                { "/wire/ends", test_ends },
                { "/wire/after-a-bad-one", test_after_a_bad_one },
                { "/wire/take-fd", test_take_fd },
                { "/wire/expect", test_expect },
                { "/wire/errors", test_errors },
                { "/wire/error-texts", test_error_texts },
        };
        g_test_init(&argc, &argv, NULL);
        for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
                g_test_add(tests[i].name, Wire, NULL, set_up, tests[i].test, tear_down);
        return g_test_run();
}
