/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "child.h"
#include "relay.h"
#include "spec.h"
#include "term.h"

/* What the launcher has to do with the caller's stdin, stdout and stderr. */
typedef struct {
        StdioPlan plan;
        bool pty_wanted;
        int tty;             /* the caller's terminal behind the pty, or -1 */
        Relay *relays[3];    /* files that are copied through pipes; [1] is stderr's too where both are one file */
        int pipe_ends[3];    /* the box's ends of those pipes: closed in the launcher after the clone */
        int log_ends[2];     /* with --detach: where the launcher reads what the command writes; else -1 */
        GError *lost_output; /* NULL, or why not all of the payload's output got to its file */
} Stdio;

#define STDIO_NONE ((Stdio){ .tty = -1, .pipe_ends = { -1, -1, -1 }, .log_ends = { -1, -1 } })

/* Launcher, before the clone: decide. False with error for what must not be passed on (a directory: its ".." is the host). */
bool stdfds_prepare(const Spec *spec, Stdio *ret, GError **error);
void stdfds_clear(Stdio *s);

/* The caller's terminal, or what stands for it, before the pty that the box has made. */
Term *stdfds_make_term(const Stdio *s, int master_take, GError **error);

/* After the clone. */
void stdfds_close_pipe_ends(Stdio *s);
