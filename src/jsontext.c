/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * JSON that is written: text from outside in, a line out.
 *
 * Role: launcher and verbs. Privileges: none needed. Threads: any. Order: below all that prints.
 */
#include <stdlib.h>

#include "jsontext.h"

json_t *jsontext_string(const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        return json_string(valid);
}

json_t *jsontext_list(const char *const *texts) {
        json_t *list = json_array();

        for (; *texts; texts++)
                json_array_append_new(list, jsontext_string(*texts));
        return list;
}

static char *dump(json_t *value_take, size_t flags) {
        char *text = json_dumps(value_take, flags | JSON_ENSURE_ASCII);

        if (!text) /* as GLib does; nothing else can go wrong with values that were made here */
                g_error("no memory for a line of JSON");
        char *line = g_strconcat(text, "\n", NULL);
        free(text);
        json_decref(value_take);
        return line;
}

char *jsontext_line(json_t *value_take) {
        return dump(value_take, JSON_COMPACT);
}

char *jsontext_pretty(json_t *value_take) {
        return dump(value_take, JSON_INDENT(2));
}
