/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server's name in a TLS ClientHello: cut anywhere, in any records; what hides or lacks it; what is none.
 */
#include <string.h>

#include "netstack/packet.h"
#include "netstack/tls.h"

typedef struct {
        uint8_t bytes[TLS_PEEK_MAX + 64];
        size_t len;
} Hello;

static void put(Hello *h, const void *data, size_t len) {
        memcpy(h->bytes + h->len, data, len);
        h->len += len;
}

static void put16(Hello *h, unsigned v) {
        packet_put16(h->bytes + h->len, v);
        h->len += 2;
}

static void put_extension(Hello *h, unsigned type, const void *data, size_t len) {
        put16(h, type);
        put16(h, (unsigned) len);
        put(h, data, len);
}

static void put_server_name(Hello *h, const char *name) {
        Hello body = { 0 };
        put16(&body, (unsigned) strlen(name) + 3);
        put(&body, "\0", 1);
        put16(&body, (unsigned) strlen(name));
        put(&body, name, strlen(name));
        put_extension(h, 0, body.bytes, body.len);
}

/* The handshake message with these extensions, in records of at most so many bytes. */
static void make(const Hello *extensions, size_t record, Hello *ret) {
        g_autofree Hello *message = g_new0(Hello, 1);
        put(message, "\1\0\0\0\3\3", 6);
        message->len += 32;
        put(message, "\4sess", 5);
        put(message, "\0\4\x13\1\x13\2", 6);
        put(message, "\1\0", 2);
        put16(message, (unsigned) extensions->len);
        put(message, extensions->bytes, extensions->len);
        packet_put16(message->bytes + 2, (unsigned) message->len - 4);
        ret->len = 0;
        for (size_t at = 0; at < message->len; at += record) {
                size_t n = MIN(record, message->len - at);
                put(ret, "\x16\3\1", 3);
                put16(ret, (unsigned) n);
                put(ret, message->bytes + at, n);
        }
}

static TlsHello look(const Hello *h, size_t len, char name[static TLS_NAME_SIZE]) {
        /* A copy of its very size, so that a read beyond it is seen by the sanitizer. */
        g_autofree uint8_t *copy = g_memdup2(h->bytes, MAX(len, 1));
        return tls_client_hello(copy, len, name);
}

static void test_name(void) {
        static const size_t records[] = { 1, 3, 50, 16384 };
        g_autofree Hello *extensions = g_new0(Hello, 1), *h = g_new0(Hello, 1);
        char name[TLS_NAME_SIZE];

        put_extension(extensions, 43, "\2\3\4", 3);
        put_server_name(extensions, "www.Example.org");
        put_extension(extensions, 16, "\0\3\2h2", 5);
        for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
                make(extensions, records[i], h);
                for (size_t len = 0; len < h->len; len++)
                        g_assert_cmpint(look(h, len, name), ==, TLS_MORE);
                g_assert_cmpint(look(h, h->len, name), ==, TLS_NAME);
                g_assert_cmpstr(name, ==, "www.Example.org");
                h->len += 5; /* what follows is not looked at */
                g_assert_cmpint(look(h, h->len, name), ==, TLS_NAME);
        }
}

static TlsHello judge(const Hello *extensions) {
        g_autofree Hello *h = g_new0(Hello, 1);
        char name[TLS_NAME_SIZE];

        make(extensions, 16384, h);
        return look(h, h->len, name);
}

static void test_no_name(void) {
        g_autofree Hello *none = g_new0(Hello, 1), *hidden = g_new0(Hello, 1), *twice = g_new0(Hello, 1), *cut = g_new0(Hello, 1), *odd = g_new0(Hello, 1);

        put_extension(none, 43, "\2\3\4", 3);
        g_assert_cmpint(judge(none), ==, TLS_NONE);
        put_server_name(hidden, "public.example");
        put_extension(hidden, 0xfe0d, "\0x", 2);
        g_assert_cmpint(judge(hidden), ==, TLS_HIDDEN);
        put_server_name(twice, "a.example");
        put_server_name(twice, "b.example");
        g_assert_cmpint(judge(twice), ==, TLS_NOT);
        put_server_name(cut, "a.example");
        cut->bytes[3]++; /* longer than what is there */
        g_assert_cmpint(judge(cut), ==, TLS_NOT);
        put_server_name(odd, "a b.example");
        g_assert_cmpint(judge(odd), ==, TLS_NOT);
}

static void test_not(void) {
        static const char *const others[] = { "GET / HTTP/1.1\r\n", "SSH-2.0-OpenSSH\r\n", "\x15\3\1\0\2\2\x28", "\x16\2\1\0\4",
                                              "\x16\3\1\0\4\2xxx", "\x80\x2e\1\3\1" };
        char name[TLS_NAME_SIZE];

        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
                size_t len = i < 2 ? strlen(others[i]) : i == 2 ? 7 : i == 4 ? 9 : 5;
                g_assert_cmpint(tls_client_hello((const uint8_t *) others[i], len, name), ==, TLS_NOT);
        }
        g_assert_cmpint(tls_client_hello((const uint8_t *) "\x16\3\1\0\0", 5, name), ==, TLS_NOT); /* an empty record */
        g_assert_cmpint(tls_client_hello((const uint8_t *) "\x16\3\1\0\4\1\xff\xff\xff", 9, name), ==, TLS_NOT); /* 16 MiB */
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-tls/name", test_name);
        g_test_add_func("/net-tls/no-name", test_no_name);
        g_test_add_func("/net-tls/not", test_not);
        return g_test_run();
}
