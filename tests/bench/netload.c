/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * netload: load for tests/bench/net, and what became of it.
 *
 * netload server PORT
 * netload up|down HOST PORT SECONDS STREAMS    Gb/s that arrived
 * netload rr HOST PORT SECONDS IDLE            request-response of 64 bytes beside IDLE open connections: p50 and p99 in µs
 * netload crr HOST PORT SECONDS                connect, request, response, close: how many in a second
 * netload udp HOST PORT SECONDS SIZE           Gb/s that arrived of the fastest rate of which a tenth was lost at most
 * netload hold HOST PORT SECONDS COUNT         keep COUNT connections open that have carried 256 KiB each way; says "held" when they are
 *
 * What a connection is for is its first byte: e: echo, o: one answer (the server closes, so that the client's ports do not run out
 * in TIME_WAIT), s: take all and say how much it was, g: send without end,
 * u: say how many bytes came by UDP since the last time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define REQUEST 64
#define REQUEST_LARGE (32 * 1024)
#define SAMPLES_MAX 2000000

static uint64_t udp_bytes;
static struct sockaddr_storage target;
static socklen_t target_len;
static double seconds;

static _Noreturn void die(const char *what) {
        perror(what);
        exit(1);
}

static double now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static int read_all(int fd, void *buf, size_t len) {
        for (size_t at = 0; at < len;) {
                ssize_t n = read(fd, (char *) buf + at, len - at);
                if (n <= 0)
                        return -1;
                at += (size_t) n;
        }
        return 0;
}

/* --- server -------------------------------------------------------------------------------------------------------- */

static void *serve(void *arg) {
        int fd = (int) (intptr_t) arg, one = 1;
        char *buf = calloc(1, CHUNK), what;
        uint64_t total = 0;
        ssize_t n;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (read(fd, &what, 1) != 1)
                what = 0;
        switch (what) {
        case 'e':
                while ((n = read(fd, buf, CHUNK)) > 0 && write(fd, buf, (size_t) n) == n)
                        ;
                break;
        case 'o':
                if (read_all(fd, buf, REQUEST) == 0 && write(fd, buf, REQUEST) < 0)
                        break;
                break;
        case 's':
                while ((n = read(fd, buf, CHUNK)) > 0)
                        total += (uint64_t) n;
                if (write(fd, &total, sizeof total) < 0)
                        break;
                break;
        case 'g':
                while (write(fd, buf, CHUNK) > 0)
                        ;
                break;
        case 'u':
                total = __atomic_exchange_n(&udp_bytes, 0, __ATOMIC_RELAXED);
                if (write(fd, &total, sizeof total) < 0)
                        break;
                break;
        default:
                break;
        }
        close(fd);
        free(buf);
        return NULL;
}

static void *count_udp(void *arg) {
        int fd = (int) (intptr_t) arg;
        char buf[65536];
        ssize_t n;

        while ((n = recv(fd, buf, sizeof buf, 0)) >= 0)
                __atomic_fetch_add(&udp_bytes, (uint64_t) n, __ATOMIC_RELAXED);
        return NULL;
}

static int server(int port) {
        struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port) };
        int tcp = socket(AF_INET6, SOCK_STREAM, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0), one = 1, size = 4 << 20;
        pthread_attr_t attr;
        pthread_t thread;

        setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        if (bind(tcp, (struct sockaddr *) &addr, sizeof addr) < 0 || listen(tcp, 4096) < 0 || bind(udp, (struct sockaddr *) &addr, sizeof addr) < 0)
                die("server");
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, 128 * 1024);
        pthread_create(&thread, &attr, count_udp, (void *) (intptr_t) udp);
        puts("ready");
        fflush(stdout);
        for (;;) {
                int fd = accept(tcp, NULL, NULL);
                if (fd >= 0 && pthread_create(&thread, &attr, serve, (void *) (intptr_t) fd) != 0)
                        close(fd);
        }
}

/* --- clients ------------------------------------------------------------------------------------------------------- */

static int open_for(char what) {
        int fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
        if (fd < 0 || connect(fd, (struct sockaddr *) &target, target_len) < 0)
                die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (write(fd, &what, 1) != 1)
                die("write");
        return fd;
}

static void *stream_up(void *arg) {
        uint64_t *total = arg;
        char *buf = calloc(1, CHUNK);
        int fd = open_for('s');
        double end = now() + seconds;

        while (now() < end)
                if (write(fd, buf, CHUNK) < 0)
                        die("write");
        shutdown(fd, SHUT_WR);
        if (read_all(fd, total, sizeof *total) < 0)
                die("read");
        close(fd);
        free(buf);
        return NULL;
}

static void *stream_down(void *arg) {
        uint64_t *total = arg;
        char *buf = malloc(CHUNK);
        int fd = open_for('g');
        double end = now() + seconds;

        while (now() < end) {
                ssize_t n = read(fd, buf, CHUNK);
                if (n <= 0)
                        die("read");
                *total += (uint64_t) n;
        }
        close(fd);
        free(buf);
        return NULL;
}

static void streams(void *(*body)(void *), int count) {
        pthread_t threads[64];
        uint64_t totals[64] = { 0 }, sum = 0;
        double start = now();

        for (int i = 0; i < count && i < 64; i++)
                pthread_create(&threads[i], NULL, body, &totals[i]);
        for (int i = 0; i < count && i < 64; i++) {
                pthread_join(threads[i], NULL);
                sum += totals[i];
        }
        printf("%.4f\n", (double) sum * 8 / (now() - start) / 1e9);
}

/* used: bytes that each carries before. */
static void hold(int count, size_t used) {
        char *buf = calloc(1, CHUNK);
        struct rlimit limit;

        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int i = 0; i < count; i++) {
                int fd = open_for('e');
                for (size_t at = 0; at < used; at += REQUEST_LARGE)
                        if (write(fd, buf, REQUEST_LARGE) != REQUEST_LARGE || read_all(fd, buf, REQUEST_LARGE) < 0)
                                die("request");
        }
        free(buf);
}

static int compare(const void *a, const void *b) {
        float x = *(const float *) a, y = *(const float *) b;
        return (x > y) - (x < y);
}

static void request_response(int idle) {
        float *samples = malloc(SAMPLES_MAX * sizeof *samples);
        char buf[REQUEST] = { 0 };
        size_t n = 0;

        hold(idle, 0);
        int fd = open_for('e');
        double end = now() + seconds;
        for (double start = now(); start < end && n < SAMPLES_MAX; n++) {
                if (write(fd, buf, sizeof buf) != sizeof buf || read_all(fd, buf, sizeof buf) < 0)
                        die("request");
                double after = now();
                samples[n] = (float) ((after - start) * 1e6);
                start = after;
        }
        qsort(samples, n, sizeof *samples, compare);
        printf("%.1f %.1f\n", (double) samples[n / 2], (double) samples[n * 99 / 100]);
}

static void connections(void) {
        char buf[REQUEST] = { 0 };
        double end = now() + seconds;
        size_t n = 0;

        for (; now() < end; n++) {
                int fd = open_for('o');
                if (write(fd, buf, sizeof buf) != sizeof buf || read_all(fd, buf, sizeof buf) < 0 || read(fd, buf, 1) != 0)
                        die("request");
                close(fd);
        }
        printf("%.0f\n", (double) n / seconds);
}

static uint64_t udp_arrived(void) {
        uint64_t total;
        int fd = open_for('u');
        if (read_all(fd, &total, sizeof total) < 0)
                die("read");
        close(fd);
        return total;
}

/* Paced by bursts of up to a millisecond's worth. What cannot be sent (a full queue, an error of an earlier one) is lost like any other. */
static double udp_at(int fd, double gbps, size_t size, double duration, double *loss) {
        char buf[65536] = { 0 };
        double start = now(), rate = gbps * 1e9 / 8, sent = 0;

        (void) udp_arrived();
        for (double t = start; t < start + duration; t = now()) {
                for (; sent < (t - start) * rate; sent += (double) size)
                        (void) !send(fd, buf, size, 0);
                struct timespec pause = { .tv_nsec = 200000 };
                nanosleep(&pause, NULL);
        }
        double took = now() - start;
        usleep(100000);
        double arrived = (double) udp_arrived();
        *loss = 1 - arrived / sent;
        return arrived * 8 / took / 1e9;
}

/* Of which less than a tenth is lost? Asked twice: another process may have had the processor. */
static bool udp_arrives(int fd, double gbps, size_t size, double *ret_got) {
        for (int i = 0; i < 2; i++) {
                double loss, got = udp_at(fd, gbps, size, seconds, &loss);
                if (loss <= 0.1) {
                        *ret_got = got;
                        return true;
                }
        }
        return false;
}

static void datagrams(size_t size) {
        int fd = socket(target.ss_family, SOCK_DGRAM, 0);
        double low = 0.02, high = 20, best = 0, got;

        if (connect(fd, (struct sockaddr *) &target, target_len) < 0)
                die("connect");
        /* Doubled until too much is lost, and then the rate in between. */
        for (double gbps = low; gbps < high; gbps *= 2)
                if (udp_arrives(fd, gbps, size, &got)) {
                        low = gbps;
                        best = got;
                } else
                        high = gbps;
        for (int i = 0; i < 4; i++) {
                double gbps = (low + high) / 2;
                if (udp_arrives(fd, gbps, size, &got)) {
                        low = gbps;
                        best = got > best ? got : best;
                } else
                        high = gbps;
        }
        printf("%.4f\n", best);
}

int main(int argc, char **argv) {
        signal(SIGPIPE, SIG_IGN);
        if (argc == 3 && strcmp(argv[1], "server") == 0)
                return server(atoi(argv[2]));
        if (argc < 5)
                return 2;
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *info;
        if (getaddrinfo(argv[2], argv[3], &hints, &info) != 0)
                return 2;
        memcpy(&target, info->ai_addr, info->ai_addrlen);
        target_len = info->ai_addrlen;
        seconds = atof(argv[4]);
        int arg = argc > 5 ? atoi(argv[5]) : 0;

        if (strcmp(argv[1], "up") == 0)
                streams(stream_up, arg);
        else if (strcmp(argv[1], "down") == 0)
                streams(stream_down, arg);
        else if (strcmp(argv[1], "rr") == 0)
                request_response(arg);
        else if (strcmp(argv[1], "crr") == 0)
                connections();
        else if (strcmp(argv[1], "udp") == 0)
                datagrams((size_t) arg);
        else if (strcmp(argv[1], "hold") == 0) {
                hold(arg, CHUNK);
                puts("held");
                fflush(stdout);
                usleep((useconds_t) (seconds * 1e6));
        } else
                return 2;
        return 0;
}
