/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a packet from a hostile neighbour on the wire. The first byte says how many descriptors come with it.
 *
 * Role: tests only. Privileges: none. Threads: one. A received message must be of the table, and the descriptors must be gone
 * once it is cleared.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/wire.h"
#include "fuzz.h"
#include "send.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 1 || size > WIRE_MAX_SIZE)
                return 0;

        int pair[2];
        g_assert_true(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        _cleanup_close_ int in = pair[0], out = pair[1];

        if (fuzz_send(out, out, data, size) < 0)
                return 0;

        g_auto(WireMessage) m = { 0 };
        g_autoptr(GError) error = NULL;
        int r = wire_receive(in, &m, &error);
        g_assert_true((r < 0) == (error != NULL));
        if (r > 0) {
                g_assert_true(m.n_fds >= wire_type_n_fds(m.type)); /* of some types there may be more */
                g_assert_true(g_variant_is_of_type(m.body, G_VARIANT_TYPE(wire_type_signature(m.type))));
                if (m.type == WIRE_ERROR) {
                        g_autoptr(GError) carried = NULL;
                        wire_error_to_gerror(&m, &carried);
                        g_assert_nonnull(carried);
                }
        }
        return 0;
}
