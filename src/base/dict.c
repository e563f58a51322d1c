/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dictionaries that come over the wire.
 *
 * Role: every process with a configuration. Privileges: none needed. Threads: any. Order: any.
 */
#include "base/dict.h"
#include "base/error.h"

/* Which of the keys that is, or -1. */
static int find_key(const char *what, const DictKey *keys, unsigned n, const char *name, GVariant *value, guint64 *seen, GError **error) {
        g_autofree char *quoted = err_quote(name);
        unsigned key = 0;

        while (key < n && !g_str_equal(keys[key].name, name))
                key++;
        if (key == n)
                err_usage(error, "%s: unknown key \"%s\"", what, quoted);
        else if (*seen & (G_GUINT64_CONSTANT(1) << key))
                err_usage(error, "%s: %s is given twice", what, quoted);
        else if (!g_variant_is_of_type(value, G_VARIANT_TYPE(keys[key].type)))
                err_usage(error, "%s: %s is of type %s, not %s", what, quoted, g_variant_get_type_string(value), keys[key].type);
        else {
                *seen |= G_GUINT64_CONSTANT(1) << key;
                return (int) key;
        }
        return -1;
}

bool dict_parse(GVariant *dict, const char *what, const DictKey *keys, unsigned n, DictApply apply, void *data, GError **error) {
        guint64 seen = 0;
        GVariantIter iter;

        g_assert(n <= 64);
        g_variant_iter_init(&iter, dict);
        for (;;) {
                g_autoptr(GVariant) value = NULL;
                const char *name;

                if (!g_variant_iter_next(&iter, "{&sv}", &name, &value))
                        return true;
                int key = find_key(what, keys, n, name, value, &seen, error);
                if (key < 0 || !apply(data, (unsigned) key, value, error))
                        return false;
        }
}
