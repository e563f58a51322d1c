/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a command line of `usbox run`, its words parted by NUL, up to the finished Spec and its description.
 *
 * Role: tests only. Privileges: none. Threads: one. A refusal must carry an error, and never a control character in it.
 */
#include <string.h>

#include "fuzz.h"
#include "jsontext.h"
#include "spec.h"

#define MAX_WORDS 64

static void assert_printable(const GError *error) {
        g_assert_nonnull(error);
        for (const char *p = error->message; *p; p++)
                g_assert_true((unsigned char) *p >= 0x20 && *p != 0x7f);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *copy = g_malloc(size + 1);
        char *words[MAX_WORDS + 1];
        int n = 0;

        memcpy(copy, data, size);
        copy[size] = '\0';
        for (char *p = copy; p < copy + size && n < MAX_WORDS; p += strlen(p) + 1)
                words[n++] = p;
        words[n] = NULL;

        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) draft = spec_new(&error);
        g_assert_no_error(error);
        int rest = 0;
        if (!option_parse(draft, n, words, &rest, &error)) {
                assert_printable(error);
                return 0;
        }
        g_assert_true(rest >= 0 && rest <= n);
        const Spec *spec = spec_build(draft, words + rest, &error);
        if (!spec) {
                assert_printable(error);
                return 0;
        }
        g_autofree char *shown = spec_describe(spec);
        g_assert_true(g_utf8_validate(shown, -1, NULL));
        g_autofree char *line = jsontext_line(spec_to_json(spec));
        json_t *back = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        g_assert_nonnull(back);
        json_decref(back);
        return 0;
}
