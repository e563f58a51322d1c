/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <poll.h>
#include <stdbool.h>

/*
 * The launcher's side of the box's pty: the caller's terminal in raw mode, bytes both ways, window size, suspension.
 * Made for one poll(2) loop with signals in a signalfd; SIGPIPE must be ignored. One Term at a time in a process.
 */
typedef struct Term Term;

#define TERM_N_FDS 4

typedef struct {
        int tty;          /* the caller's terminal, for its modes and its size; -1: there is none (-t without one). Borrowed */
        int in;           /* what is typed comes from here, -1: nothing, and tty is only asked for its size. Borrowed, its flags are not touched */
        int out;          /* the pty's output goes there. Borrowed, its flags are not touched */
        bool shared;      /* others write to the terminal meanwhile (stdout is a pipe to `less`): keep its output processing */
        int master_take;  /* the pty's master side, from the box */
} TermConfig;

/*
 * Give the pty the terminal's settings and size, then set the terminal raw (only while this process is in its foreground:
 * a background job must not touch it). NULL with error; master_take is closed then too.
 */
Term *term_new(const TermConfig *config, GError **error);

/* Restores the terminal. */
void term_free(Term *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Term, term_free)

/* What to poll for (fd is -1 where nothing is), and how long at most: milliseconds, -1 for ever. */
void term_poll(const Term *t, struct pollfd fds[static TERM_N_FDS]);
int term_timeout_ms(const Term *t);

/* After poll(2), whether or not anything is ready. False with error, once, when output cannot be written. */
bool term_dispatch(Term *t, const struct pollfd fds[static TERM_N_FDS], GError **error);

/* Output cannot be delivered (write error, or its reader has gone: EPIPE): the payload should get SIGHUP. What
 * it still writes is thrown away. */
bool term_output_gone(const Term *t);

/* SIGWINCH: carry the terminal's size over. The pty's foreground processes get SIGWINCH from the kernel. */
void term_winch(Term *t);

/*
 * Before this process stops itself: write out what the pty has, as far as that goes without waiting, and restore the
 * terminal. After SIGCONT: take size and modes anew, raw again if this is now the foreground (`fg`, not `bg`).
 */
void term_suspend(Term *t);
void term_resume(Term *t);

/*
 * The payload has ended: stop reading input, give ^C and ^Z on the terminal their meaning back, and go on with
 * poll and dispatch until term_drained(): then everything that was written to the pty before this call is out.
 */
void term_drain(Term *t);
bool term_drained(const Term *t);

/* Restore the terminal if it is raw by our doing. Async-signal-safe, and a no-op in forked children: for atexit and fatal signals. */
void term_restore_now(void);

/*
 * For a launcher that is killed. Before the fork of who shall see to that (the janitor), while there is no Term: what is to be restored lies in memory that
 * both share. And what that does then, in the launcher's process group and with all signals blocked; it opens the terminal by its name, and so holds nothing
 * of the caller's open until then.
 */
bool term_share(GError **error);
void term_restore_orphan(void);
