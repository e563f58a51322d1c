/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Places in a listing, by which the kernel asks for what follows (telldir(3)): numbers of 31 bits, since a program of 32 bits that was not built for
 * large files takes no others (EOVERFLOW). Those of ".", ".." and nothing come before them.
 */

#include <glib.h>
#include <stdint.h>

#define PLACE_DOT 1u
#define PLACE_DOTDOT 2u

typedef struct {
        uint64_t place; /* a hash of the name, of 63 bits; after dir_places() its place */
        uint32_t name;  /* offset in names */
        uint16_t layer;
        uint8_t type; /* DT_* */
} DirEntry;

/* A name that could not have the place that its hash says. */
typedef struct {
        uint64_t hash, place;
} DirMoved;

/*
 * Entries in the order of their hashes get places that rise with them. moved: those of the listing before, or NULL, who keep theirs although the one
 * before it may be gone: else who is about to ask what follows that one would miss a name. Returns those of this one, or NULL: there are none.
 */
GArray *dir_places(DirEntry *entries, guint n, const GArray *moved);
