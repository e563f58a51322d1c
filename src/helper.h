/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/proc.h"
#include "base/wire.h"

/* A helper program, as messages speak of it. */
typedef struct {
        const char *program; /* "usbox-net" */
        const char *file;    /* which it is started from; NULL: of the same name */
        const char *step;    /* of errors: "network" */
        const char *lost;    /* what a box has not any more when it ended: "network" */
} HelperKind;

/* A helper program of one box, from the launcher's side: a process and the wire to it. */
typedef struct {
        const HelperKind *kind;
        pid_t pid; /* 0: none was started, or it is reaped */
        int pidfd;
        int wire;
        ProcOrphans orphans; /* what it has forked: its agent */
} Helper;

#define HELPER_NONE ((Helper){ .pidfd = -1, .wire = -1 })

/*
 * Start the program with the wire as its descriptor 3 and fds (borrowed) as 4, 5, ...; nothing else of the caller's reaches it but
 * stderr. argv begins with the program's name.
 */
bool helper_start(Helper *ret, const HelperKind *kind, char *const argv[], const int *fds, size_t n_fds, GError **error);

/* Send. Where the helper has ended already, the error is what it said last, or how it ended. */
bool helper_send(Helper *h, WireType type, GVariant *body, const int *fds, unsigned n_fds, GError **error);

/* Something came on its wire, or its end: this type is expected. Its error, its end and all else become *error. */
bool helper_receive(Helper *h, WireType type, WireMessage *ret, GError **error);

/* The same, for any type but its error. */
bool helper_receive_any(Helper *h, WireMessage *ret, GError **error);

/* How a helper has ended, from wait(2)'s status, for an error; the caller's. */
char *helper_end_text(int status);

/* Before it is made to end, or may end by itself: what it has forked will be ours to reap. */
void helper_adopt(Helper *h);

/* Kill; and reap too, and close all. */
void helper_kill(Helper *h);
void helper_clear(Helper *h);

/* After that: reap what it had forked. */
void helper_reap_orphans(Helper *h);
