/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "state.h"

/*
 * What a box has only while its launcher lives: ID/ in the runtime directory, with state.json (written by rename), control (the socket)
 * and lock, which the launcher holds.
 */

typedef enum {
        RUNTIME_XDG,   /* $XDG_RUNTIME_DIR/usbox */
        RUNTIME_LOGIN, /* /run/user/UID/usbox: the variable is not set (cron, su) or names another's directory */
        RUNTIME_TMP,   /* /tmp/usbox-UID: there is neither */
} RuntimeKind;

/* Where it is for this process; the caller's. Existing or not. */
char *runtime_path(RuntimeKind *ret_kind);

/* O_PATH on it, made where it is missing and make is set. It must be the caller's own and closed to others: -1 with error, and ENOENT in
 * that where it is not there. */
int runtime_open(bool make, GError **error);

/* Somebody holds the lock of box id below top_fd: its launcher lives. So it does where that cannot be found out: what is taken for dead is removed. */
bool runtime_is_locked(int top_fd, const char *id);

/* The same of the caller's runtime directory. */
bool runtime_box_runs(const char *id);

/* Remove what launchers left that were killed. Looks at a bounded number of boxes, others each time. */
void runtime_sweep(int top_fd);

/* Remove what there is of a dead box, be it made whole or not. */
void runtime_remove(int top_fd, const char *id);

typedef struct {
        int top_fd, fd, lock_fd;
        char name[BOX_ID_LEN + 2]; /* ".ID" until it is published, then ID */
} RuntimeBox;

/* Make ID/ with its lock and its socket, which listens (*ret_listen, non-blocking), and state as state.json; and then, when all else is ready, show it
 * to others. */
RuntimeBox *runtime_box_new(const char *id, const char *state, int *ret_listen, GError **error);
bool runtime_box_publish(RuntimeBox *box, GError **error);

/* Replace state.json. */
bool runtime_box_write(const RuntimeBox *box, const char *state, GError **error);

/* Remove ID/ and let go of the lock. NULL is nothing. */
void runtime_box_free(RuntimeBox *box);

/* A socket connected to the launcher of box id. -1 with error. */
int runtime_connect(const char *id, GError **error);
