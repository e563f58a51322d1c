/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The extended attributes that are a program's own, of name in dirfd, sorted; the caller's. */
GPtrArray *changes_attributes(int dirfd, const char *name);
bool changes_same_attributes(int a_dir, const char *a_name, int b_dir, const char *b_name);

/* A number for all of them, never 0: another one is of others. */
guint64 changes_attributes_sum(int dirfd, const char *name);
