/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TLS_NAME_SIZE 256

/* So many bytes of a connection are looked at, at most: what does not say its name within them does not say it. */
#define TLS_PEEK_MAX 16384

typedef enum {
        TLS_MORE,   /* it may become one: there are more bytes to come */
        TLS_NAME,   /* a ClientHello that names a server */
        TLS_NONE,   /* one that names none */
        TLS_HIDDEN, /* one with an encrypted part (ECH): whatever it names is not where it goes */
        TLS_NOT,    /* something else, or malformed */
} TlsHello;

/* Whom do the first bytes of a connection ask for (RFC 8446 4.1.2, RFC 6066 3)? With TLS_NAME, ret is that: printable ASCII. Pure. */
TlsHello tls_client_hello(const uint8_t *data, size_t len, char ret[static TLS_NAME_SIZE]);
