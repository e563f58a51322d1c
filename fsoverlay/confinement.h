/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* What of the machine's files usbox-fs is to go on reaching. */
typedef struct {
        const int *lowers; /* directories to read */
        unsigned n_lowers;
        int box; /* the directory to change; -1: none */
} Confinement;

/* Its files alone, by Landlock, where there is one; after no_new_privs. For the agent, which would else reach for usbox-fs what that may not. */
bool confinement_files(const Confinement *c, GError **error);

/* Give up what is not needed to serve. Before the first thread, after the agent. */
bool confinement_apply(const Confinement *c, GError **error);
