/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: the text of a profile.
 *
 * Role: tests only. Privileges: none. Threads: one. What is accepted has a source, and items that are options.
 */
#include "fuzz.h"
#include "profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *text = g_strndup((const char *) data, size);
        g_autoptr(GError) error = NULL;
        g_autoptr(Profile) profile = profile_parse("fuzz", text, &error);

        g_assert_true((profile == NULL) == (error != NULL));
        for (guint i = 0; profile && i < profile->items->len; i++) {
                const ProfileItem *item = g_ptr_array_index(profile->items, i);
                g_assert_true(item->option && item->value);
        }
        return 0;
}
