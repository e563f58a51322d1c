/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "review.h"

/* Changes for people and for programs, on stdout. Project hooks come first. */

/* A line for each: letter, path, and what of it changed. colour: on a terminal that wants it. */
void review_print_list(const Review *review, const GPtrArray *changes, bool colour);

/*
 * A JSON object in a line for each, as fsoverlay/diff.h has them, with more members:
 *   what    of "M": an array of content, mode, owner, xattr, time, place
 *   hidden  true: the host has that name, and the box did not know
 *   hook    true: at or below a project hook
 */
void review_print_json(const GPtrArray *changes);

/* Is stdout a terminal that is to be coloured? */
bool review_wants_colour(void);

/* Colours of the terminal, as patches have them. */
#define REVIEW_RED "\x1b[31m"
#define REVIEW_GREEN "\x1b[32m"
#define REVIEW_YELLOW "\x1b[33m"
#define REVIEW_MAGENTA "\x1b[35m"
#define REVIEW_CYAN "\x1b[36m"
#define REVIEW_BOLD "\x1b[1m"
#define REVIEW_PLAIN "\x1b[0m"
