/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Typed reading of JSON.
 *
 * Role: usbox-seccomp. Privileges: none. Threads: one. Order: used by policy.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "json.h"

static bool wrong_type(const char *place, const char *key, const char *wanted, GError **error) {
        return err_set(error, 0, "%s%s%s: not %s", place, *place ? "." : "", key, wanted);
}

static json_t *get(json_t *object, const char *key) {
        json_t *value = json_object_get(object, key);
        return json_is_null(value) ? NULL : value;
}

bool json_expect_object(json_t *value, const char *place, const char *const *keys, GError **error) {
        if (!json_is_object(value))
                return err_set(error, 0, "%s: not an object", *place ? place : "top level");

        /* A misspelt key could make a rule wider than it was meant: nothing is passed over. */
        const char *key;
        json_t *unused;
        json_object_foreach(value, key, unused) {
                if (g_strv_contains(keys, key))
                        continue;
                g_autofree char *quoted = err_quote(key);
                return err_set(error, 0, "%s: unknown key \"%.64s\"", *place ? place : "top level", quoted);
        }
        return true;
}

bool json_get_list(json_t *object, const char *place, const char *key, json_t **ret, GError **error) {
        json_t *value = get(object, key);
        if (!value)
                return true;
        if (!json_is_array(value))
                return wrong_type(place, key, "a list", error);
        *ret = value;
        return true;
}

bool json_get_string(json_t *object, const char *place, const char *key, const char **ret, GError **error) {
        json_t *value = get(object, key);
        if (!value)
                return true;
        if (!json_is_string(value))
                return wrong_type(place, key, "a string", error);
        *ret = json_string_value(value);
        return true;
}

bool json_get_strings(json_t *object, const char *place, const char *key, GPtrArray *ret, GError **error) {
        json_t *list = NULL, *item;
        size_t i;
        if (!json_get_list(object, place, key, &list, error))
                return false;
        json_array_foreach(list, i, item) {
                if (!json_is_string(item))
                        return wrong_type(place, key, "a list of strings", error);
                g_ptr_array_add(ret, g_strdup(json_string_value(item)));
        }
        return true;
}

bool json_get_u64(json_t *object, const char *place, const char *key, uint64_t max, uint64_t *ret, bool *ret_given,
                  GError **error) {
        json_t *value = get(object, key);
        uint64_t number;

        if (ret_given)
                *ret_given = value != NULL;
        if (!value)
                return true;

        if (json_is_integer(value) && json_integer_value(value) >= 0) {
                number = (uint64_t) json_integer_value(value);
        } else if (json_is_string(value) && g_ascii_isdigit(json_string_value(value)[0])) {
                char *end;
                errno = 0;
                number = strtoull(json_string_value(value), &end, 0);
                if (errno != 0 || *end)
                        return wrong_type(place, key, "a number", error);
        } else {
                return wrong_type(place, key, "a number from 0 up", error);
        }
        if (number > max)
                return err_set(error, 0, "%s%s%s: more than %" PRIu64, place, *place ? "." : "", key, max);
        *ret = number;
        return true;
}
