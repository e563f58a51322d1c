/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Typed reading of a JSON tree that nobody has checked. place is where the value stands in the file ("syscalls[3]"),
 * for the message: jansson keeps no line numbers once it has parsed. A key that is absent or null leaves *ret as it
 * was and is no error, unless said otherwise.
 */

/* value must be an object with no other keys than these (NULL-terminated). */
bool json_expect_object(json_t *value, const char *place, const char *const *keys, GError **error);

/* A list (*ret borrowed), a string (borrowed), a list of strings (*ret, which the caller owns, is added to). */
bool json_get_list(json_t *object, const char *place, const char *key, json_t **ret, GError **error);
bool json_get_string(json_t *object, const char *place, const char *key, const char **ret, GError **error);
bool json_get_strings(json_t *object, const char *place, const char *key, GPtrArray *ret, GError **error);

/* An integer from 0 to max, or the same as text with a base ("0xf", "06000"). *ret_given (may be NULL): it is there. */
bool json_get_u64(json_t *object, const char *place, const char *key, uint64_t max, uint64_t *ret, bool *ret_given,
                  GError **error);
