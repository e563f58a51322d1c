/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-net, where that does not read what it is told: somebody has stopped it.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"
#include "net-helper.h"
#include "spec.h"

static const HelperKind kind = { .program = "usbox-net", .step = "network", .lost = "network" };

/* A helper that is nobody, but for the other end of its wire, which is returned; a file whose changes are those of resolv.conf; a name server. */
static int helper_new(Spec *spec, NetHelper *ret, char **ret_file) {
        int ends[2];

        g_assert_true(wire_pair(ends, NULL) && fd_set_nonblock(ends[0], true));
        *ret = NET_HELPER_NONE;
        ret->helper.kind = &kind;
        ret->helper.wire = ends[0];
        ret->spec = spec;
        ret->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        int fd = g_file_open_tmp("usbox-XXXXXX", ret_file, NULL);
        g_assert_true(fd >= 0 && ret->watch >= 0 && inotify_add_watch(ret->watch, *ret_file, IN_CLOSE_WRITE) >= 0);
        close(fd);
        spec->net.dns = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(spec->net.dns, g_strdup("192.0.2.1"));
        return ends[1];
}

static void change(NetHelper *h, const char *file) {
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        close(fd);
        g_autoptr(GError) error = NULL;
        g_assert_true(net_helper_resolvers(h, &error));
        g_assert_no_error(error);
}

/* The messages that are on the wire; the last one's only server. */
static guint drain(int wire, char **ret_last) {
        struct pollfd readable = { .fd = wire, .events = POLLIN };
        guint n = 0;

        for (; poll(&readable, 1, 0) > 0; n++) {
                g_auto(WireMessage) m = { 0 };
                g_assert_cmpint(wire_receive(wire, &m, NULL), ==, 1);
                g_assert_cmpint(m.type, ==, WIRE_NET_RESOLVERS);
                g_autoptr(GVariant) array = g_variant_get_child_value(m.body, 0);
                g_free(*ret_last);
                g_variant_get_child(array, 0, "s", ret_last);
        }
        return n;
}

static void test_resolvers(void) {
        Spec spec = { 0 };
        NetHelper h;
        g_autofree char *file = NULL, *last = NULL;
        _cleanup_close_ int wire = helper_new(&spec, &h, &file);
        guint n = 0;

        g_assert_cmpint(net_helper_events(&h), ==, POLLIN);
        for (; net_helper_events(&h) == POLLIN; n++) {
                g_assert_cmpuint(n, <, 1000000);
                change(&h, file);
        }
        g_ptr_array_set_size(spec.net.dns, 0);
        g_ptr_array_add(spec.net.dns, g_strdup("192.0.2.2"));
        change(&h, file);
        g_assert_cmpint(net_helper_events(&h), ==, POLLIN | POLLOUT);

        /* It goes on: it hears what they are now, once, and nothing more is owed. */
        g_assert_cmpuint(drain(wire, &last), ==, n - 1);
        g_assert_cmpstr(last, ==, "192.0.2.1");
        struct pollfd writable = { .fd = h.helper.wire, .events = net_helper_events(&h) };
        g_assert_cmpint(poll(&writable, 1, 0), ==, 1);
        g_assert_true(net_helper_dispatch(&h, writable.revents, NULL));
        g_assert_cmpint(net_helper_events(&h), ==, POLLIN);
        g_assert_cmpuint(drain(wire, &last), ==, 1);
        g_assert_cmpstr(last, ==, "192.0.2.2");

        unlink(file);
        close(h.watch);
        close(h.helper.wire);
        g_ptr_array_unref(spec.net.dns);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-helper/resolvers", test_resolvers);
        return g_test_run();
}
