/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * JSON written member by member: one flat writer for --status-fd and every --json. Text may be anything: what is not UTF-8
 * becomes U+FFFD, control characters are escaped, so that a line of JSON is safe on a terminal too.
 */
void jsonout_string(GString *out, const char *text);

/* `"key":value`, with a comma before it unless it is the first in its object. key is a plain name of ours. */
void jsonout_add_string(GString *out, const char *key, const char *value);
void jsonout_add_int(GString *out, const char *key, gint64 value);
void jsonout_add_bool(GString *out, const char *key, bool value);

/* `"key":` alone, for an object or array that the caller writes next. */
void jsonout_add_key(GString *out, const char *key);
