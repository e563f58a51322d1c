/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File system work for tests/bench/fs whose cost must be the file system's alone: it times itself and prints microseconds.
 *
 *   fsload write FILE BLOCK TOTAL     a new file, TOTAL bytes in BLOCK-sized writes, closed
 *   fsload overwrite FILE BLOCK TOTAL the same in a file that is there, in place
 *   fsload read FILE BLOCK            from the beginning to the end
 *   fsload append FILE                one byte
 *   fsload readall DIR                every file below DIR, in the order of the directories
 *   fsload churn DIR COUNT            COUNT empty files made in DIR, then removed
 *   fsload stat|open|create DIR LIST PROCESSES
 *                                     what LIST names (one path a line, relative to DIR) is looked at, read or made with 100
 *                                     bytes in it, by PROCESSES at once, which take turns down the list
 *   fsload ready PATH CMD...          from the start of CMD until a stat(2) of PATH succeeds; CMD must go to the background
 *
 * Role: benchmark only. Privileges: none needed. Threads: one in each process. Any error ends it with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE ((size_t) 128 * 1024) /* as cat and tar read */
#define MAX_BLOCK ((size_t) 1024 * 1024)
#define READY_TIMEOUT_US 30e6

extern char **environ;

static char buffer[MAX_BLOCK];

static double now_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

static _Noreturn void die(const char *what) {
        fprintf(stderr, "fsload: %s: %s\n", what, strerror(errno));
        exit(1);
}

static size_t number(const char *text, size_t most) {
        char *end;

        errno = 0;
        unsigned long n = strtoul(text, &end, 10);
        if (errno != 0 || *end != '\0' || n == 0 || n > most) {
                errno = EINVAL;
                die(text);
        }
        return n;
}

static void write_blocks(int fd, const char *path, size_t block, size_t total) {
        for (size_t done = 0; done < total; done += block)
                if (write(fd, buffer, block) != (ssize_t) block)
                        die(path);
        if (close(fd) < 0)
                die(path);
}

static void write_file(const char *path, int flags, size_t block, size_t total) {
        int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
        if (fd < 0)
                die(path);
        write_blocks(fd, path, block, total);
}

static void read_file(const char *path, size_t block) {
        ssize_t n;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                die(path);
        while ((n = read(fd, buffer, block)) > 0)
                ;
        if (n < 0)
                die(path);
        close(fd);
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) ftw;
        if (type == FTW_NS || type == FTW_DNR) {
                errno = EACCES;
                die(path);
        }
        if (type == FTW_F)
                read_file(path, READ_SIZE);
        return 0;
}

static void churn(const char *dir, size_t count) {
        char name[32];

        if (chdir(dir) < 0)
                die(dir);
        for (size_t i = 0; i < count; i++) {
                snprintf(name, sizeof name, "churn-%zu", i);
                int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
                if (fd < 0)
                        die(name);
                close(fd);
        }
        for (size_t i = 0; i < count; i++) {
                snprintf(name, sizeof name, "churn-%zu", i);
                if (unlink(name) < 0)
                        die(name);
        }
}

static char **read_list(const char *path, size_t *count) {
        char **lines = NULL, *line = NULL;
        size_t n = 0, room = 0, size = 0;
        ssize_t length;
        FILE *f = fopen(path, "re");

        if (!f)
                die(path);
        while ((length = getline(&line, &size, f)) > 0) {
                if (line[length - 1] == '\n')
                        line[length - 1] = '\0';
                if (n == room) {
                        room = room ? room * 2 : 1024;
                        lines = realloc(lines, room * sizeof *lines);
                        if (!lines)
                                die("memory");
                }
                lines[n] = strdup(line);
                if (!lines[n++])
                        die("memory");
        }
        free(line);
        fclose(f);
        *count = n;
        return lines;
}

static void one_of_list(const char *what, const char *path) {
        struct stat st;

        if (strcmp(what, "open") == 0)
                read_file(path, READ_SIZE);
        else if (strcmp(what, "create") == 0)
                write_file(path, O_CREAT | O_EXCL, 100, 100);
        else if (lstat(path, &st) < 0)
                die(path);
}

/* Returns the time from when all processes were let go until the last has ended. */
static double each(const char *what, const char *dir, const char *list, size_t processes) {
        size_t count;
        char **paths = read_list(list, &count), byte;
        int gate[2];

        if (chdir(dir) < 0)
                die(dir);
        if (pipe2(gate, O_CLOEXEC) < 0)
                die("pipe");
        for (size_t k = 0; k < processes; k++) {
                pid_t pid = fork();
                if (pid < 0)
                        die("fork");
                if (pid > 0)
                        continue;
                close(gate[1]);
                if (read(gate[0], &byte, 1) < 0)
                        die("pipe");
                for (size_t i = k; i < count; i += processes)
                        one_of_list(what, paths[i]);
                _exit(0);
        }
        usleep(20000); /* all of them wait at the gate */
        double start = now_us();
        close(gate[1]);
        for (size_t k = 0; k < processes; k++) {
                int status;
                if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                        fprintf(stderr, "fsload: a process failed\n");
                        exit(1);
                }
        }
        double took = now_us() - start;
        for (size_t i = 0; i < count; i++)
                free(paths[i]);
        free(paths);
        close(gate[0]);
        return took;
}

static double ready(const char *path, char **argv) {
        const struct timespec pause = { .tv_nsec = 50000 };
        struct stat st;
        pid_t pid;
        double start = now_us();
        int r = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

        if (r != 0) {
                errno = r;
                die(argv[0]);
        }
        while (stat(path, &st) < 0) {
                siginfo_t ended = { 0 };
                if (waitid(P_PID, (id_t) pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == pid &&
                    (ended.si_code != CLD_EXITED || ended.si_status != 0)) {
                        fprintf(stderr, "fsload: %s failed\n", argv[0]);
                        exit(1);
                }
                if (errno != ENOENT && errno != ENOTCONN)
                        die(path);
                if (now_us() - start > READY_TIMEOUT_US) {
                        errno = ETIMEDOUT;
                        die(path);
                }
                nanosleep(&pause, NULL);
        }
        double took = now_us() - start;
        int status;
        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "fsload: %s failed\n", argv[0]);
                exit(1);
        }
        return took;
}

int main(int argc, char **argv) {
        const char *what = argc > 1 ? argv[1] : "";
        double took = -1;

        memset(buffer, 'x', sizeof buffer);
        double start = now_us();
        if (strcmp(what, "write") == 0 && argc == 5)
                write_file(argv[2], O_CREAT | O_EXCL, number(argv[3], MAX_BLOCK), number(argv[4], SIZE_MAX));
        else if (strcmp(what, "overwrite") == 0 && argc == 5)
                write_file(argv[2], 0, number(argv[3], MAX_BLOCK), number(argv[4], SIZE_MAX));
        else if (strcmp(what, "read") == 0 && argc == 4)
                read_file(argv[2], number(argv[3], MAX_BLOCK));
        else if (strcmp(what, "append") == 0 && argc == 3)
                write_file(argv[2], O_APPEND, 1, 1);
        else if (strcmp(what, "readall") == 0 && argc == 3) {
                if (nftw(argv[2], visit, 64, FTW_PHYS) < 0)
                        die(argv[2]);
        } else if (strcmp(what, "churn") == 0 && argc == 4)
                churn(argv[2], number(argv[3], SIZE_MAX));
        else if ((strcmp(what, "stat") == 0 || strcmp(what, "open") == 0 || strcmp(what, "create") == 0) && argc == 5)
                took = each(what, argv[2], argv[3], number(argv[4], 1024));
        else if (strcmp(what, "ready") == 0 && argc > 3)
                took = ready(argv[2], argv + 3);
        else {
                fputs("usage: see the beginning of fsload.c\n", stderr);
                return 2;
        }
        printf("%.0f\n", took < 0 ? now_us() - start : took);
        return 0;
}
