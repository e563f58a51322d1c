/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A helper's configuration as it comes over the wire: a dictionary (a{sv}) of keys that both sides know. */

#include <glib.h>
#include <stdbool.h>

typedef struct DictKey {
        const char *name, *type; /* type: a GVariant signature */
} DictKey;

/* What key (an index of the table) has as value, which is of the key's type; false: *error is set. */
typedef bool (*DictApply)(void *data, unsigned key, GVariant *value, GError **error);

/* Apply each entry of dict, in its order, to data. Each key is one of the n (64 at most), of its type, and there once. False, *error set (a usage error
 * that begins with what), at the first that is not, or that apply refuses. */
bool dict_parse(GVariant *dict, const char *what, const DictKey *keys, unsigned n, DictApply apply, void *data, GError **error);
