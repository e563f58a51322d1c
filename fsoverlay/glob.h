/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Patterns of names and paths, over bytes. Within a name: "*" any bytes, "?" any one, "[a-z]" "[!a-z]" "[^a-z]" one of a set, "\x" x itself. A
 * leading dot is nothing special, and a "[" that is not closed is itself. Between slashes "**" is any number of directories, none too; at the
 * end all that is below.
 *
 * A pattern without a slash is one of names, wherever they are; so is one that begins with a double star and has no other slash. One that begins
 * with a slash is of whole paths; any other may start at any directory. One that ends with a slash is of directories alone.
 */
typedef struct Glob Glob;

/* Any bytes are a pattern; an empty one matches nothing. */
Glob *glob_new(const char *pattern);
void glob_free(Glob *glob);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Glob, glob_free)

/* Of names alone: glob_match() does not look at the directory then. */
bool glob_is_of_names(const Glob *glob);

/* Of directories alone. */
bool glob_is_of_directories(const Glob *glob);

/* The one name that it matches, where it is of names and has nothing special in it, else NULL; lives as long as the glob. */
const char *glob_literal(const Glob *glob);

/* Does name, in the directory of that absolute path, match? Takes time in proportion to the path's length, and no memory. */
bool glob_match(const Glob *glob, const char *directory, const char *name);
