/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "review.h"

/* The host's directory at below_path, of status below, is another one than that of which the box's layer has changes at path. */
bool commit_is_swapped(const Review *review, const char *path, const char *below_path, const struct stat *below);

/* The paths of those among changes, as a set. They are borrowed of changes; the set is the caller's. */
GHashTable *commit_swapped(const Review *review, const GPtrArray *changes);

/* c is in one of these. */
bool commit_is_in_swapped(GHashTable *swapped, const ReviewChange *c);
