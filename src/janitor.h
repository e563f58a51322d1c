/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "spec.h"
#include "state.h"

/*
 * A process that does nothing but wait, for the case that the launcher is killed: then nobody else could remove the box's
 * directory, and what stands for it in the runtime directory. Forked from the launcher while the box is being built.
 */
typedef struct {
        pid_t pid; /* 0: none */
        int life;  /* the launcher's end of a pipe: its closing is the launcher's death */
} Janitor;

/* dir: of the box id, or NULL where it has none. pidfds (borrowed): the box's init; usbox-fs, or -1. It removes when both have ended. id NULL, and both
 * pidfds -1: there is a terminal alone to be seen to. */
bool janitor_start(const char *id, const BoxDir *dir, const Spec *spec, const int pidfds[2], Janitor *ret, GError **error);

/* The directory has been seen to: end it; and wait for its end. */
void janitor_dismiss(const Janitor *j);
void janitor_clear(Janitor *j);
