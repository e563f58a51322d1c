/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server's name in a TLS ClientHello, for --tls-names. Nothing is decrypted: it stands there in the clear.
 *
 * Role: usbox-net. Privileges: none. Threads: any; pure functions. Order: when a connection of the fast path has its first bytes.
 *
 * The bytes are the box's, so each length is held against what is there before it is used. A ClientHello may be cut into records as its sender
 * likes; they are put together first.
 */
#include <glib.h>
#include <string.h>

#include "netstack/packet.h"
#include "netstack/tls.h"

#define RECORD_LEN 5
#define RECORD_HANDSHAKE 22
#define HANDSHAKE_LEN 4
#define HANDSHAKE_CLIENT_HELLO 1
#define EXTENSION_SERVER_NAME 0
#define EXTENSION_ECH 0xfe0d
#define NAME_HOST 0

typedef struct {
        const uint8_t *data;
        size_t len;
} Bytes;

/* Cut n bytes off the front. False: there are not so many. */
static bool take(Bytes *b, size_t n, Bytes *ret) {
        if (b->len < n)
                return false;
        *ret = (Bytes){ b->data, n };
        b->data += n;
        b->len -= n;
        return true;
}

/* Cut off a length of so many bytes (1 or 2), and what is of that length behind it. */
static bool take_vector(Bytes *b, size_t length_bytes, Bytes *ret) {
        Bytes length;

        return take(b, length_bytes, &length) && take(b, length_bytes == 1 ? length.data[0] : packet_get16(length.data), ret);
}

/* The one entry of a server_name list. */
static bool take_name(Bytes extension, char ret[static TLS_NAME_SIZE]) {
        Bytes list, type, name;

        if (!take_vector(&extension, 2, &list) || extension.len > 0 || !take(&list, 1, &type) || type.data[0] != NAME_HOST || !take_vector(&list, 2, &name) ||
            list.len > 0 || name.len == 0 || name.len >= TLS_NAME_SIZE)
                return false;
        for (size_t i = 0; i < name.len; i++)
                if (!g_ascii_isgraph((char) name.data[i]))
                        return false;
        memcpy(ret, name.data, name.len);
        ret[name.len] = '\0';
        return true;
}

static TlsHello read_extensions(Bytes extensions, char ret[static TLS_NAME_SIZE]) {
        TlsHello found = TLS_NONE;

        while (extensions.len > 0) {
                Bytes type, body;
                if (!take(&extensions, 2, &type) || !take_vector(&extensions, 2, &body))
                        return TLS_NOT;
                if (packet_get16(type.data) == EXTENSION_ECH)
                        return TLS_HIDDEN;
                if (packet_get16(type.data) != EXTENSION_SERVER_NAME)
                        continue;
                if (found == TLS_NAME || !take_name(body, ret)) /* two of them: a server may take either */
                        return TLS_NOT;
                found = TLS_NAME;
        }
        return found;
}

static TlsHello read_hello(Bytes hello, char ret[static TLS_NAME_SIZE]) {
        Bytes fixed, session, ciphers, compressions, extensions;

        /* Version and random; without extensions it is of before TLS 1.0's extensions were. */
        if (!take(&hello, 2 + 32, &fixed) || !take_vector(&hello, 1, &session) || !take_vector(&hello, 2, &ciphers) || !take_vector(&hello, 1, &compressions))
                return TLS_NOT;
        if (hello.len == 0)
                return TLS_NONE;
        if (!take_vector(&hello, 2, &extensions) || hello.len > 0)
                return TLS_NOT;
        return read_extensions(extensions, ret);
}

TlsHello tls_client_hello(const uint8_t *data, size_t len, char ret[static TLS_NAME_SIZE]) {
        uint8_t message[TLS_PEEK_MAX];
        Bytes rest = { data, MIN(len, TLS_PEEK_MAX) };
        size_t have = 0, want = HANDSHAKE_LEN;

        while (have < want) {
                Bytes header, body = { 0 };
                if (rest.len > 0 && (rest.data[0] != RECORD_HANDSHAKE || (rest.len > 1 && rest.data[1] != 3)))
                        return TLS_NOT;
                if (!take(&rest, RECORD_LEN, &header))
                        return len < TLS_PEEK_MAX ? TLS_MORE : TLS_NOT;
                size_t length = packet_get16(header.data + 3);
                if (length == 0)
                        return TLS_NOT;
                bool whole = rest.len >= length;
                (void) take(&rest, whole ? length : rest.len, &body);
                memcpy(message + have, body.data, body.len);
                have += body.len;
                if (have >= HANDSHAKE_LEN) {
                        want = HANDSHAKE_LEN + (packet_get32(message) & 0xffffff);
                        if (message[0] != HANDSHAKE_CLIENT_HELLO || want > TLS_PEEK_MAX)
                                return TLS_NOT;
                }
                if (!whole && have < want)
                        return len < TLS_PEEK_MAX ? TLS_MORE : TLS_NOT;
        }
        return read_hello((Bytes){ message + HANDSHAKE_LEN, want - HANDSHAKE_LEN }, ret);
}
