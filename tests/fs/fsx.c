/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One file, hammered: reads, writes, mappings, truncations, holes and copies at random places and sizes, each compared with what a
 * buffer in memory says (the method of the fsx of old). `fsx FILE SEED OPERATIONS`: the file's present content is where it starts.
 *
 * Role: tests only. Privileges: the caller's. Threads: one. Every so often the file is opened anew, synced, or read by O_DIRECT, so that what is
 * in the page cache, in the server and on the disk are held against each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX = 1 << 20, BLOCK = 4096 };

static unsigned char good[MAX], *seen;
static size_t size;
static uint64_t rng;
static long step;
static const char *path;
static int fd;

static size_t below(size_t n) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        return n > 0 ? (size_t) ((rng * 0x2545F4914F6CDD1Dull >> 20) % n) : 0;
}

__attribute__((noreturn)) static void fail(const char *what, size_t at, size_t n) {
        fprintf(stderr, "operation %ld: %s at %zu, %zu bytes, of %zu: %s\n", step, what, at, n, size,
                errno != 0 ? strerror(errno) : "wrong");
        exit(1);
}

static void compare(const char *what, const unsigned char *data, size_t at, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (data[i] != good[at + i]) {
                        errno = 0;
                        fprintf(stderr, "byte %zu is %#x and should be %#x; ", at + i, data[i], good[at + i]);
                        fail(what, at, n);
                }
}

static void grown(size_t to) {
        if (to > size) {
                memset(good + size, 0, to - size);
                size = to;
        }
}

static void open_anew(int more) {
        if (fd >= 0)
                close(fd);
        fd = open(path, O_RDWR | O_CLOEXEC | more);
        if (fd < 0)
                fail("open", 0, 0);
}

static void read_some(void) {
        size_t at = below(size), n = below(size - at + 1);

        if (pread(fd, seen, n, (off_t) at) != (ssize_t) n)
                fail("read", at, n);
        compare("read", seen, at, n);
}

static void read_directly(void) {
        size_t at = below(size) / BLOCK * BLOCK, n = (below(8) + 1) * BLOCK;
        ssize_t r;
        int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

        if (direct < 0) {
                if (errno != EINVAL)
                        fail("open directly", 0, 0);
                return;
        }
        r = pread(direct, seen, n, (off_t) at);
        if (r != (ssize_t) (size - at < n ? size - at : n))
                fail("read directly", at, n);
        compare("read directly", seen, at, (size_t) r);
        close(direct);
}

static void write_some(void) {
        size_t at = below(MAX * 3 / 4), n = below(below(3) == 0 ? 100000 : 5000);

        for (size_t i = 0; i < n; i++)
                seen[i] = (unsigned char) (step * 31 + (long) i * 7);
        if (pwrite(fd, seen, n, (off_t) at) != (ssize_t) n)
                fail("write", at, n);
        if (n > 0)
                grown(at + n);
        memcpy(good + at, seen, n);
}

static void through_a_mapping(int writing) {
        unsigned char *map;
        size_t at = below(size), n = below(size - at < 50000 ? size - at : 50000);

        if (size == 0)
                return;
        map = mmap(NULL, size, PROT_READ | (writing ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                fail("mmap", 0, size);
        if (writing) {
                memset(map + at, (int) step, n);
                memset(good + at, (int) step, n);
                if (below(4) == 0)
                        msync(map, size, MS_SYNC);
        } else
                compare("mapped read", map + at, at, n);
        munmap(map, size);
}

static void truncate_it(void) {
        size_t to = below(MAX * 3 / 4);

        if (ftruncate(fd, (off_t) to) < 0)
                fail("truncate", to, 0);
        if (to < size)
                size = to;
        grown(to);
}

static void allocate(void) {
        static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_ZERO_RANGE,
                                     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
        int mode = modes[below(5)];
        size_t at = below(MAX / 2), n = 1 + below(MAX / 8), end = at + n;

        if (fallocate(fd, mode, (off_t) at, (off_t) n) < 0)
                fail("fallocate", at, n);
        if ((mode & FALLOC_FL_KEEP_SIZE) == 0)
                grown(end);
        if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0 && at < size)
                memset(good + at, 0, (end < size ? end : size) - at);
}

static void copy_within(void) {
        size_t n = below(30000), from = below(size / 2), to = size / 2 + below(MAX / 4);
        loff_t in = (loff_t) from, out = (loff_t) to;
        ssize_t r;

        if (from + n > to || from + n > size)
                return;
        r = copy_file_range(fd, &in, fd, &out, n, 0);
        if (r < 0)
                fail("copy_file_range", from, n);
        if (r > 0)
                grown(to + (size_t) r);
        memcpy(good + to, good + from, (size_t) r);
}

static void holes(void) {
        off_t at = (off_t) below(size), data;

        if (size == 0)
                return;
        data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
                fail("SEEK_DATA", (size_t) at, 0);
        for (size_t i = (size_t) at; i < (data < 0 ? size : (size_t) data); i++)
                if (good[i] != 0) {
                        errno = 0;
                        fail("a hole where data is", i, 1);
                }
}

int main(int argc, char **argv) {
        struct stat st;
        long steps = argc == 4 ? atol(argv[3]) : 0;

        if (steps <= 0) {
                fprintf(stderr, "usage: fsx FILE SEED OPERATIONS\n");
                return 2;
        }
        path = argv[1];
        rng = (uint64_t) atol(argv[2]) * 0x9E3779B97F4A7C15ull + 1;
        if (posix_memalign((void **) &seen, BLOCK, MAX) != 0)
                return 2;
        fd = -1;
        open_anew(0);
        if (fstat(fd, &st) < 0 || st.st_size > MAX || pread(fd, good, MAX, 0) != st.st_size)
                fail("the start", 0, 0);
        size = (size_t) st.st_size;
        for (step = 0; step < steps; step++) {
                errno = 0;
                switch (below(14)) {
                case 0:
                case 1:
                case 2:
                        read_some();
                        break;
                case 3:
                case 4:
                case 5:
                        write_some();
                        break;
                case 6:
                        through_a_mapping(0);
                        break;
                case 7:
                        through_a_mapping(1);
                        break;
                case 8:
                        truncate_it();
                        break;
                case 9:
                        allocate();
                        break;
                case 10:
                        copy_within();
                        break;
                case 11:
                        holes();
                        break;
                case 12:
                        if (below(4) == 0)
                                open_anew(0);
                        else if (below(2) == 0 ? fsync(fd) < 0 : fdatasync(fd) < 0)
                                fail("fsync", 0, 0);
                        break;
                default:
                        read_directly();
                }
                if (fstat(fd, &st) < 0 || (size_t) st.st_size != size) {
                        errno = 0;
                        fail("the size", (size_t) st.st_size, 0);
                }
        }
        open_anew(0);
        if (pread(fd, seen, MAX, 0) != (ssize_t) size)
                fail("the end", 0, size);
        compare("the end", seen, 0, size);
        if (fwrite(good, 1, size, stdout) != size) /* for whoever compares after a remount */
                return 2;
        return 0;
}
