/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing JSON.
 *
 * Role: launcher and verbs. Privileges: none needed. Threads: any. Order: below all that prints.
 *
 * By hand and not by jansson: the launcher writes a few flat objects and reads none, and each library it is linked with is
 * time at every start.
 */
#include "jsonout.h"

void jsonout_string(GString *out, const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);

        g_string_append_c(out, '"');
        for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);
                if (c == '"' || c == '\\')
                        g_string_append_printf(out, "\\%c", (char) c);
                else if (c == '\n')
                        g_string_append(out, "\\n");
                else if (c == '\t')
                        g_string_append(out, "\\t");
                else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c < 0x10000 && g_unichar_type(c) == G_UNICODE_FORMAT))
                        g_string_append_printf(out, "\\u%04x", (unsigned) c);
                else
                        g_string_append_unichar(out, c);
        }
        g_string_append_c(out, '"');
}

void jsonout_add_key(GString *out, const char *key) {
        if (out->len > 0 && out->str[out->len - 1] != '{')
                g_string_append_c(out, ',');
        g_string_append_printf(out, "\"%s\":", key);
}

void jsonout_add_string(GString *out, const char *key, const char *value) {
        jsonout_add_key(out, key);
        jsonout_string(out, value);
}

void jsonout_add_int(GString *out, const char *key, gint64 value) {
        jsonout_add_key(out, key);
        g_string_append_printf(out, "%" G_GINT64_FORMAT, value);
}

void jsonout_add_bool(GString *out, const char *key, bool value) {
        jsonout_add_key(out, key);
        g_string_append(out, value ? "true" : "false");
}
