/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes of odd shapes and races, for whoever serves the root: each ends in a change of the host's canary/PROBE, if it is not kept from it.
 * What they do before that is to bring the helper from its path: names of 255 bytes, paths of 4 KiB, chains of symlinks, several processes
 * that rename, unlink, truncate and mark one file at a time.
 *
 * Role: tests only, runs as the payload, in the working directory that the suite made. Privileges: what the box gives. Threads: one;
 * races are between processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "probe.h"

enum { ROUNDS = 150, RACERS = 3 };

#define IN(id) "canary/" #id

static long touch(const char *path) {
        int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
        if (fd < 0)
                return -1;
        long ret = write(fd, "owned", 5);
        close(fd);
        return ret;
}

static long probe_shape_long_name(void) {
        char name[NAME_MAX + 1];
        memset(name, 'x', NAME_MAX);
        name[NAME_MAX] = 0;
        return chdir(IN(shape_long_name)) < 0 ? -1 : touch(name);
}
/* Of every byte that a name may have. */
static long probe_shape_odd_bytes(void) {
        char name[2] = "";
        if (chdir(IN(shape_odd_bytes)) < 0)
                return -1;
        for (int byte = 1; byte < 256; byte++) {
                *name = (char) byte;
                if (byte != '/' && byte != '.' && touch(name) < 0)
                        return -1;
        }
        return 0;
}
/* One path as long as the kernel takes it, and then another level below it. */
static long probe_shape_long_path(void) {
        char name[NAME_MAX + 1];
        memset(name, 'y', NAME_MAX);
        name[NAME_MAX] = 0;
        if (chdir(IN(shape_long_path)) < 0)
                return -1;
        for (int i = 0; i < 17; i++)
                if (mkdir(name, 0755) < 0 || chdir(name) < 0)
                        return -1;
        return touch(name);
}
/* 64 symlinks, each to the one before: the first 40 of them may be followed. */
static long probe_shape_symlinks(void) {
        char name[16], before[16] = "file";
        if (chdir(IN(shape_symlinks)) < 0)
                return -1;
        for (int i = 0; i < 64; i++) {
                snprintf(name, sizeof name, "l%d", i);
                if (symlink(before, name) < 0)
                        return -1;
                snprintf(before, sizeof before, "%s", name);
        }
        if (open("l63", O_RDONLY | O_CLOEXEC) >= 0)
                return reached("followed 64 symlinks");
        return touch("l30");
}
static long probe_shape_huge_xattr(void) {
        static char value[65536];
        memset(value, 'v', sizeof value);
        size_t size = sizeof value;
        while (size > 0 && setxattr(IN(shape_huge_xattr) "/file", "user.huge", value, size, 0) < 0)
                size /= 2;
        return size > 0 ? reached("%zu bytes", size) : -1;
}
static long probe_shape_sparse(void) {
        int fd = open(IN(shape_sparse) "/file", O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -1 : pwrite(fd, "x", 1, ((off_t) 1 << 40) + 1);
}

/* Runs step() in some processes that are in each other's way; what they are refused is no matter, that they end is. */
static long race(const char *dir, void (*step)(int racer, int round)) {
        pid_t racers[RACERS];
        long ret = 0;
        if (chdir(dir) < 0)
                return -1;
        for (int i = 0; i < RACERS; i++) {
                racers[i] = fork();
                if (racers[i] < 0)
                        return -1;
                for (int round = 0; racers[i] == 0 && round < ROUNDS; round++)
                        step(i, round);
                if (racers[i] == 0)
                        _exit(0);
        }
        for (int i = 0; i < RACERS; i++) {
                int status = 0;
                if (waitpid(racers[i], &status, 0) < 0 || status != 0)
                        ret = -1;
        }
        return ret;
}

static void rename_step(int racer, int round) {
        static const char *const names[] = { "file", "a", "b", "d/file" };
        (void) mkdir("d", 0755);
        (void) renameat2(AT_FDCWD, names[(racer + round) % 4], AT_FDCWD, names[(racer + round + 1) % 4], round % 3 == 0 ? RENAME_EXCHANGE : 0);
        (void) rename(round % 2 == 0 ? "d" : "e", round % 2 == 0 ? "e" : "d");
}
static long probe_race_rename(void) {
        return race(IN(race_rename), rename_step);
}
static void unlink_step(int racer, int round) {
        if (racer == 0)
                (void) unlink("file");
        else if (racer == 1)
                (void) touch("file");
        else
                (void) !link("file", round % 2 ? "a" : "b");
        (void) unlink(round % 2 ? "b" : "a");
}
static long probe_race_unlink(void) {
        return race(IN(race_unlink), unlink_step);
}
static void truncate_step(int racer, int round) {
        char data[8192];
        int fd = open("file", O_RDWR | O_CLOEXEC | (racer == 2 ? O_TRUNC : 0));
        memset(data, 'a' + racer, sizeof data);
        if (fd < 0)
                return;
        (void) !pwrite(fd, data, sizeof data, round * 512);
        (void) !ftruncate(fd, (off_t) round * 37);
        (void) !pread(fd, data, sizeof data, 0);
        close(fd);
}
static long probe_race_truncate(void) {
        return race(IN(race_truncate), truncate_step);
}
static void xattr_step(int racer, int round) {
        char name[32], value[64];
        snprintf(name, sizeof name, "user.%d", (racer + round) % 5);
        memset(value, 'v', sizeof value);
        (void) setxattr("file", name, value, (size_t) round % sizeof value, 0);
        (void) listxattr("file", value, sizeof value);
        (void) removexattr("file", name);
        (void) chmod("file", round % 2 ? 0600 : 0644);
        if (round == ROUNDS - 1)
                (void) setxattr("file", "user.last", "x", 1, 0);
}
static long probe_race_xattr(void) {
        return race(IN(race_xattr), xattr_step);
}
/* The first change of a file, which copies it, by several at once, through names that move. */
static void copy_step(int racer, int round) {
        char name[32];
        snprintf(name, sizeof name, "many/%d", round);
        (void) !(racer == 0 ? truncate(name, 1) : racer == 1 ? chmod(name, 0600) : rename(name, "many/target"));
        (void) rename(round % 2 ? "many" : "more", round % 2 ? "more" : "many");
}
static long probe_race_copy(void) {
        return race(IN(race_copy), copy_step);
}

const Probe shapes_probes[] = {
        PROBE(shape_long_name), PROBE(shape_odd_bytes), PROBE(shape_long_path), PROBE(shape_symlinks), PROBE(shape_huge_xattr), PROBE(shape_sparse),
        PROBE(race_rename),     PROBE(race_unlink),     PROBE(race_truncate),   PROBE(race_xattr),     PROBE(race_copy),
        { NULL, NULL },
};
