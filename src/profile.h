/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/*
 * A profile: a GKeyFile with one group [usbox]. Keys are the long names of options, lists have ';' between their items,
 * besides `description` and `inherits` (a list of other profiles, applied first). In values ${NAME} stands for a
 * variable of the caller's environment; an item with one that is not set is passed over.
 */

/* One value of one option, as it stands in the file. */
typedef struct {
        const Option *option;
        char *value;
} ProfileItem;

typedef struct {
        char *source;      /* where it is from: a path, or "built-in NAME" */
        char *description; /* never NULL */
        char **inherits;   /* never NULL */
        GPtrArray *items;  /* of ProfileItem *, in the order of the file */
} Profile;

void profile_free(Profile *profile);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Profile, profile_free)

/*
 * Find and read one profile: a path (what has a '/'), else a name, looked for in $XDG_CONFIG_HOME/usbox/profiles,
 * /etc/usbox/profiles and what is built in. A file must be a regular one of the caller's or root's that no one else may
 * write. caller's home and directory come from draft. NULL with error (step "profile").
 */
Profile *profile_load(const Spec *draft, const char *name, GError **error);

/* profile_load() of text; source names it in errors. */
Profile *profile_parse(const char *source, const char *text, GError **error);

/* Load it and what it inherits, and apply all of them to draft, each once; noted in draft->box.profiles. */
bool profile_apply(Spec *draft, const char *name, GError **error);

/* The names that profile_load() finds without a path, sorted, each once: a NULL-terminated array, the caller's. */
char **profile_names(const Spec *draft);
