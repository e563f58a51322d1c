/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Append bytes as a JSON string, quotes included: ASCII alone, so that nothing in it steers a terminal. A byte that is of no UTF-8 becomes \udcXX,
 * as Python's surrogateescape has it, so that a reader gets every name back: json.loads(line)["path"].encode("utf-8", "surrogateescape").
 * jansson would refuse such a name. */
void jsonbytes_append(GString *out, const char *bytes);
