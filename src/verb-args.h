/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/* An option of a verb other than run: a row without arg is a switch. Help and completions come from these rows. */
typedef struct {
        const char *name;
        char short_name; /* 0: none */
        const char *arg; /* NULL: a switch */
        OptionComplete complete;
        const char *choices; /* "a|b": its values, for completions; NULL: whatever arg says */
        const char *help; /* one sentence, no capital, no dot */
} VerbOption;

/* What was typed after the verb. */
typedef struct {
        GPtrArray *names, *values; /* of the options in their order, borrowed; "" is the value of a switch */
        GPtrArray *rest;           /* of what is no option, borrowed; NULL-terminated, so rest->len - 1 words */
} VerbArgs;

typedef enum {
        VERB_MIXED, /* options may stand anywhere before -- */
        VERB_FIRST, /* they end at the first word that is none, and at -- after that: what follows is a command's */
} VerbOrder;

/* options: ends with a row without a name. min and max: how many words the verb takes beside options. False with a usage error; clear in any case. */
bool verb_args_parse(VerbArgs *ret, const char *verb, const VerbOption *options, VerbOrder order, int argc, char **argv, GError **error);
bool verb_args_count(const VerbArgs *args, const char *verb, guint min, guint max, GError **error);
void verb_args_clear(VerbArgs *args);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VerbArgs, verb_args_clear)

/* The last value that was given for an option; NULL: none was. */
const char *verb_args_get(const VerbArgs *args, const char *name);
bool verb_args_has(const VerbArgs *args, const char *name);

/* The n-th word that is no option, or NULL. */
const char *verb_args_word(const VerbArgs *args, guint n);
guint verb_args_n_words(const VerbArgs *args);

/* Do it for each word from number first on. One that fails keeps none of the others: of several that do, all but the last are told of at once. False with
 * the last one's error. */
typedef bool (*VerbEach)(void *data, const char *word, GError **error);
bool verb_args_each(const VerbArgs *args, guint first, VerbEach each, void *data, GError **error);
