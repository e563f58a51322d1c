/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <jansson.h>

/*
 * What --status-fd and every --json have in common beyond jansson itself. Values made here go into json_object_set_new() and its
 * kin, which take them; an object's keys come out in the order in which they were set (jansson, since 2.8).
 */

/* Any bytes as a JSON string: what is not UTF-8 becomes U+FFFD, where json_string() would refuse and the member be lost. */
json_t *jsontext_string(const char *text);

/* A NULL-terminated list as an array of jsontext_string(). */
json_t *jsontext_list(const char *const *texts);

/* One line, newline included: no blanks, ASCII alone, so that nothing in it steers a terminal that it is shown on. Takes
 * value; the text is the caller's, g_free(). */
char *jsontext_line(json_t *value_take);

/* The same over several lines, for people. */
char *jsontext_pretty(json_t *value_take);
