/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File names in JSON that is written.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any. Order: under journal.c and diff.c.
 */
#include "fsoverlay/jsonbytes.h"

static void append_unit(GString *out, guint32 unit) {
        static const char digits[] = "0123456789abcdef";
        const char text[6] = { '\\', 'u', digits[unit >> 12 & 15], digits[unit >> 8 & 15], digits[unit >> 4 & 15], digits[unit & 15] };
        g_string_append_len(out, text, sizeof text);
}

static void append_ascii(GString *out, char c) {
        switch (c) {
        case '"':
        case '\\':
                g_string_append_c(out, '\\');
                g_string_append_c(out, c);
                break;
        case '\n':
                g_string_append(out, "\\n");
                break;
        case '\t':
                g_string_append(out, "\\t");
                break;
        case '\r':
                g_string_append(out, "\\r");
                break;
        default:
                if ((unsigned char) c < 0x20 || c == 0x7f)
                        append_unit(out, (unsigned char) c);
                else
                        g_string_append_c(out, c);
        }
}

void jsonbytes_append(GString *out, const char *bytes) {
        g_string_append_c(out, '"');
        for (const char *p = bytes; *p;) {
                if (!(*p & 0x80)) {
                        append_ascii(out, *p++);
                        continue;
                }
                gunichar c = g_utf8_get_char_validated(p, -1);
                if (c >= 0x80000000u) { /* invalid, or cut off by the end */
                        append_unit(out, 0xdc00u | (unsigned char) *p++);
                        continue;
                }
                if (c >= 0x10000) {
                        append_unit(out, 0xd800u + ((c - 0x10000) >> 10));
                        append_unit(out, 0xdc00u + ((c - 0x10000) & 0x3ff));
                } else
                        append_unit(out, c);
                p = g_utf8_next_char(p);
        }
        g_string_append_c(out, '"');
}
