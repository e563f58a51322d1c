/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of term and relay with real ptys: the "user" is the master of one pty, the "box" a child on the slave of another.
 *
 * Role: test program. Privileges: none. Threads: one.
 */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/error.h"
#include "base/fd.h"
#include "relay.h"
#include "term.h"

#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct {
        int user;     /* what the person at the terminal has: master of the outer pty */
        int tty;      /* the caller's terminal */
        int box;      /* slave side of the inner pty, as the payload has it */
        Term *term;
        GString *seen; /* what came out at the user's side */
} Fixture;

/* The test's process has no controlling terminal of its own here, so it counts as foreground everywhere. */
static void set_up(Fixture *f, int in, int out, bool shared) {
        int master;
        struct winsize size = { .ws_row = 33, .ws_col = 101 };

        g_assert_cmpint(openpty(&f->user, &f->tty, NULL, NULL, &size), ==, 0);
        g_assert_cmpint(openpty(&master, &f->box, NULL, NULL, NULL), ==, 0);
        g_assert_true(fd_set_nonblock(f->user, true));
        f->seen = g_string_new(NULL);

        g_autoptr(GError) error = NULL;
        TermConfig config = { .tty = in == -1 ? f->tty : -1, .in = in == -1 ? f->tty : in, .out = out == -1 ? f->tty : out,
                              .shared = shared, .master_take = master };
        f->term = term_new(&config, &error);
        g_assert_no_error(error);
}

static void tear_down(Fixture *f) {
        term_free(f->term);
        close(f->user);
        close(f->tty);
        fd_closep(&f->box);
        g_string_free(f->seen, TRUE);
}

static void look(Fixture *f) {
        char buf[8192];
        ssize_t n;
        while ((n = read(f->user, buf, sizeof buf)) > 0)
                g_string_append_len(f->seen, buf, n);
}

/* One turn of a launcher's loop. */
static bool turn(Fixture *f, GError **error) {
        struct pollfd fds[TERM_N_FDS];
        term_poll(f->term, fds);
        int wait = term_timeout_ms(f->term);
        poll(fds, TERM_N_FDS, wait < 0 || wait > 5 ? 5 : wait);
        return term_dispatch(f->term, fds, error);
}

static void turn_until_seen(Fixture *f, const char *text) {
        gint64 end = g_get_monotonic_time() + PATIENCE_US;
        while (!strstr(f->seen->str, text)) {
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_autoptr(GError) error = NULL;
                turn(f, &error);
                g_assert_no_error(error);
                look(f);
        }
}

static void drain(Fixture *f) {
        gint64 end = g_get_monotonic_time() + PATIENCE_US;
        term_drain(f->term);
        for (;;) {
                look(f);
                if (term_drained(f->term))
                        break;
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                turn(f, NULL);
        }
}

static void box_says(Fixture *f, const char *text) {
        g_assert_true(fd_write_all(f->box, text, strlen(text)));
}

static struct termios modes_of(int tty) {
        struct termios t;
        g_assert_cmpint(tcgetattr(tty, &t), ==, 0);
        return t;
}

static void assert_same_modes(const struct termios *a, const struct termios *b) {
        g_assert_cmpuint(a->c_iflag, ==, b->c_iflag);
        g_assert_cmpuint(a->c_oflag, ==, b->c_oflag);
        g_assert_cmpuint(a->c_cflag, ==, b->c_cflag);
        g_assert_cmpuint(a->c_lflag, ==, b->c_lflag);
        g_assert_cmpmem(a->c_cc, sizeof a->c_cc, b->c_cc, sizeof b->c_cc);
}

static void test_both_ways(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, false);

        struct winsize size = { 0 };
        g_assert_cmpint(ioctl(f.box, TIOCGWINSZ, &size), ==, 0);
        g_assert_cmpuint(size.ws_row, ==, 33);
        g_assert_cmpuint(size.ws_col, ==, 101);

        box_says(&f, "prompt> ");
        turn_until_seen(&f, "prompt> ");

        g_assert_cmpint(write(f.user, "hello\r", 6), ==, 6);
        turn_until_seen(&f, "hello\r\n"); /* the echo is the inner pty's */
        char line[32] = "";
        g_assert_cmpint(read(f.box, line, sizeof line), ==, 6);
        g_assert_cmpstr(line, ==, "hello\n");

        size = (struct winsize){ .ws_row = 10, .ws_col = 20 };
        g_assert_cmpint(ioctl(f.tty, TIOCSWINSZ, &size), ==, 0);
        term_winch(f.term);
        g_assert_cmpint(ioctl(f.box, TIOCGWINSZ, &size), ==, 0);
        g_assert_cmpuint(size.ws_col, ==, 20);
        tear_down(&f);
}

static void test_modes(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, false);
        struct termios raw = modes_of(f.tty), inner = modes_of(f.box);
        g_assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));
        g_assert_false(raw.c_oflag & OPOST);
        /* the box's pty has what the terminal had */
        g_assert_true(inner.c_lflag & ICANON);
        g_assert_true(inner.c_oflag & OPOST);

        term_suspend(f.term);
        struct termios cooked = modes_of(f.tty);
        assert_same_modes(&cooked, &inner);

        /* what the shell sets meanwhile is what comes back at the end */
        cooked.c_cc[VERASE] = 'X';
        g_assert_cmpint(tcsetattr(f.tty, TCSANOW, &cooked), ==, 0);
        term_resume(f.term);
        raw = modes_of(f.tty);
        g_assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));

        term_drain(f.term);
        struct termios draining = modes_of(f.tty);
        g_assert_true(draining.c_lflag & ISIG);

        int tty_kept = dup(f.tty);
        int user_kept = dup(f.user);
        tear_down(&f);
        struct termios after = modes_of(tty_kept);
        assert_same_modes(&after, &cooked);
        close(tty_kept);
        close(user_kept);
}

static void test_shared_output(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, true);
        struct termios raw = modes_of(f.tty);
        g_assert_false(raw.c_lflag & ICANON);
        g_assert_true(raw.c_oflag & OPOST);
        tear_down(&f);
}

/* A fatal signal of the launcher: only term_restore_now() runs. In a forked child it does nothing. */
static void test_restore_now(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, false);
        struct termios inner = modes_of(f.box);

        pid_t pid = fork();
        if (pid == 0) {
                term_restore_now();
                _exit(0);
        }
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
        struct termios now = modes_of(f.tty);
        g_assert_false(now.c_lflag & ICANON);

        term_restore_now();
        now = modes_of(f.tty);
        assert_same_modes(&now, &inner);
        tear_down(&f);
}

/*
 * A background job leaves the terminal's modes and its input alone, shows its output, and takes over within a moment after
 * `fg`, which sends no signal to a job that runs. Roles: this child is the shell (session leader), its child the job.
 */
static int job(int tty, int box_master, int report) {
        TermConfig config = { .tty = tty, .in = tty, .out = tty, .master_take = box_master };
        Term *t = term_new(&config, NULL);
        if (!t)
                return 1;
        for (;;) {
                struct pollfd fds[TERM_N_FDS];
                term_poll(t, fds);
                int wait = term_timeout_ms(t);
                poll(fds, TERM_N_FDS, wait < 0 ? 50 : wait);
                (void) term_dispatch(t, fds, NULL);
                bool raw = term_timeout_ms(t) < 0;
                if (write(report, raw ? "r" : "b", 1) != 1 || raw)
                        break;
        }
        for (unsigned i = 0; i < 3; i++)
                (void) term_dispatch(t, (struct pollfd[TERM_N_FDS]){ 0 }, NULL);
        term_free(t);
        return 0;
}

static int shell(int tty, int box_master, int box) {
        int report[2];
        char c;
        struct termios before = modes_of(tty);
        if (setsid() < 0 || ioctl(tty, TIOCSCTTY, 0) < 0 || pipe2(report, O_CLOEXEC) < 0)
                return 2;
        signal(SIGTTOU, SIG_IGN);
        pid_t pid = fork();
        if (pid == 0) {
                signal(SIGTTOU, SIG_DFL);
                setpgid(0, 0);
                _exit(job(tty, box_master, report[1]));
        }
        setpgid(pid, pid);
        close(report[1]);
        if (read(report[0], &c, 1) != 1 || c != 'b')
                return 3;
        struct termios now = modes_of(tty);
        if (now.c_lflag != before.c_lflag)
                return 4;
        if (tcsetpgrp(tty, pid) < 0)
                return 5;
        while (read(report[0], &c, 1) == 1 && c == 'b')
                ;
        int status;
        if (c != 'r' || waitpid(pid, &status, WUNTRACED) != pid || status != 0)
                return 6;
        tcsetpgrp(tty, getpgrp());
        now = modes_of(tty);
        if (now.c_lflag != before.c_lflag)
                return 7;
        char line[16];
        ssize_t n = read(box, line, sizeof line);
        return n == 6 && memcmp(line, "typed\n", 6) == 0 ? 0 : 8;
}

static void test_background(void) {
        int user, tty, master, box, status;
        g_assert_cmpint(openpty(&user, &tty, NULL, NULL, NULL), ==, 0);
        g_assert_cmpint(openpty(&master, &box, NULL, NULL, NULL), ==, 0);
        g_assert_cmpint(write(user, "typed\r", 6), ==, 6);
        pid_t pid = fork();
        if (pid == 0) {
                alarm(20);
                _exit(shell(tty, master, box));
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        close(user);
        close(tty);
        close(master);
        close(box);
}

/* Everything that was written before the last slave closed and its process ended arrives. */
static void test_last_words(void) {
        for (unsigned round = 0; round < 50; round++) {
                Fixture f = { 0 };
                set_up(&f, -1, -1, false);
                struct termios t = modes_of(f.box);
                cfmakeraw(&t);
                g_assert_cmpint(tcsetattr(f.box, TCSANOW, &t), ==, 0);
                pid_t pid = fork();
                if (pid == 0) {
                        char text[3000];
                        memset(text, 'w', sizeof text);
                        bool ok = fd_write_all(f.box, text, sizeof text) && fd_write_all(f.box, "END", 3);
                        _exit(ok ? 0 : 1);
                }
                fd_closep(&f.box);
                int status;
                g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
                g_assert_cmpint(status, ==, 0);
                drain(&f);
                look(&f);
                g_assert_cmpuint(f.seen->len, ==, 3003);
                g_assert_true(g_str_has_suffix(f.seen->str, "wEND"));
                tear_down(&f);
        }
}

/* Nobody has the slave open for a while, then again: not the end. */
static void test_slave_reopened(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, false);
        char name[64];
        g_assert_cmpint(ttyname_r(f.box, name, sizeof name), ==, 0);
        box_says(&f, "one");
        fd_closep(&f.box);
        turn_until_seen(&f, "one");
        for (unsigned i = 0; i < 3; i++)
                turn(&f, NULL);
        f.box = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        g_assert_cmpint(f.box, >=, 0);
        box_says(&f, "two");
        turn_until_seen(&f, "onetwo");
        tear_down(&f);
}

/* -t without a terminal: the end of stdin is typed as ^D, twice after an unfinished line. */
static void test_veof(void) {
        static const char *const inputs[] = { "", "line\n", "unfinished" };

        for (unsigned i = 0; i < G_N_ELEMENTS(inputs); i++) {
                Fixture f = { 0 };
                int p[2], o[2];
                g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
                g_assert_cmpint(pipe2(o, O_CLOEXEC), ==, 0);
                set_up(&f, p[0], o[1], false);
                g_assert_true(fd_write_all(p[1], inputs[i], strlen(inputs[i])));
                close(p[1]);

                g_assert_true(fd_set_nonblock(f.box, true));
                char got[64];
                size_t len = 0;
                gint64 end = g_get_monotonic_time() + PATIENCE_US;
                for (;;) {
                        turn(&f, NULL);
                        ssize_t n = read(f.box, got + len, sizeof got - len);
                        if (n == 0)
                                break;
                        if (n > 0)
                                len += (size_t) n;
                        g_assert_cmpint(g_get_monotonic_time(), <, end);
                }
                g_assert_cmpmem(got, len, inputs[i], strlen(inputs[i]));
                tear_down(&f);
                close(p[0]);
                close(o[0]);
                close(o[1]);
        }
}

/* The reader of the output has gone: told once, and the payload is not held up for ever. */
static void test_output_gone(void) {
        Fixture f = { 0 };
        int p[2], o[2];
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_cmpint(pipe2(o, O_CLOEXEC), ==, 0);
        set_up(&f, p[0], o[1], false);
        close(o[0]);
        g_assert_false(term_output_gone(f.term));
        gint64 end = g_get_monotonic_time() + PATIENCE_US;
        g_assert_true(fd_set_nonblock(f.box, true));
        char text[4000];
        memset(text, 'x', sizeof text);
        for (size_t total = 0; total < 1000000;) {
                ssize_t n = write(f.box, text, sizeof text);
                total += n > 0 ? (size_t) n : 0;
                g_autoptr(GError) error = NULL;
                g_assert_true(turn(&f, &error));
                g_assert_cmpint(g_get_monotonic_time(), <, end);
        }
        g_assert_true(term_output_gone(f.term));
        drain(&f);
        tear_down(&f);
        close(p[0]);
        close(p[1]);
        close(o[1]);
}

static void test_flags_untouched(void) {
        Fixture f = { 0 };
        set_up(&f, -1, -1, false);
        g_assert_false(fcntl(f.tty, F_GETFL) & O_NONBLOCK);
        tear_down(&f);
}

/* 100 MB out of the box through a slow reader: right to the byte, and the writer is held back. */
static void test_bulk(void) {
        Fixture f = { 0 };
        int p[2], o[2];
        const size_t total = 100u << 20;
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_cmpint(pipe2(o, O_CLOEXEC), ==, 0);
        set_up(&f, p[0], o[1], false);
        struct termios t = modes_of(f.box);
        cfmakeraw(&t);
        g_assert_cmpint(tcsetattr(f.box, TCSANOW, &t), ==, 0);

        pid_t pid = fork();
        if (pid == 0) {
                guint32 block[1024], next = 0;
                for (size_t done = 0; done < total; done += sizeof block) {
                        for (unsigned i = 0; i < G_N_ELEMENTS(block); i++)
                                block[i] = next++;
                        if (!fd_write_all(f.box, block, sizeof block))
                                _exit(1);
                }
                _exit(0);
        }
        /* Nobody reads at first: the loop must come to rest with the writer blocked. */
        for (unsigned i = 0; i < 50; i++)
                turn(&f, NULL);
        g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);

        g_assert_true(fd_set_nonblock(o[0], true));
        GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256), *expected = g_checksum_new(G_CHECKSUM_SHA256);
        guint32 block[1024], next = 0;
        for (size_t done = 0; done < total; done += sizeof block) {
                for (unsigned i = 0; i < G_N_ELEMENTS(block); i++)
                        block[i] = next++;
                g_checksum_update(expected, (const guchar *) block, sizeof block);
        }
        size_t received = 0;
        bool ended = false;
        guchar buf[65536];
        while (!term_drained(f.term)) {
                turn(&f, NULL);
                ssize_t n;
                while ((n = read(o[0], buf, sizeof buf)) > 0) {
                        g_checksum_update(sum, buf, n);
                        received += (size_t) n;
                }
                int status;
                if (!ended && waitpid(pid, &status, WNOHANG) == pid) {
                        g_assert_cmpint(status, ==, 0);
                        ended = true;
                        term_drain(f.term);
                }
        }
        ssize_t n;
        while ((n = read(o[0], buf, sizeof buf)) > 0) {
                g_checksum_update(sum, buf, n);
                received += (size_t) n;
        }
        g_assert_cmpuint(received, ==, total);
        g_assert_cmpstr(g_checksum_get_string(sum), ==, g_checksum_get_string(expected));
        g_checksum_free(sum);
        g_checksum_free(expected);
        tear_down(&f);
        for (unsigned i = 0; i < 2; i++) {
                close(p[i]);
                close(o[i]);
        }
}

/* 4 MB typed into the box by a pipe arrive whole although the box reads slowly. */
static void test_bulk_in(void) {
        Fixture f = { 0 };
        int p[2], o[2];
        const size_t total = 4u << 20;
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_cmpint(pipe2(o, O_CLOEXEC), ==, 0);
        set_up(&f, p[0], o[1], false);
        struct termios t = modes_of(f.box);
        cfmakeraw(&t);
        g_assert_cmpint(tcsetattr(f.box, TCSANOW, &t), ==, 0);
        pid_t pid = fork();
        if (pid == 0) {
                char buf[1024];
                close(p[0]);
                memset(buf, 'i', sizeof buf);
                for (size_t done = 0; done < total; done += sizeof buf)
                        if (!fd_write_all(p[1], buf, sizeof buf))
                                _exit(1);
                _exit(0);
        }
        close(p[1]);
        g_assert_true(fd_set_nonblock(f.box, true));
        size_t received = 0;
        gint64 end = g_get_monotonic_time() + PATIENCE_US;
        while (received < total) {
                turn(&f, NULL);
                char buf[4096];
                ssize_t n;
                while ((n = read(f.box, buf, sizeof buf)) > 0)
                        received += (size_t) n;
                g_assert_cmpint(g_get_monotonic_time(), <, end);
        }
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        tear_down(&f);
        close(p[0]);
        close(o[0]);
        close(o[1]);
}

/* ---- relay ---- */

static int temporary_file(const char *content) {
        int fd = memfd_create("test", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_true(fd_write_all(fd, content, strlen(content)));
        g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
        return fd;
}

static bool relay_turn(Relay *r, GError **error) {
        struct pollfd fds[RELAY_N_FDS];
        relay_poll(r, fds);
        poll(fds, RELAY_N_FDS, 5);
        return relay_dispatch(r, fds, error);
}

static void test_relay_give_back(void) {
        int file = temporary_file("one\ntwo\nthree\n"), p[2];
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[1], true));
        Relay *r = relay_new("standard input", fcntl(file, F_DUPFD_CLOEXEC, 3), p[1], 0);
        relay_watch_reader(r, fcntl(p[0], F_DUPFD_CLOEXEC, 3));
        g_autoptr(GError) error = NULL;
        for (unsigned i = 0; i < 3; i++)
                g_assert_true(relay_turn(r, &error));
        g_assert_no_error(error);
        g_assert_true(relay_is_done(r));

        char buf[64];
        g_assert_cmpint(read(p[0], buf, 4), ==, 4);
        relay_give_back(r);
        relay_free(r);
        g_assert_cmpint(lseek(file, 0, SEEK_CUR), ==, 4);
        close(p[0]);
        close(file);
}

static void test_relay_end_of_file(void) {
        int file = temporary_file("content"), p[2];
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[1], true));
        g_autoptr(Relay) r = relay_new("standard input", file, p[1], 0);
        for (unsigned i = 0; i < 3; i++)
                g_assert_true(relay_turn(r, NULL));
        g_autofree char *got = NULL;
        size_t len;
        g_assert_true(fd_read_all(p[0], 100, &got, &len)); /* returns only if dst was closed */
        g_assert_cmpstr(got, ==, "content");
        close(p[0]);
}

/* `usbox run -- tool >>log`: what is there stays, and the pieces come at the end. */
static void test_relay_append(void) {
        g_autofree char *path = NULL;
        int file = g_file_open_tmp("usbox-test-XXXXXX", &path, NULL), p[2];
        g_assert_cmpint(file, >=, 0);
        g_assert_true(fd_write_all(file, "old ", 4));
        int append = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[0], true));
        g_autoptr(Relay) r = relay_new("standard output", p[0], append, 0);
        g_assert_true(fd_write_all(p[1], "new", 3));
        close(p[1]);
        for (unsigned i = 0; i < 5 && !relay_is_done(r); i++)
                g_assert_true(relay_turn(r, NULL));
        g_assert_true(relay_is_done(r));
        g_autofree char *got = NULL;
        g_assert_true(fd_read_file(AT_FDCWD, path, 100, &got, NULL));
        g_assert_cmpstr(got, ==, "old new");
        close(file);
        unlink(path);
}

/* A full disk is told with its errno, and the writer in the box learns by EPIPE. */
static void test_relay_full(void) {
        int full = open("/dev/full", O_WRONLY | O_CLOEXEC), p[2];
        g_assert_cmpint(full, >=, 0);
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[0], true));
        g_autoptr(Relay) r = relay_new("standard output", p[0], full, 0);
        g_assert_true(fd_write_all(p[1], "x", 1));
        g_autoptr(GError) error = NULL;
        bool ok = true;
        for (unsigned i = 0; i < 5 && ok; i++)
                ok = relay_turn(r, &error);
        g_assert_false(ok);
        g_assert_cmpint(err_get_errno(error), ==, ENOSPC);
        g_assert_true(relay_is_broken(r));
        g_assert_true(relay_is_done(r));
        g_assert_cmpint(write(p[1], "y", 1), ==, -1);
        g_assert_cmpint(errno, ==, EPIPE);
        close(p[1]);
}

/* Nothing is read ahead of a pipe that takes nothing, beyond the one buffer. */
static void test_relay_back_pressure(void) {
        int a[2], b[2];
        g_assert_cmpint(pipe2(a, O_CLOEXEC | O_NONBLOCK), ==, 0);
        g_assert_cmpint(pipe2(b, O_CLOEXEC | O_NONBLOCK), ==, 0);
        g_autoptr(Relay) r = relay_new("x", a[0], b[1], 0);
        char block[4096];
        memset(block, 'b', sizeof block);
        size_t sent = 0;
        for (unsigned i = 0; i < 2000; i++) {
                ssize_t n = write(a[1], block, sizeof block);
                sent += n > 0 ? (size_t) n : 0;
                struct pollfd fds[RELAY_N_FDS];
                relay_poll(r, fds);
                poll(fds, RELAY_N_FDS, 0);
                g_assert_true(relay_dispatch(r, fds, NULL));
        }
        g_assert_cmpuint(sent, <=, 65536 * 2 + RELAY_BUFFER);
        struct pollfd fds[RELAY_N_FDS];
        relay_poll(r, fds);
        g_assert_cmpint(poll(fds, RELAY_N_FDS, 0), ==, 0); /* and it sleeps */
        close(a[1]);
        close(b[0]);
}

int main(int argc, char **argv) {
        signal(SIGPIPE, SIG_IGN);
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/term/both-ways", test_both_ways);
        g_test_add_func("/term/modes", test_modes);
        g_test_add_func("/term/shared-output", test_shared_output);
        g_test_add_func("/term/restore-now", test_restore_now);
        g_test_add_func("/term/background", test_background);
        g_test_add_func("/term/last-words", test_last_words);
        g_test_add_func("/term/slave-reopened", test_slave_reopened);
        g_test_add_func("/term/veof", test_veof);
        g_test_add_func("/term/output-gone", test_output_gone);
        g_test_add_func("/term/flags-untouched", test_flags_untouched);
        g_test_add_func("/term/bulk", test_bulk);
        g_test_add_func("/term/bulk-in", test_bulk_in);
        g_test_add_func("/relay/give-back", test_relay_give_back);
        g_test_add_func("/relay/end-of-file", test_relay_end_of_file);
        g_test_add_func("/relay/append", test_relay_append);
        g_test_add_func("/relay/full", test_relay_full);
        g_test_add_func("/relay/back-pressure", test_relay_back_pressure);
        return g_test_run();
}
