/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long commands take, side by side: `spawnbench ROUNDS :: [@ready|@leaves] LABEL CMD... [:: LABEL CMD...]...`.
 *
 * Role: benchmark only. Privileges: none needed. Threads: one. Each round runs every command once, the order turned by one from
 * round to round, so that a machine's moods meet all of them alike. Measured from before posix_spawn(3) until the command was
 * reaped, or, with @ready, until it wrote to descriptor 3; it is then ended. What it leaves behind (bubblewrap does not await its own child) comes to us and
 * is awaited, so that it neither is in the next one's way nor gets its processor time for nothing; with @leaves it is what the command was to start, and is
 * ended. Prints "LABEL median p10 p90 least cpu" in microseconds; cpu is the median of the time that all processes of a command took of processors.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_COMMANDS 24
#define WARM_UP 3

extern char **environ;

typedef struct {
        const char *label;
        char **argv;
        bool ready, leaves;
        double *samples, *cpu;
} Command;

static double now_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

static void die(const char *what, int error) {
        fprintf(stderr, "spawnbench: %s: %s\n", what, strerror(error));
        exit(1);
}

/* What all that was reaped so far took. */
static double cpu_us(void) {
        struct rusage u;
        getrusage(RUSAGE_CHILDREN, &u);
        return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Processes that have come to us. */
static void end_children(void) {
        FILE *f = fopen("/proc/thread-self/children", "re");
        char pids[4096];

        if (!f)
                die("/proc/thread-self/children", errno);
        char *at = fgets(pids, sizeof pids, f);
        for (long pid; at && (pid = strtol(at, &at, 10)) > 0;)
                kill((pid_t) pid, SIGKILL);
        fclose(f);
}

static double measure(const Command *c) {
        posix_spawn_file_actions_t actions;
        int ready[2] = { -1, -1 };
        pid_t pid;
        char byte;

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        if (c->ready) {
                if (pipe2(ready, O_CLOEXEC) < 0)
                        die("pipe", errno);
                posix_spawn_file_actions_adddup2(&actions, ready[1], 3);
        }

        double start = now_us();
        int r = posix_spawnp(&pid, c->argv[0], &actions, NULL, c->argv, environ);
        if (r != 0)
                die(c->argv[0], r);
        if (c->ready) {
                close(ready[1]);
                ssize_t n = read(ready[0], &byte, 1);
                if (n != 1)
                        die(c->label, n < 0 ? errno : EPIPE);
        }
        int status = 0;
        if (!c->ready)
                waitpid(pid, &status, 0);
        double took = now_us() - start;
        if (c->ready) {
                kill(pid, SIGTERM);
                waitpid(pid, NULL, 0);
                close(ready[0]);
        } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "spawnbench: %s did not succeed (status %#x)\n", c->label, (unsigned) status);
                exit(1);
        }
        if (c->leaves)
                end_children();
        while (waitpid(-1, NULL, 0) > 0)
                ;
        posix_spawn_file_actions_destroy(&actions);
        return took;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return (x > y) - (x < y);
}

int main(int argc, char **argv) {
        Command commands[MAX_COMMANDS];
        size_t n = 0;
        int rounds = argc > 1 ? atoi(argv[1]) : 0;

        if (rounds < 1 || argc < 5) {
                fputs("usage: spawnbench ROUNDS :: [@ready|@leaves] LABEL CMD... [:: LABEL CMD...]...\n", stderr);
                return 2;
        }
        for (int i = 2; i < argc; i++) {
                if (strcmp(argv[i], "::") != 0)
                        continue;
                argv[i] = NULL; /* ends the command before */
                if (n == MAX_COMMANDS || i + 2 >= argc)
                        die("commands", EINVAL);
                Command *c = &commands[n++];
                c->ready = strcmp(argv[i + 1], "@ready") == 0;
                c->leaves = strcmp(argv[i + 1], "@leaves") == 0;
                i += c->ready || c->leaves;
                c->label = argv[i + 1];
                c->argv = &argv[i + 2];
                c->samples = calloc((size_t) rounds, sizeof *c->samples);
                c->cpu = calloc((size_t) rounds, sizeof *c->cpu);
                if (!c->samples || !c->cpu)
                        die("memory", ENOMEM);
        }
        if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
                die("prctl", errno);
        for (int round = -WARM_UP; round < rounds; round++)
                for (size_t k = 0; k < n; k++) {
                        Command *c = &commands[(k + (size_t) (round + WARM_UP)) % n];
                        double before = cpu_us(), took = measure(c);
                        if (round < 0)
                                continue;
                        c->samples[round] = took;
                        c->cpu[round] = cpu_us() - before;
                }
        for (size_t k = 0; k < n; k++) {
                Command *c = &commands[k];
                qsort(c->samples, (size_t) rounds, sizeof *c->samples, compare);
                qsort(c->cpu, (size_t) rounds, sizeof *c->cpu, compare);
                printf("%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", c->label, c->samples[rounds / 2], c->samples[rounds / 10], c->samples[rounds * 9 / 10],
                       c->samples[0], c->cpu[rounds / 2]);
                free(c->samples);
                free(c->cpu);
        }
        return 0;
}
