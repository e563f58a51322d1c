/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "base/wire.h"
#include "registry.h"

/* A box's control socket from a verb's side. Errors name the box. */

/* Connect to a running box. -1 with error. */
int control_open(const BoxInfo *box, GError **error);

/* Ask, and wait some seconds for the answer of that type. An ERROR becomes *error, so does the launcher's end. */
bool control_ask(const BoxInfo *box, int fd, WireType request, GVariant *body, WireType answer, WireMessage *ret, GError **error);

/* control_open() and control_ask() for a request whose answer says no more than that it was done. */
bool control_do(const BoxInfo *box, WireType request, GVariant *body, GError **error);

/* The same of what systemd has a part in: its answer takes as long as that does, so whether the launcher is there is asked before. */
bool control_do_by_systemd(const BoxInfo *box, WireType request, GVariant *body, GError **error);

/* Ask for a text (INSPECT); the caller's. NULL with error. */
char *control_text(const BoxInfo *box, WireType request, GError **error);

/* False with error: the box's launcher is stopped (^Z), and who asks it for something long would wait for whoever lets it go on; or it is in another user
 * namespace, and who asks it is told nothing, which is not to be taken for its end. */
bool control_will_answer(const BoxInfo *box, GError **error);

/* Ask a box for its end (WAIT, STOP): what to give to control_end_wait(), -1 where it has ended already. */
int control_begin_wait(const BoxInfo *box, WireType request, GVariant *body);

/* Wait for it: usbox's exit status for the box, from the launcher or, where that had no time for an answer any more, from state.json. -1 with
 * error where it is not known: of a dead box, and of one that left nothing. fd is taken. */
int control_end_wait(const Caller *caller, const BoxInfo *box, int fd_take, GError **error);
