/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "supervise.h"

/* A running box as other processes of the user see it: its runtime directory, its control socket, "last", the events. */

/* The box outlives its run until `usbox rm`. */
bool presence_is_held(const Spec *spec);

/* Keep room in the box's directory for what presence_keep() writes. Before GO: the command may fill the disk. presence_begin() does it for a box that is
 * held. */
void presence_reserve(const Sandbox *s);

/* Show the box, and remove what killed launchers left. Before GO where the box is held, and then its failure is the run's; else beside the
 * command's exec, and a failure is told and means that other verbs do not reach this box. */
bool presence_begin(Sandbox *s, GError **error);

/* How the run ended, for state.json. Before the box's directory is kept or removed. */
void presence_note_end(Sandbox *s, const StatusExit *how, const GError *failure);

/* state.json of a directory that is kept. */
bool presence_keep(Sandbox *s, const UpperCount *count, GError **error);

/* Nobody is to find it running any more; whoever waits for its end is told. */
void presence_end(Sandbox *s);
