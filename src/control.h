/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <poll.h>
#include <stdbool.h>

#include "base/wire.h"
#include "pod.h"

typedef struct Sandbox Sandbox; /* supervise.h */

/*
 * The control socket from the launcher's side: requests of the verbs, one at a time on a connection, each answered by OK, TEXT,
 * EXITED or ERROR. Nobody's silence or garbage holds up the box: everything is non-blocking, and who misbehaves is cut off.
 */
typedef struct Control Control;
typedef struct ControlClient ControlClient;

#define CONTROL_CLIENTS 48
#define CONTROL_N_FDS (2 + CONTROL_CLIENTS + 2 * 32) /* the listener, clients, a pod's boxes, what exec started (exec.h) */

/* listener is taken. */
Control *control_new(int listener_take);
void control_free(Control *c);

void control_poll(const Control *c, struct pollfd fds[static CONTROL_N_FDS]);
void control_dispatch(Control *c, Sandbox *s, const struct pollfd fds[static CONTROL_N_FDS]);

/* exec_pids() */
GArray *control_execs(const Control *c, bool *ret_starting);

/* exec_box_failed() */
void control_box_failed(Control *c, const GError *failure);

/* exec_await() */
bool control_await(Control *c, int init, int timeout_ms);

/* The box has ended: tell all who wait. */
void control_end(Control *c, int status);

/* Of a pod: the client is a box's launcher, and one of the pod's from now on; it is no client any more. False with error, which it is to be told where it
 * still is one. */
bool control_make_member(ControlClient *client, const char *box_id, GVariant *facts, const int namespaces[static POD_N_NAMESPACES], GError **error);
guint control_n_members(const Control *c);
void control_tell_members(Control *c, WireType type, guint32 number);

/* Answers, for those who answer later. text goes in a memfd, so it may be of any size. */
void control_answer(ControlClient *client, WireType type, GVariant *body);
void control_answer_text(ControlClient *client, const char *text);
void control_answer_fd(ControlClient *client, WireType type, int fd);
void control_answer_error(ControlClient *client, const GError *error);
/* The box ends by failure, and so does what the client waits for. */
void control_answer_failed(ControlClient *client, const GError *failure);

/* For an answer that somebody else has to give: the client may be gone by then. Taking it frees it, and gives the client or NULL. */
typedef struct ControlLater ControlLater;
ControlLater *control_later(ControlClient *client);
ControlClient *control_later_take(ControlLater *later);
