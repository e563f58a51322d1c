/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fsoverlay/config.h"

/*
 * Which names of the lower layers exist in the box: the rules of FsConfig. Their meaning in short:
 *
 *   HIDE    the path does not exist, nor anything below it
 *   FILTER  it exists; of its children only those that are named: by a SHOW, TOOLS, FILTER or EMPTY rule for the child or for something below it
 *   EMPTY   as FILTER, here; that it exists even where the lower has none is the box's own layer's work
 *   SHOW    the path and all below are there with the caller's own eyes
 *   TOOLS   as SHOW, but without what has a name that a SECRET names, unless a SHOW below names that, or something in it
 *   GLOB    what matches does not exist, whatever the others say
 *
 * The rule of the longest path decides; of several for one path the strictest (HIDE, EMPTY, FILTER, TOOLS, SHOW). A hidden path that has something
 * named below it exists as by FILTER: else the named one could not be come to. A name that only leads to named ones must be a
 * directory to exist in such a place.
 */
typedef struct Rules Rules;

/* What the rules have to say about a directory and all below it. It is a value: nothing is to be freed, it lasts as long as the rules. */
typedef uintptr_t RuleState;

/* Copies what it needs of the configuration. Never changes afterwards: for any number of threads. */
Rules *rules_new(const FsConfig *config);
void rules_free(Rules *rules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rules, rules_free)

/* The state of "/", which always exists: rules_others_eyes() is to be asked of what is in it, not of itself. */
RuleState rules_root(const Rules *rules);

/* The state of a directory of which no child exists. */
RuleState rules_nothing(void);

/* The state of a directory of which all is there. */
RuleState rules_all(void);

/* Is there a pattern of whole paths? Only then rules_enter() looks at parent_path. */
bool rules_needs_path(const Rules *rules);

/*
 * Does the lower name exist in the box, as far as its path says? parent: the state of its directory; parent_path: that directory's absolute
 * path, may be NULL where rules_needs_path() is false. is_dir_or_unknown: false only for what is known not to be a directory. *ret is
 * set where true is returned. No allocation.
 */
bool rules_enter(const Rules *rules, RuleState parent, const char *parent_path, const char *name, bool is_dir_or_unknown, RuleState *ret);

/* Is the one of that state to be looked at with the eyes of others? If so, and it is the caller's and closed to others (a file
 * without o+r, a directory without o+rx), rules_close() is to be asked. */
bool rules_others_eyes(RuleState state);

/* It is closed to others: false when it therefore does not exist. True when it leads to named ones: then *state is changed to show only those. */
bool rules_close(RuleState *state);

/* No rule concerns anything below any more: all below is there, of this same state, and rules_enter() need not be called. */
bool rules_trivial(RuleState state);

/* This directory shows only named children, which rules_named() lists. */
bool rules_filters(RuleState state);

/* The names that rules name right in the directory of that state, sorted, hidden ones too: rules_enter() judges each. A directory that filters
 * needs no reading with them. Borrowed from the rules; *ret_n is their number. */
const char *const *rules_named(RuleState state, guint *ret_n);
