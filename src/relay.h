/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <poll.h>
#include <stdbool.h>

/*
 * Bytes from one descriptor to another inside somebody's poll(2) loop. One buffer of a fixed size stands between: as long
 * as dst takes nothing, nothing is read from src.
 */
typedef struct Relay Relay;

typedef enum {
        RELAY_DISCARD = 1 << 0,    /* where dst fails, go on reading and throw away (else src is closed: its writer learns) */
        RELAY_EIO_IS_END = 1 << 1, /* src is a pty's master: EIO is its end of file */
        RELAY_END_BY_VEOF = 1 << 2, /* dst is a pty's master: the end of src is typed there as its end-of-file character */
} RelayFlags;

#define RELAY_N_FDS 2
#define RELAY_BUFFER 65536u

/*
 * name is for errors ("standard output"). Both descriptors are taken. Whether they are O_NONBLOCK is asked once, here;
 * one that is not is used only after poll(2) said that it is ready, and written to in pieces that a ready pipe takes at once.
 */
Relay *relay_new(const char *name, int src_take, int dst_take, RelayFlags flags);
void relay_free(Relay *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Relay, relay_free)

/* What to poll for; fd is -1 where there is nothing to wait for. */
void relay_poll(const Relay *r, struct pollfd fds[static RELAY_N_FDS]);

/*
 * Move what can be moved (a bounded amount) after poll(2) filled in revents; revents of 0 still tries non-blocking descriptors.
 * False with error, once, when src or dst failed. A reader of dst that has gone (EPIPE) is no error: see relay_is_broken().
 * The process must ignore SIGPIPE.
 */
bool relay_dispatch(Relay *r, const struct pollfd fds[static RELAY_N_FDS], GError **error);

/* All has arrived, or nothing more can: both descriptors are closed. */
bool relay_is_done(const Relay *r);

/* dst failed or its reader has gone. */
bool relay_is_broken(const Relay *r);

/* Nothing is in the buffer and src had nothing more when it was last asked (or the relay is done). */
bool relay_is_idle(const Relay *r);

/*
 * dst is a pipe, and this is its read end (taken, kept open until relay_free()): relay_give_back() can then tell what
 * was never read.
 */
void relay_watch_reader(Relay *r, int read_end_take);

/*
 * For a src with a file position: set it back by what nobody has read, in the buffer or in the watched pipe. With it
 * `while read line; do usbox run ...; done <list` works as it would with the file itself as stdin. Call it when the readers have ended.
 */
void relay_give_back(Relay *r);
