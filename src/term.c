/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The caller's terminal and the box's pty.
 *
 * Role: launcher, while it supervises. Privileges: none needed. Threads: one. Order: from WIRE_PTY to the end of the box.
 *
 * The box has a pty out of its own devpts, so that nothing in it has a descriptor of the caller's terminal (no TIOCSTI, no
 * TIOCLINUX); only bytes pass. The flags of stdin and stdout are shared with the shell and whoever else has them, so
 * O_NONBLOCK is never set on them: where the kernel lets us they are opened once more through /proc/self/fd.
 */
#include <fcntl.h>
#include <linux/major.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "relay.h"
#include "term.h"

/* How soon a background job notices that `fg` made it the foreground: a shell tells only stopped jobs. */
#define FOREGROUND_CHECK_MS 250

struct Term {
        bool typed; /* what is typed on tty is for the box: only then its modes are ours to set */
        int tty;
        bool shared;
        int master;
        int peer; /* the slave side, held open so that the master never reads as hung up between two programs of the box */
        Relay *in, *out;
        bool raw; /* the terminal is in raw mode by our doing, and we are its foreground */
        bool suspended, draining;
        bool output_gone;
};

/* For term_restore_now(), which a signal handler or atexit calls without an argument. */
typedef struct {
        volatile sig_atomic_t armed;
        int tty;
        char name[64]; /* its path */
        pid_t pid;
        struct termios saved;
} Restore;

static Restore own_restore, *restore = &own_restore;

/* Not our controlling terminal (ENOTTY): no job control that could keep us from it. */
static bool is_foreground(int tty) {
        pid_t group = tcgetpgrp(tty);
        return group < 0 || group == getpgrp();
}

/* tcsetattr() that neither stops us when we have just become a background job nor fails for it. */
static int set_modes(int tty, const struct termios *modes) {
        sigset_t ttou, before;
        sigemptyset(&ttou);
        sigaddset(&ttou, SIGTTOU);
        sigprocmask(SIG_BLOCK, &ttou, &before);
        int r = TEMP_FAILURE_RETRY(tcsetattr(tty, TCSANOW, modes));
        int saved = errno;
        sigprocmask(SIG_SETMASK, &before, NULL);
        errno = saved;
        return r;
}

void term_restore_now(void) {
        int saved = errno;
        /* In the background the shell has given the terminal modes of its own: those must stay. */
        if (restore->armed && restore->pid == getpid() && is_foreground(restore->tty))
                (void) set_modes(restore->tty, &restore->saved);
        restore->armed = 0;
        errno = saved;
}

bool term_share(GError **error) {
        void *memory = proc_share(sizeof(Restore), error);

        if (!memory)
                return false;
        restore = memory;
        return true;
}

void term_restore_orphan(void) {
        struct termios now;
        _cleanup_close_ int tty = restore->armed ? open(restore->name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;

        /* A shell that has taken over has set modes of its own. Ours are raw, or at the end without output processing alone (term_drain()). */
        if (tty >= 0 && is_foreground(tty) && tcgetattr(tty, &now) == 0 && (!(now.c_lflag & ICANON) || !(now.c_oflag & OPOST)))
                (void) set_modes(tty, &restore->saved);
}

void term_winch(Term *t) {
        struct winsize size;
        if (t->tty >= 0 && ioctl(t->tty, TIOCGWINSZ, &size) == 0)
                (void) ioctl(t->master, TIOCSWINSZ, &size);
}

static void find_name(int tty, char *ret, size_t size) {
        char link[32];

        g_snprintf(link, sizeof link, "/proc/self/fd/%d", tty);
        ssize_t n = readlink(link, ret, size - 1);
        ret[MAX(n, 0)] = '\0';
}

/* Raw if we are the foreground; otherwise nothing. */
static bool enter_raw(Term *t, GError **error) {
        if (t->tty < 0 || !t->typed || t->raw || !is_foreground(t->tty))
                return true;

        struct termios raw;
        if (tcgetattr(t->tty, &restore->saved) < 0)
                return err_set(error, errno, "read the terminal's settings");
        raw = restore->saved;
        cfmakeraw(&raw);
        if (t->shared)
                raw.c_oflag = restore->saved.c_oflag;
        restore->tty = t->tty;
        find_name(t->tty, restore->name, sizeof restore->name);
        restore->pid = getpid();
        restore->armed = 1;
        if (set_modes(t->tty, &raw) < 0) {
                restore->armed = 0;
                return err_set(error, errno, "set the terminal to raw mode");
        }
        t->raw = true;
        term_winch(t);
        return true;
}

static void leave_raw(Term *t) {
        if (t->raw)
                term_restore_now();
        t->raw = false;
}

/* The shell has set the terminal's modes over ours: there is nothing of ours to take back. */
static void forget_raw(Term *t) {
        restore->armed = 0;
        t->raw = false;
}

/* Follow what the shell did with us: `fg` of a running background job, or a stop that no signal told us of. */
static void follow_foreground(Term *t) {
        if (t->tty < 0 || !t->typed || t->suspended || t->draining)
                return;
        if (t->raw && !is_foreground(t->tty))
                forget_raw(t);
        if (!t->raw)
                (void) enter_raw(t, NULL);
}

/*
 * An open file description of our own for a terminal or pipe of the caller, non-blocking; where that cannot be had (a pipe of
 * another user's, a socket), a duplicate. /dev/ptmx is left alone: opening it makes a new pty.
 */
static int own_description(int fd, int mode, GError **error) {
        struct stat st;
        if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || (isatty(fd) && st.st_rdev != makedev(TTYAUX_MAJOR, 2)))) {
                char path[32];
                snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
                int own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                if (own >= 0)
                        return own;
        }
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
                err_set(error, errno, "duplicate descriptor %d", fd);
        return copy;
}

static Relay *make_relay(Term *t, const char *name, int fd, bool to_box, GError **error) {
        _cleanup_close_ int outer = own_description(fd, to_box ? O_RDONLY : O_WRONLY, error);
        if (outer < 0)
                return NULL;
        _cleanup_close_ int master = fcntl(t->master, F_DUPFD_CLOEXEC, 3);
        if (master < 0) {
                err_set(error, errno, "duplicate the pty's master side");
                return NULL;
        }
        /* A terminal that was hung up reads as EIO, too. */
        if (to_box)
                return relay_new(name, fd_steal(&outer), fd_steal(&master), RELAY_EIO_IS_END | RELAY_END_BY_VEOF);
        return relay_new(name, fd_steal(&master), fd_steal(&outer), RELAY_EIO_IS_END | RELAY_DISCARD);
}

/* The keys and flags that the user knows from the terminal hold in the box too. While we are in the background they are
 * those of the shell's line editor: then only what kind of text it is. */
static void copy_modes(const Term *t) {
        struct termios outer, inner;

        if (t->tty < 0 || tcgetattr(t->tty, &outer) < 0 || tcgetattr(t->peer, &inner) < 0)
                return;
        if (is_foreground(t->tty))
                inner = outer;
        else
                inner.c_iflag = (inner.c_iflag & ~(tcflag_t) IUTF8) | (outer.c_iflag & IUTF8);
        (void) tcsetattr(t->peer, TCSANOW, &inner);
}

Term *term_new(const TermConfig *config, GError **error) {
        g_autoptr(Term) t = g_new0(Term, 1);

        t->tty = config->tty;
        t->typed = config->in >= 0;
        t->shared = config->shared;
        t->master = config->master_take;
        t->peer = -1;
        if (!isatty(t->master) || !fd_set_nonblock(t->master, true)) {
                err_set(error, errno, "the box's pty");
                return NULL;
        }
        /* By TIOCGPTPEER and not by name: the pty is of a devpts that we do not see. */
        t->peer = ioctl(t->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (t->peer < 0) {
                err_set(error, errno, "open the slave side of the box's pty");
                return NULL;
        }
        copy_modes(t);
        term_winch(t);

        t->out = make_relay(t, "terminal output", config->out, false, error);
        if (!t->out)
                return NULL;
        if (config->in >= 0) {
                t->in = make_relay(t, "terminal input", config->in, true, error);
                if (!t->in)
                        return NULL;
        }
        if (!enter_raw(t, error))
                return NULL;
        return g_steal_pointer(&t);
}

void term_free(Term *t) {
        if (!t)
                return;
        leave_raw(t);
        term_restore_now();
        if (t->in)
                relay_give_back(t->in);
        relay_free(t->in);
        relay_free(t->out);
        fd_closep(&t->peer);
        fd_closep(&t->master);
        g_free(t);
}

/* In the background what is typed is the shell's. */
static bool takes_input(const Term *t) {
        return t->in && !t->suspended && !t->draining && (t->tty < 0 || t->raw);
}

void term_poll(const Term *t, struct pollfd fds[static TERM_N_FDS]) {
        relay_poll(t->out, fds);
        if (t->in)
                relay_poll(t->in, fds + RELAY_N_FDS);
        if (!takes_input(t))
                fds[2].fd = -1;
        if (!t->in)
                fds[3].fd = -1;
        if (t->suspended)
                for (unsigned i = 0; i < TERM_N_FDS; i++)
                        fds[i].fd = -1;
}

int term_timeout_ms(const Term *t) {
        return t->tty >= 0 && t->typed && !t->raw && !t->suspended && !t->draining ? FOREGROUND_CHECK_MS : -1;
}

static bool move_output(Term *t, const struct pollfd *fds, GError **error) {
        bool ok = relay_dispatch(t->out, fds, error);
        t->output_gone = t->output_gone || relay_is_broken(t->out);
        return ok;
}

bool term_dispatch(Term *t, const struct pollfd fds[static TERM_N_FDS], GError **error) {
        if (t->suspended)
                return true;
        follow_foreground(t);

        /* Reading first from the user: ^C must not wait behind a flood of output. Errors of the input are its end. */
        if (takes_input(t))
                (void) relay_dispatch(t->in, fds + RELAY_N_FDS, NULL);
        return move_output(t, fds, error);
}

bool term_output_gone(const Term *t) {
        return t->output_gone;
}

/* One try at everything that goes without waiting. */
static void push_output(Term *t) {
        struct pollfd fds[RELAY_N_FDS];
        relay_poll(t->out, fds);
        if (poll(fds, RELAY_N_FDS, 0) >= 0)
                (void) move_output(t, fds, NULL);
}

void term_suspend(Term *t) {
        if (t->suspended)
                return;
        push_output(t);
        leave_raw(t);
        t->suspended = true;
}

void term_resume(Term *t) {
        struct termios now;

        t->suspended = false;
        /* Raw still: we were stopped without term_suspend() (SIGSTOP), and a shell that took over has set its own modes. */
        if (t->raw && tcgetattr(t->tty, &now) == 0 && (now.c_lflag & ICANON))
                forget_raw(t);
        follow_foreground(t);
        term_winch(t);
}

void term_drain(Term *t) {
        if (t->draining)
                return;
        t->suspended = false;
        t->draining = true;
        /* A reader of our output that is stuck must be breakable by ^C. Output processing stays as it is to the last byte. */
        if (t->raw && is_foreground(t->tty)) {
                struct termios modes;
                if (tcgetattr(t->tty, &modes) == 0) {
                        struct termios cooked = restore->saved;
                        cooked.c_oflag = modes.c_oflag;
                        (void) set_modes(t->tty, &cooked);
                }
        }
        push_output(t);
}

bool term_drained(const Term *t) {
        return t->draining && relay_is_idle(t->out);
}
