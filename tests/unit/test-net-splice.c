/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is carried between two sockets (netstack/splice.c), where a pipe is full of short pieces.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "netstack/splice.h"

#define PAGE 4096
#define PAGES 512  /* more than the sockets and a pipe hold */
#define SHORT 2000 /* pieces of one byte: many times the slots of a pipe */
#define STEP 1000  /* that the reader takes at once */

/* A TCP connection over loopback, with small buffers. */
static void tcp_pair(int ret[2]) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof to;
        _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int small = 32 * 1024, on = 1;

        g_assert_true(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
        g_assert_true(bind(listener, (struct sockaddr *) &to, sizeof to) == 0 && listen(listener, 1) == 0);
        g_assert_true(getsockname(listener, (struct sockaddr *) &to, &len) == 0);
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_true(setsockopt(ret[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        g_assert_true(setsockopt(ret[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
        g_assert_true(connect(ret[0], (struct sockaddr *) &to, sizeof to) == 0);
        ret[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        g_assert_cmpint(ret[1], >=, 0);
}

static void on_ended(Splice *splice, const char *how) {
        (void) splice;
        g_error("it ended: %s", how);
}

/* Another process: whole pages, of which each is a piece, and then single bytes, each a piece of a page of its own. */
static pid_t start_sender(int fd, int file) {
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        off_t at = 0;
        while (at < PAGES * PAGE)
                if (sendfile(fd, file, &at, (size_t) (PAGES * PAGE - at)) <= 0)
                        _exit(1);
        for (int i = 0; i < SHORT; i++) {
                at = (off_t) (i % PAGES) * PAGE;
                if (sendfile(fd, file, &at, 1) != 1)
                        _exit(1);
        }
        /* No end comes behind them, which would be an event. */
        for (;;)
                (void) pause();
}

static void on_tick(EventTimer *timer) {
        (void) timer;
}

/* The pipe is full whenever the reader has taken some: what fits in then is a few bytes, and there is more, of which no event will tell. */
static void test_short_pieces(void) {
        g_autoptr(Events) events = events_new(NULL);
        g_autoptr(SplicePipes) pipes = splice_pipes_new(events);
        Splice splice = { .ended = on_ended };
        EventTimer tick = { .fire = on_tick, .at = -1 };
        int in[2], out[2];
        size_t got = 0;
        char buf[STEP];

        tcp_pair(in);
        tcp_pair(out);
        _cleanup_close_ int file = memfd_create("pages", MFD_CLOEXEC);
        g_assert_true(ftruncate(file, PAGES * PAGE) == 0);
        g_assert_true(fcntl(out[0], F_SETFL, O_NONBLOCK) == 0);
        pid_t sender = start_sender(in[0], file);
        close(in[0]);
        events_add_timer(events, &tick);
        splice_init(&splice, events, pipes);
        g_assert_true(splice_watch_take(&splice, SPLICE_BOX, in[1], NULL) && splice_watch_take(&splice, SPLICE_HOST, out[0], NULL));
        splice_start(&splice);
        /* A turn waits for an event at most until the tick; the reader is slow: much of the time all is full. */
        gint64 moved = g_get_monotonic_time();
        for (ssize_t n; got < PAGES * PAGE + SHORT;) {
                tick.at = events_now(events) + 1;
                g_assert_true(events_turn(events, NULL));
                n = recv(out[1], buf, sizeof buf, MSG_DONTWAIT);
                if (n > 0) {
                        got += (size_t) n;
                        moved = g_get_monotonic_time();
                } else {
                        g_assert_true(n < 0 && errno == EAGAIN);
                        g_assert_cmpint(g_get_monotonic_time() - moved, <, 20 * G_USEC_PER_SEC); /* else it stands still */
                }
        }
        splice_close(&splice, false);
        close(out[1]);
        (void) kill(sender, SIGKILL);
        g_assert_cmpint(waitpid(sender, NULL, 0), ==, sender);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net/splice/short-pieces", test_short_pieces);
        return g_test_run();
}
