/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: the first bytes of a connection, for --tls-names.
 *
 * Role: tests only. Privileges: none. Threads: one. A name is printable; what names one goes on to when more bytes follow; what is none stays none.
 */
#include <string.h>

#include "fuzz.h"
#include "netstack/rules.h"
#include "netstack/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char name[TLS_NAME_SIZE], again[TLS_NAME_SIZE];
        g_autofree uint8_t *copy = g_memdup2(data, size), *more = g_malloc0(size + 16);
        TlsHello hello = tls_client_hello(copy ? copy : data, size, name);

        if (size > 0)
                memcpy(more, data, size);
        if (hello == TLS_NAME) {
                g_assert_true(strlen(name) > 0 && strlen(name) < TLS_NAME_SIZE);
                for (const char *p = name; *p; p++)
                        g_assert_true(g_ascii_isgraph(*p));
                g_autofree char *normal = net_name_normal(name);
        }
        if (hello != TLS_MORE && size + 16 < TLS_PEEK_MAX)
                g_assert_true(tls_client_hello(more, size + 16, again) == hello);
        return 0;
}
