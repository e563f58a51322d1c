/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model checker of usbox-fs: random operations, each done twice, on the mount and on a plain directory tree (the oracle) that
 * starts as what the mount shows. Errors, results, attributes and contents must agree after each of them, the whole trees from time
 * to time. Anything else is a bug of the mount, printed with the seed and the operations that led there.
 *
 * Role: tests only; run by tests/fs/test_model.py, which makes the layers and mounts. Privileges: the caller's. Threads: with
 * --threads N, N of them, each in a subtree of its own and with its own state; trees are compared, and the mount is remounted,
 * between rounds, when none of them runs.
 *
 * "remount" or "kill" on a line of stdout asks the caller to mount again, the latter after SIGKILL of the server; it answers with a line
 * on stdin. Before a kill everything is synced, so that the oracle says what must be there.
 *
 * With --ids 1 owners are changed as well: for the root of a user namespace of many ids.
 *
 * Every operation is a line of text (--log writes, --replay reads them), so that a failing sequence can be cut down.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { MOUNT, ORACLE, SIDES };
enum { SLOTS = 12, KNOWN = 400, DEPTH = 6, CHUNK = 16384, FAR = 1 << 20, TEXT = 1400 };

/* Times before it were set by hand, and must be the very same on both sides; later ones are the clock's. */
static const int64_t CLOCK_TIMES = 1600000000;

#define OPS(X)                                                                                                         \
        X(create, 10, "")                                                                                              \
        X(mkdir, 7, "") X(fifo, 1, "") X(sock, 1, "") X(symlink, 3, "") X(link, 4, "link") X(unlink, 5, "") X(         \
                rmdir, 3, "") X(rename, 7, "") X(noreplace, 2, "") X(exchange, 2, "exchange") X(rmtree, 1, "")         \
                X(write, 6, "") X(append, 3, "") X(truncate, 4, "") X(read, 6, "") X(chmod, 4, "") X(utimens, 3, "")   \
                        X(setx, 3, "xattr") X(remx, 2, "xattr") X(lsx, 2, "xattr") X(acl, 1, "acl") X(stat, 6, "")     \
                                X(readlink, 1, "") X(readdir, 4, "") X(access, 1, "") X(open, 8, "") X(close, 3, "")   \
                                        X(pread, 5,                                                                    \
                                          "") X(pwrite, 6, "") X(ftruncate, 3, "") X(fallocate, 3, "fallocate")        \
                                                X(fchmod, 2, "") X(fstat, 4, "") X(fsync, 1, "")                       \
                                                        X(seekdata, 2, "seek") X(mmapw, 2, "mmap") X(mmapr, 2, "mmap") \
                                                                X(cfr, 3, "cfr") X(tmpfile, 1, "tmpfile")              \
                                                                        X(linkfd, 2, "tmpfile") X(fsetx, 1, "xattr")   \
                                                                                X(freaddir, 2, "") X(createat, 3, "")  \
                                                                                        X(unlinkat, 1, "") X(statat,   \
                                                                                                             2, "")    \
                                                                                                X(futimens, 1, "") X(chown, 6, "")

enum {
#define X(name, weight, feature) OP_##name,
        OPS(X)
#undef X
                N_OPS
};

typedef struct {
        const char *name;
        int weight;
        const char *feature; /* --without */
} OpInfo;

static const OpInfo op_info[N_OPS] = {
#define X(name, weight, feature) { #name, weight, feature },
        OPS(X)
#undef X
};

typedef struct {
        int kind, slot, slot2;
        unsigned flags;
        int64_t n, m;
        char a[TEXT], b[TEXT];
} Op;

typedef struct {
        long rc;
        int err;
        uint64_t hash;
} Result;

typedef struct {
        uint64_t ino, life; /* the oracle's: its inode numbers are used again, in another life */
        uint64_t mount_ino;
} Inode;

/* One thread's world. */
typedef struct {
        int number;
        char base[16];
        int dir[SIDES];
        int slot[SLOTS][SIDES];
        char *known[KNOWN];
        uint64_t rng;
        Inode *inodes; /* hash table of INODES */
        size_t n_inodes;
        long done, todo;
        unsigned major, minor; /* of the mount */
        int64_t longest;       /* that an operation took so far, seconds: on a machine that is busy with others */
        FILE *log;
        Op op;
        char doing[3 * TEXT];
} World;

enum { INODES = 1 << 16 };

static const char *top[SIDES], *log_path, *without = "";
static uint64_t seed = 1;
static bool inode_numbers = true, dir_times = true, ids;

/* Random numbers, hashes, text */

static uint64_t next(World *w) {
        uint64_t x = w->rng;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        w->rng = x;
        return x * 0x2545F4914F6CDD1Dull >> 16;
}

static int64_t below(World *w, int64_t n) {
        return n > 0 ? (int64_t) (next(w) % (uint64_t) n) : 0;
}

static uint64_t hash_of(uint64_t hash, const void *data, size_t size) {
        const unsigned char *p = data;

        for (; size >= 8; size -= 8, p += 8) {
                uint64_t word;

                memcpy(&word, p, 8);
                hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
                hash ^= hash >> 29;
        }
        while (size-- > 0)
                hash = (hash ^ *p++) * 0x100000001B3ull;
        return hash;
}

static void fill(char *buffer, size_t size, uint64_t key) {
        uint64_t x = key * 0x9E3779B97F4A7C15ull | 1;

        for (size_t i = 0; i < size; i++) {
                if (i % 8 == 0)
                        x = x * 6364136223846793005ull + 1442695040888963407ull;
                buffer[i] = (char) (x >> (i % 8 * 8));
        }
}

static void encode(char *to, const char *from) {
        if (*from == '\0')
                *to++ = '%';
        for (; *from != '\0'; from++) {
                unsigned char c = (unsigned char) *from;

                if (c > ' ' && c < 0x7f && c != '%')
                        *to++ = (char) c;
                else
                        to += sprintf(to, "%%%02x", c);
        }
        *to = '\0';
}

static void decode(char *to, const char *from) {
        for (; *from != '\0'; from++) {
                unsigned c;

                if (*from == '%' && sscanf(from + 1, "%2x", &c) == 1) {
                        *to++ = (char) c;
                        from += 2;
                } else if (*from != '%')
                        *to++ = *from;
        }
        *to = '\0';
}

static void op_print(char *to, const Op *op) {
        char a[3 * TEXT], b[3 * TEXT];

        encode(a, op->a);
        encode(b, op->b);
        snprintf(to, 3 * TEXT, "%s %d %d %#x %lld %lld %.1800s %.1800s", op_info[op->kind].name, op->slot, op->slot2,
                 op->flags, (long long) op->n, (long long) op->m, a, b);
}

__attribute__((format(printf, 2, 3), noreturn)) static void fail(World *w, const char *format, ...) {
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        va_list args;

        pthread_mutex_lock(&lock); /* for good: the process ends here */
        if (w->log != NULL)
                fflush(w->log);
        fprintf(stderr, "FAILED seed %llu thread %d operation %ld\n  %s\n  ", (unsigned long long) seed, w->number,
                w->done, w->doing);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "\n");
        fflush(NULL);
        _exit(1);
}

static const char *errno_name(int err) {
        return err == 0 ? "ok" : strerrorname_np(err);
}

/* Attributes */

static int attributes(int dirfd, const char *path, struct statx *x) {
        return statx(dirfd, path, AT_SYMLINK_NOFOLLOW | (*path == '\0' ? AT_EMPTY_PATH : 0),
                     STATX_BASIC_STATS | STATX_BTIME, x) < 0
                       ? errno
                       : 0;
}

/* What tells a file from one that had its inode number before: its handle, which has a generation. The time of birth is as coarse as the clock's tick, within
 * which a file may go and another one come. */
static uint64_t life_of(int dirfd, const char *name, const struct statx *x) {
        union {
                struct file_handle handle;
                char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        uint64_t life = 0xcbf29ce484222325ull;
        int mount;

        if (name_to_handle_at(dirfd, name, &h.handle, &mount, *name == '\0' ? AT_EMPTY_PATH : 0) < 0)
                return (uint64_t) x->stx_btime.tv_sec * 1000000000u + x->stx_btime.tv_nsec;
        for (unsigned i = 0; i < h.handle.handle_bytes; i++)
                life = (life ^ h.handle.f_handle[i]) * 0x100000001b3ull;
        return life;
}

/* The same file of the oracle has the same number on the mount for as long as it is mounted. */
static void check_number(World *w, const char *path, const struct statx *m, const struct statx *o, uint64_t life) {
        uint64_t at = (o->stx_ino * 0x9E3779B97F4A7C15ull ^ life * 0xC2B2AE3D27D4EB4Full) >> 40;

        if (!inode_numbers)
                return;
        if (w->n_inodes > INODES / 2) {
                memset(w->inodes, 0, INODES * sizeof *w->inodes);
                w->n_inodes = 0;
        }
        for (;; at++) {
                Inode *i = &w->inodes[at % INODES];

                if (i->ino == o->stx_ino && i->life == life) {
                        if (i->mount_ino != m->stx_ino)
                                fail(w, "%s: its inode number was %llu and is %llu", path,
                                     (unsigned long long) i->mount_ino, (unsigned long long) m->stx_ino);
                        return;
                }
                if (i->ino == 0) {
                        *i = (Inode){ o->stx_ino, life, m->stx_ino };
                        w->n_inodes++;
                        return;
                }
        }
}

static void check_time(World *w, const char *path, const struct statx *m, const struct statx *o) {
        if (S_ISDIR(o->stx_mode) && !dir_times)
                return;
        if (S_ISFIFO(o->stx_mode) &&
            o->stx_mtime.tv_sec >= CLOCK_TIMES) /* what goes through a pipe, no file system above another hears of */
                return;
        if (o->stx_mtime.tv_sec < CLOCK_TIMES || m->stx_mtime.tv_sec < CLOCK_TIMES) {
                if (m->stx_mtime.tv_sec != o->stx_mtime.tv_sec || m->stx_mtime.tv_nsec != o->stx_mtime.tv_nsec)
                        fail(w, "%s: its mtime is %lld.%09u, not %lld.%09u", path, (long long) m->stx_mtime.tv_sec,
                             m->stx_mtime.tv_nsec, (long long) o->stx_mtime.tv_sec, o->stx_mtime.tv_nsec);
        } else {
                int64_t apart = m->stx_mtime.tv_sec - o->stx_mtime.tv_sec;

                /* both are the clock's, of moments in one operation */
                int64_t most = 5 + w->longest;
                if (apart > most || apart < -most)
                        fail(w, "%s: its mtime is %lld s away from what it should be", path, (long long) apart);
        }
}

static void check_attributes(World *w, const char *path, const struct statx *m, const struct statx *o) {
        if (m->stx_mode != o->stx_mode)
                fail(w, "%s: its mode is %o, not %o", path, m->stx_mode, o->stx_mode);
        if (m->stx_uid != o->stx_uid || m->stx_gid != o->stx_gid)
                fail(w, "%s: its owner is %u:%u, not %u:%u", path, m->stx_uid, m->stx_gid, o->stx_uid, o->stx_gid);
        if (!S_ISDIR(o->stx_mode)) {
                if (m->stx_size != o->stx_size)
                        fail(w, "%s: its size is %llu, not %llu", path, (unsigned long long) m->stx_size,
                             (unsigned long long) o->stx_size);
                if (strstr(without, "link") == NULL && m->stx_nlink != o->stx_nlink)
                        fail(w, "%s: it has %u links, not %u", path, m->stx_nlink, o->stx_nlink);
        } else if (o->stx_nlink != 0 && m->stx_nlink != 1 &&
                   m->stx_nlink != o->stx_nlink) /* 1: "not counted", as btrfs and overlayfs say */
                fail(w, "%s: directory with %u links, not 1 or %u", path, m->stx_nlink, o->stx_nlink);
        check_time(w, path, m, o);
}

static void check_shown(World *w, const int dir[SIDES], const char *name, const char *path) {
        struct statx x[SIDES];
        int err[SIDES];

        for (int s = 0; s < SIDES; s++)
                err[s] = attributes(dir[s], name, &x[s]);
        if (err[MOUNT] != err[ORACLE])
                fail(w, "%s: stat says %s, not %s", path, errno_name(err[MOUNT]), errno_name(err[ORACLE]));
        if (err[ORACLE] != 0)
                return;
        check_attributes(w, path, &x[MOUNT], &x[ORACLE]);
        check_number(w, path, &x[MOUNT], &x[ORACLE], life_of(dir[ORACLE], name, &x[ORACLE]));
}

static void check_path(World *w, const int dir[SIDES], const char *path) {
        check_shown(w, dir, path, path);
}

/* Names of a directory, sorted */

typedef struct {
        char **name;
        size_t n;
} Names;

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Takes the descriptor. */
static int names_read(int fd, Names *names) {
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        size_t room = 0;

        *names = (Names){ NULL, 0 };
        if (dir == NULL) {
                int err = errno;

                if (fd >= 0)
                        close(fd);
                return err;
        }
        while (errno = 0, (entry = readdir(dir)) != NULL) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                if (names->n == room)
                        names->name = realloc(names->name, (room = room * 2 + 16) * sizeof *names->name);
                names->name[names->n++] = strdup(entry->d_name);
        }
        int err = errno;
        closedir(dir);
        qsort(names->name, names->n, sizeof *names->name, by_name);
        return err;
}

static void names_free(Names *names) {
        for (size_t i = 0; i < names->n; i++)
                free(names->name[i]);
        free(names->name);
}

static uint64_t names_hash(const Names *names) {
        uint64_t hash = names->n;

        for (size_t i = 0; i < names->n; i++)
                hash = hash_of(hash, names->name[i], strlen(names->name[i]) + 1);
        return hash;
}

/* Contents */

static uint64_t content_hash(int fd, int *err) {
        char buffer[65536];
        uint64_t hash = 1;
        ssize_t n;

        *err = 0;
        for (off_t at = 0; (n = pread(fd, buffer, sizeof buffer, at)) > 0; at += n)
                hash = hash_of(hash, buffer, (size_t) n);
        if (n < 0)
                *err = errno;
        return hash;
}

/* shown: with room for text, gets "NAME=VALUE..." of each, or NULL. */
static uint64_t xattr_hash(const char *path, int *err, char *shown) {
        char list[8192], value[4096];
        ssize_t size = llistxattr(path, list, sizeof list);
        uint64_t sum = 0;

        *err = size < 0 ? errno : 0;
        if (shown != NULL)
                *shown = '\0';
        for (char *name = list; size > 0 && name < list + size; name += strlen(name) + 1) {
                ssize_t n = lgetxattr(path, name, value, sizeof value);

                /* of any order: sum up */
                sum += hash_of(hash_of(strlen(name), name, strlen(name)), value, n < 0 ? 0 : (size_t) n) +
                       (n < 0 ? (uint64_t) errno : 0);
                for (ssize_t i = -1; shown != NULL && i < n && i < 48 && strlen(shown) < TEXT - 300; i++)
                        (void) (i < 0 ? sprintf(shown + strlen(shown), " %.200s=", name)
                                      : sprintf(shown + strlen(shown), "%02x", (unsigned char) value[i]));
        }
        return sum;
}

/* xattr calls have no *at form: /proc/self/fd gives one. */
static const char *via(char *buffer, int dirfd, const char *path) {
        snprintf(buffer, TEXT + 64, "/proc/self/fd/%d/%s", dirfd, path);
        return buffer;
}

/* Whole trees */

typedef struct {
        uint64_t mount, oracle;
} Pair;

typedef struct {
        World *w;
        Pair *pair;
        size_t n, room;
        bool collect; /* known paths, too */
        size_t entries;
} Walk;

static void known_add(World *w, const char *path) {
        char **place = &w->known[below(w, KNOWN)];

        free(*place);
        *place = strdup(path);
}

static void compare_content(World *w, const int fd[SIDES], const char *path) {
        static __thread char buffer[SIDES][65536];

        for (off_t at = 0;;) {
                ssize_t n[SIDES];

                for (int s = 0; s < SIDES; s++)
                        n[s] = pread(fd[s], buffer[s], sizeof buffer[s], at);
                if (n[MOUNT] != n[ORACLE])
                        fail(w, "%s: read at %lld gives %zd, not %zd", path, (long long) at, n[MOUNT], n[ORACLE]);
                for (ssize_t i = 0;
                     n[ORACLE] > 0 && memcmp(buffer[MOUNT], buffer[ORACLE], (size_t) n[ORACLE]) != 0 && i < n[ORACLE];
                     i++)
                        if (buffer[MOUNT][i] != buffer[ORACLE][i])
                                fail(w, "%s: byte %lld is %#x, not %#x", path, (long long) (at + i),
                                     buffer[MOUNT][i] & 0xff, buffer[ORACLE][i] & 0xff);
                if (n[ORACLE] <= 0)
                        return;
                at += n[ORACLE];
        }
}

static void compare_tree(Walk *walk, const int dir[SIDES], const char *path);

static void compare_entry(Walk *walk, const int dir[SIDES], const char *name, const char *path) {
        World *w = walk->w;
        struct statx x[SIDES];
        char text[SIDES][TEXT + 64], path_text[TEXT + 64];
        int fd[SIDES], err[SIDES];
        uint64_t hash[SIDES];

        check_shown(w, dir, name, path);
        if (attributes(dir[MOUNT], name, &x[MOUNT]) != 0 || attributes(dir[ORACLE], name, &x[ORACLE]) != 0)
                return;
        walk->entries++;
        if (x[MOUNT].stx_dev_major != w->major || x[MOUNT].stx_dev_minor != w->minor)
                fail(w, "%s: its st_dev is not the mount's", path);
        if (walk->n == walk->room)
                walk->pair = realloc(walk->pair, (walk->room = walk->room * 2 + 256) * sizeof *walk->pair);
        walk->pair[walk->n++] = (Pair){ x[MOUNT].stx_ino, x[ORACLE].stx_ino };
        for (int s = 0; s < SIDES && strstr(without, "xattr") == NULL; s++)
                hash[s] = xattr_hash(via(path_text, dir[s], name), &err[s], text[s]);
        if (strstr(without, "xattr") == NULL && (hash[MOUNT] != hash[ORACLE] || err[MOUNT] != err[ORACLE]))
                fail(w, "%s: its extended attributes are%s (%s), not%s (%s)", path, text[MOUNT], errno_name(err[MOUNT]),
                     text[ORACLE], errno_name(err[ORACLE]));
        if (S_ISLNK(x[ORACLE].stx_mode)) {
                for (int s = 0; s < SIDES; s++) {
                        ssize_t n = readlinkat(dir[s], name, text[s], TEXT);

                        text[s][n < 0 ? 0 : n] = '\0';
                }
                if (strcmp(text[MOUNT], text[ORACLE]) != 0)
                        fail(w, "%s: it points to %s, not %s", path, text[MOUNT], text[ORACLE]);
        } else if (S_ISREG(x[ORACLE].stx_mode)) {
                for (int s = 0; s < SIDES; s++) {
                        fd[s] = openat(dir[s], name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
                        err[s] = fd[s] < 0 ? errno : 0;
                }
                if (err[MOUNT] != err[ORACLE])
                        fail(w, "%s: open says %s, not %s", path, errno_name(err[MOUNT]), errno_name(err[ORACLE]));
                if (err[ORACLE] == 0)
                        compare_content(w, fd, path);
                for (int s = 0; s < SIDES; s++)
                        if (fd[s] >= 0)
                                close(fd[s]);
        } else if (S_ISDIR(x[ORACLE].stx_mode)) {
                for (int s = 0; s < SIDES; s++) {
                        fd[s] = openat(dir[s], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        err[s] = fd[s] < 0 ? errno : 0;
                }
                if (err[MOUNT] != err[ORACLE])
                        fail(w, "%s: open says %s, not %s", path, errno_name(err[MOUNT]), errno_name(err[ORACLE]));
                if (err[ORACLE] == 0)
                        compare_tree(walk, fd, path);
                for (int s = 0; s < SIDES; s++)
                        if (fd[s] >= 0)
                                close(fd[s]);
        }
}

static void compare_tree(Walk *walk, const int dir[SIDES], const char *path) {
        World *w = walk->w;
        Names names[SIDES];
        int err[SIDES];

        for (int s = 0; s < SIDES; s++)
                err[s] = names_read(openat(dir[s], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &names[s]);
        if (err[MOUNT] != err[ORACLE])
                fail(w, "%s: readdir says %s, not %s", path, errno_name(err[MOUNT]), errno_name(err[ORACLE]));
        for (size_t i = 0; i < names[MOUNT].n || i < names[ORACLE].n; i++) {
                const char *m = i < names[MOUNT].n ? names[MOUNT].name[i] : NULL,
                           *o = i < names[ORACLE].n ? names[ORACLE].name[i] : NULL;

                if (o == NULL || (m != NULL && strcmp(m, o) < 0))
                        fail(w, "%s: has '%s', which should not be there", path, m);
                if (m == NULL || strcmp(m, o) > 0)
                        fail(w, "%s: lacks '%s'", path, o);
        }
        for (size_t i = 0; i < names[ORACLE].n; i++) {
                char *below_it;

                if (asprintf(&below_it, "%s/%s", path, names[ORACLE].name[i]) < 0)
                        abort();
                if (walk->collect && strlen(below_it) < TEXT / 3)
                        known_add(w, below_it + 2);
                compare_entry(walk, dir, names[ORACLE].name[i], below_it);
                free(below_it);
        }
        for (int s = 0; s < SIDES; s++)
                names_free(&names[s]);
}

static int by_mount(const void *a, const void *b) {
        const Pair *x = a, *y = b;

        return x->mount != y->mount    ? (x->mount < y->mount ? -1 : 1)
               : x->oracle < y->oracle ? -1
                                       : x->oracle > y->oracle;
}

static size_t compare(World *w, bool collect) {
        Walk walk = { .w = w, .collect = collect };
        struct statx x;
        char doing[sizeof w->doing];

        snprintf(doing, sizeof doing, "the whole trees, after %.*s", TEXT, w->doing);
        strcpy(w->doing, doing);
        if (attributes(w->dir[MOUNT], ".", &x) != 0)
                fail(w, "no attributes of the mount's root");
        w->major = x.stx_dev_major;
        w->minor = x.stx_dev_minor;
        if (collect)
                for (size_t i = 0; i < KNOWN; i++) {
                        free(w->known[i]);
                        w->known[i] = NULL;
                }
        compare_tree(&walk, w->dir, ".");
        qsort(walk.pair, walk.n, sizeof *walk.pair, by_mount);
        /* one number, two files */
        for (size_t i = 1; i < walk.n && strstr(without, "link") == NULL && inode_numbers; i++)
                if (walk.pair[i].mount == walk.pair[i - 1].mount && walk.pair[i].oracle != walk.pair[i - 1].oracle)
                        fail(w, "two files have the inode number %llu", (unsigned long long) walk.pair[i].mount);
        free(walk.pair);
        return walk.entries;
}

/* Operations */

static const char *const xattr_names[] = { "user.a", "user.long.name.of.an.attribute", "user.b", "user.usbox" };

/* u::rwx,g::r-x,m::r-x,o::- with one named user; and a plain one (as mode bits). What acl(5) and <linux/posix_acl_xattr.h> say. */
static size_t acl_value(char *to, unsigned which) {
        static const struct {
                uint16_t tag, perm;
                uint32_t id;
        } entries[2][5] = {
                { { 1, 7, ~0u }, { 2, 5, 0 }, { 4, 5, ~0u }, { 16, 5, ~0u }, { 32, 0, ~0u } },
                { { 1, 6, ~0u }, { 4, 4, ~0u }, { 32, 4, ~0u } },
        };
        uint32_t version = 2, me = getuid();

        memcpy(to, &version, 4);
        memcpy(to + 4, entries[which % 2], which % 2 == 0 ? 40 : 24);
        if (which % 2 == 0)
                memcpy(to + 4 + 8 + 4, &me, 4);
        return which % 2 == 0 ? 44 : 28;
}

static int remove_tree(int dirfd, const char *name) {
        Names names;
        int failed = 0, fd;

        if (unlinkat(dirfd, name, 0) == 0)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return 1;
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
                names_read(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &names);
                for (size_t i = 0; i < names.n; i++)
                        failed += remove_tree(fd, names.name[i]);
                names_free(&names);
                close(fd);
        }
        return failed + (unlinkat(dirfd, name, AT_REMOVEDIR) != 0);
}

static long write_at(int fd, const Op *op, int64_t at) {
        char buffer[CHUNK];
        size_t size = (size_t) (op->m < CHUNK ? op->m : CHUNK);

        fill(buffer, size, (uint64_t) op->flags + (uint64_t) op->n);
        return at < 0 ? write(fd, buffer, size) : pwrite(fd, buffer, size, at);
}

static long with_file(int dirfd, const Op *op, int flags, mode_t mode, Result *r) {
        int fd = openat(dirfd, op->a, flags | O_NONBLOCK | O_CLOEXEC, mode);
        long rc = fd;

        if (fd < 0)
                return -1;
        if (op->kind == OP_read) {
                r->hash = content_hash(fd, &r->err);
                rc = r->err != 0 ? -1 : 0;
        } else if (op->kind == OP_append)
                rc = write_at(fd, op, -1);
        else if (op->m > 0)
                rc = write_at(fd, op, op->n);
        else
                rc = 0;
        int err = errno;
        if (close(fd) < 0 && rc >= 0)
                return -1;
        errno = r->err != 0 ? r->err : err;
        return rc;
}

/* Shared memory of a file: write into it, or read from it, within its size. */
static long with_map(int fd, const Op *op, Result *r) {
        struct stat st;
        char *map;
        size_t size;

        if (fstat(fd, &st) < 0)
                return -1;
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return 0;
        size = (size_t) st.st_size;
        map = mmap(NULL, size, op->kind == OP_mmapw ? PROT_READ | PROT_WRITE : PROT_READ,
                   op->flags & 1 && op->kind == OP_mmapr ? MAP_PRIVATE : MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -1;
        if (op->kind == OP_mmapw) {
                size_t at = (size_t) op->n % size, n = (size_t) op->m < size - at ? (size_t) op->m : size - at;

                fill(map + at, n, op->flags);
                if (op->flags & 2)
                        msync(map, size, MS_SYNC);
        } else
                r->hash = hash_of(1, map, size);
        munmap(map, size);
        return 0;
}

static long with_xattr(World *w, int side, const Op *op, Result *r) {
        char path[TEXT + 64], value[4096];
        const char *name = xattr_names[op->slot2 % 4];
        int fd = w->slot[op->slot][side];

        via(path, w->dir[side], op->a);
        switch (op->kind) {
        case OP_setx:
                fill(value, (size_t) op->m, op->flags);
                return lsetxattr(path, name, value, (size_t) op->m, (int) op->n);
        case OP_fsetx:
                fill(value, (size_t) op->m, op->flags);
                return fsetxattr(fd, name, value, (size_t) op->m, (int) op->n);
        case OP_remx:
                return lremovexattr(path, name);
        case OP_acl: {
                struct stat st;

                if (lstat(path, &st) < 0 ||
                    S_ISLNK(st.st_mode)) /* on a link ext4 and FUSE refuse with errors of their own */
                        return 0;
                return lsetxattr(path, op->n == 0 ? "system.posix_acl_access" : "system.posix_acl_default", value,
                                 acl_value(value, op->flags), 0);
        }
        default: {
                int err;

                r->hash = xattr_hash(path, &err, NULL);
                errno = err;
                return err != 0 ? -1 : 0;
        }
        }
}

/* Where the mount says "hole", the oracle has nothing but zeros. How fine its map is, is its own affair. */
static void check_holes(World *w, const int fd[SIDES]) {
        static __thread char buffer[65536];
        struct stat st;
        off_t at = 0;

        if (fstat(fd[ORACLE], &st) < 0 || !S_ISREG(st.st_mode))
                return;
        for (int round = 0; at < st.st_size && round < 64; round++) {
                off_t data = lseek(fd[MOUNT], at, SEEK_DATA);
                off_t end = data < 0 ? st.st_size : data;

                if (data < 0 && errno != ENXIO)
                        fail(w, "lseek SEEK_DATA says %s", errno_name(errno));
                for (off_t p = at; p < end;) {
                        ssize_t n = pread(fd[ORACLE], buffer,
                                          end - p < (off_t) sizeof buffer ? (size_t) (end - p) : sizeof buffer, p);

                        for (ssize_t i = 0; i < n; i++)
                                if (buffer[i] != 0)
                                        fail(w, "SEEK_DATA from %lld gives %lld, but there is data at %lld",
                                             (long long) at, (long long) data, (long long) (p + i));
                        if (n <= 0)
                                break;
                        p += n;
                }
                if (data < 0)
                        break;
                at = lseek(fd[MOUNT], data, SEEK_HOLE);
                if (at <= data)
                        fail(w, "lseek SEEK_HOLE from %lld gives %lld (%s)", (long long) data, (long long) at,
                             at < 0 ? errno_name(errno) : "");
        }
        for (int s = 0; s < SIDES; s++)
                lseek(fd[s], 0, SEEK_SET);
}

static long slot_put(World *w, int slot, int side, int fd) {
        if (fd < 0)
                return -1;
        if (w->slot[slot][side] >= 0)
                close(w->slot[slot][side]);
        w->slot[slot][side] = fd;
        return 0;
}

static long do_path_op(World *w, int side, const Op *op, Result *r) {
        int dir = w->dir[side];
        struct timespec times[2] = { { op->m, 1 }, { op->n, (long) op->flags } };
        char text[TEXT + 64];
        ssize_t n;
        Names names;

        switch (op->kind) {
        case OP_create:
                return with_file(dir, op, O_CREAT | O_WRONLY | (int) (op->flags & (O_EXCL | O_TRUNC)),
                                 (mode_t) op->slot2, r);
        case OP_mkdir:
                return mkdirat(dir, op->a, (mode_t) op->n);
        case OP_fifo:
                return mknodat(dir, op->a, S_IFIFO | (mode_t) op->n, 0);
        case OP_sock:
                return mknodat(dir, op->a, S_IFSOCK | (mode_t) op->n, 0);
        case OP_symlink:
                return symlinkat(op->b, dir, op->a);
        case OP_link:
                return linkat(dir, op->a, dir, op->b, op->flags & 1 ? AT_SYMLINK_FOLLOW : 0);
        case OP_unlink:
                return unlinkat(dir, op->a, 0);
        case OP_rmdir:
                return unlinkat(dir, op->a, AT_REMOVEDIR);
        case OP_rename:
                return renameat(dir, op->a, dir, op->b);
        case OP_noreplace:
                return renameat2(dir, op->a, dir, op->b, RENAME_NOREPLACE);
        case OP_exchange:
                return renameat2(dir, op->a, dir, op->b, RENAME_EXCHANGE);
        case OP_rmtree:
                r->hash = (uint64_t) remove_tree(dir, op->a);
                return 0;
        case OP_write:
                return with_file(dir, op, O_WRONLY | (int) (op->flags & O_TRUNC), 0, r);
        case OP_append:
                return with_file(dir, op, O_WRONLY | O_APPEND, 0, r);
        case OP_read:
                return with_file(dir, op, O_RDONLY, 0, r);
        case OP_truncate:
                return truncate(via(text, dir, op->a), op->n);
        case OP_chmod:
                return fchmodat(dir, op->a, (mode_t) op->n, 0);
        case OP_chown:
                return fchownat(dir, op->a, (uid_t) op->n, (gid_t) op->m, AT_SYMLINK_NOFOLLOW);
        case OP_utimens:
                return utimensat(dir, op->a, times, AT_SYMLINK_NOFOLLOW);
        case OP_stat:
                return 0; /* the check after it is all there is to it */
        case OP_access:
                return faccessat(dir, op->a, (int) op->n, 0);
        case OP_readlink:
                n = readlinkat(dir, op->a, text, sizeof text);
                r->hash = n > 0 ? hash_of(1, text, (size_t) n) : 0;
                return n;
        case OP_readdir:
                n = names_read(openat(dir, op->a, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), &names);
                r->hash = names_hash(&names);
                names_free(&names);
                errno = (int) n;
                return n != 0 ? -1 : 0;
        case OP_open:
                return slot_put(w, op->slot, side,
                                openat(dir, op->a, (int) op->flags | O_NONBLOCK | O_CLOEXEC, (mode_t) op->n));
        case OP_tmpfile:
                return slot_put(w, op->slot, side,
                                openat(dir, op->a, O_TMPFILE | O_RDWR | O_CLOEXEC | (int) (op->flags & O_EXCL),
                                       (mode_t) op->n));
        default:
                return with_xattr(w, side, op, r);
        }
}

static long do_slot_op(World *w, int side, const Op *op, Result *r) {
        int fd = w->slot[op->slot][side], other = w->slot[op->slot2][side];
        struct timespec times[2] = { { op->m, 1 }, { op->n, (long) op->flags } };
        char buffer[CHUNK];
        loff_t from = op->n, to = op->flags;
        ssize_t n;
        Names names;

        switch (op->kind) {
        case OP_close:
                w->slot[op->slot][side] = -1;
                return close(fd);
        case OP_pread:
                n = pread(fd, buffer, (size_t) op->m, op->n);
                r->hash = n > 0 ? hash_of(1, buffer, (size_t) n) : 0;
                return n;
        case OP_pwrite:
                return write_at(fd, op, op->flags & 1 ? op->n : -1);
        case OP_ftruncate:
                return ftruncate(fd, op->n);
        case OP_fallocate:
                return fallocate(fd, (int) op->flags, op->n, op->m);
        case OP_fchmod:
                return fchmod(fd, (mode_t) op->n);
        case OP_futimens:
                return futimens(fd, times);
        case OP_fstat:
        case OP_seekdata:
                return 0;
        case OP_fsync:
                return op->flags & 1 ? fdatasync(fd) : fsync(fd);
        case OP_mmapw:
        case OP_mmapr:
                return with_map(fd, op, r);
        case OP_cfr:
                return copy_file_range(fd, &from, other, &to, (size_t) op->m, 0);
        case OP_linkfd: {
                char self[64];

                snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
                return linkat(AT_FDCWD, self, w->dir[side], op->a, AT_SYMLINK_FOLLOW);
        }
        case OP_freaddir:
                n = names_read(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &names);
                r->hash = names_hash(&names);
                names_free(&names);
                errno = (int) n;
                return n != 0 ? -1 : 0;
        case OP_createat:
                return with_file(fd, op, O_CREAT | O_WRONLY, 0644, r);
        case OP_unlinkat:
                return unlinkat(fd, op->a, 0);
        case OP_statat: {
                struct stat st;

                return fstatat(fd, op->a, &st, AT_SYMLINK_NOFOLLOW);
        }
        default:
                return with_xattr(w, side, op, r);
        }
}

static bool on_slot(int kind) {
        return kind == OP_close || kind == OP_pread || kind == OP_pwrite || kind == OP_ftruncate ||
               kind == OP_fallocate || kind == OP_fchmod || kind == OP_fstat || kind == OP_fsync ||
               kind == OP_seekdata || kind == OP_mmapw || kind == OP_mmapr || kind == OP_cfr || kind == OP_linkfd ||
               kind == OP_fsetx || kind == OP_freaddir || kind == OP_createat || kind == OP_unlinkat ||
               kind == OP_statat || kind == OP_futimens;
}

static bool leaves(const char *path) {
        return path[0] != '\0' && path[0] != '/' && strlen(path) < TEXT - 1;
}

static void apply(World *w) {
        Op *op = &w->op;
        Result r[SIDES] = { 0 };

        op_print(w->doing, op);
        if (w->log != NULL)
                fprintf(w->log, "%s\n", w->doing);
        if (on_slot(op->kind) &&
            (w->slot[op->slot][ORACLE] < 0 || (op->kind == OP_cfr && w->slot[op->slot2][ORACLE] < 0)))
                return; /* in a sequence that was cut down, what opened it may be gone */
        if (strstr(without, "dirrename") != NULL &&
            (op->kind == OP_rename || op->kind == OP_noreplace || op->kind == OP_exchange)) {
                struct statx x;

                if ((attributes(w->dir[ORACLE], op->a, &x) == 0 && S_ISDIR(x.stx_mode)) ||
                    (attributes(w->dir[ORACLE], op->b, &x) == 0 && S_ISDIR(x.stx_mode)))
                        return;
        }
        if (op->kind == OP_mmapw) {
                /* What is written through a mapping reaches the server's own file by write(2), which takes set-id bits away. */
                struct statx x;

                if (attributes(w->slot[op->slot][ORACLE], "", &x) == 0 && (x.stx_mode & 06000) != 0)
                        return;
        }
        if (op->kind == OP_truncate || op->kind == OP_ftruncate) {
                /* Where the size stays the same, POSIX leaves it open whether the times change. */
                struct statx x;
                int err = op->kind == OP_truncate ? statx(w->dir[ORACLE], op->a, 0, STATX_SIZE, &x)
                                                  : attributes(w->slot[op->slot][ORACLE], "", &x);

                if (err == 0 && (int64_t) x.stx_size == op->n)
                        return;
        }
        if (strstr(without, "redirect") != NULL &&
            (op->kind == OP_rename || op->kind == OP_noreplace || op->kind == OP_exchange)) {
                /* An overlay that moves no directories: try there first. */
                if (do_path_op(w, MOUNT, op, &r[MOUNT]) < 0 && errno == EXDEV)
                        return;
                r[MOUNT].err = r[ORACLE].err = 0;
                do_path_op(w, ORACLE, op, &r[ORACLE]);
                check_path(w, w->dir, op->a);
                check_path(w, w->dir, op->b);
                return;
        }
        int64_t began = time(NULL);
        /* The oracle first, so that a time of the clock on the mount is the later one. */
        for (int s = SIDES - 1; s >= 0; s--) {
                errno = 0;
                r[s].rc = on_slot(op->kind) ? do_slot_op(w, s, op, &r[s]) : do_path_op(w, s, op, &r[s]);
                r[s].err = r[s].rc < 0 ? errno : 0;
        }
        int64_t took = time(NULL) - began;
        w->longest = took > w->longest ? took : w->longest;
        if (r[MOUNT].err != r[ORACLE].err)
                fail(w, "it says %s, not %s", errno_name(r[MOUNT].err), errno_name(r[ORACLE].err));
        if (r[MOUNT].rc != r[ORACLE].rc)
                fail(w, "it gives %ld, not %ld", r[MOUNT].rc, r[ORACLE].rc);
        if (r[MOUNT].hash != r[ORACLE].hash)
                fail(w, "what it reads differs");
        if (op->kind == OP_seekdata)
                check_holes(w, w->slot[op->slot]);
        if (on_slot(op->kind) || op->kind == OP_open || op->kind == OP_tmpfile) {
                if (w->slot[op->slot][ORACLE] >= 0)
                        check_path(w, w->slot[op->slot], "");
                if (op->kind == OP_cfr)
                        check_path(w, w->slot[op->slot2], "");
        }
        if (!on_slot(op->kind) && leaves(op->a))
                check_path(w, w->dir, op->a);
        if (op->kind == OP_link || op->kind == OP_rename || op->kind == OP_noreplace || op->kind == OP_exchange)
                check_path(w, w->dir, op->b);
        if (r[ORACLE].rc >= 0 && (op->kind == OP_rename || op->kind == OP_noreplace || op->kind == OP_link))
                known_add(w, op->b);
        else if (r[ORACLE].rc >= 0 && !on_slot(op->kind) && op->kind != OP_unlink && op->kind != OP_rmdir &&
                 op->kind != OP_rmtree && below(w, 3) == 0)
                known_add(w, op->a);
}

/* What to do next */

static const char *pick_name(World *w) {
        static const char *const names[] = { "a",      "b", "c",     "d",          "e",          "f",
                                             "g",      "h", "-dash", "with space", "line\nfeed", "\xff\xfe not utf-8",
                                             "..dots", "x" };
        static char longest[256];

        if (below(w, 40) == 0) {
                if (longest[254] == '\0')
                        memset(longest, 'N', 255);
                return longest;
        }
        return names[below(w, sizeof names / sizeof *names)];
}

static void pick_existing(World *w, char *to) {
        for (int i = 0; i < 8; i++) {
                const char *known = w->known[below(w, KNOWN)];

                if (known != NULL) {
                        strcpy(to, known);
                        return;
                }
        }
        strcpy(to, pick_name(w));
}

static void pick_path(World *w, char *to, int existing) {
        int depth = 0;

        if (below(w, 100) < existing) {
                pick_existing(w, to);
                return;
        }
        *to = '\0';
        if (below(w, 4) != 0)
                pick_existing(w, to);
        for (const char *p = to; *p != '\0'; p++)
                depth += *p == '/';
        /* beside it as often as below it */
        if (depth + 1 >= DEPTH || below(w, 2) == 0) {
                char *slash = strrchr(to, '/');

                *(slash == NULL ? to : slash) = '\0';
        }
        if (strlen(to) > TEXT / 3)
                *to = '\0';
        if (*to != '\0')
                strcat(to, "/");
        strcat(to, pick_name(w));
}

static int64_t pick_offset(World *w) {
        switch (below(w, 8)) {
        case 0:
                return 0;
        case 1:
                return below(w, FAR);
        case 2:
                return below(w, 32) * 4096;
        default:
                return below(w, 20000);
        }
}

static int64_t pick_mode(World *w) {
        static const int modes[] = { 0644, 0600, 0755, 0700, 0444, 0200, 0000, 0555, 04755, 02755, 01777, 0640 };

        return modes[below(w, 3) == 0 ? below(w, sizeof modes / sizeof *modes) : below(w, 3)];
}

static int pick_slot(World *w) {
        for (int i = 0; i < 6; i++) {
                int slot = (int) below(w, SLOTS);

                if (w->slot[slot][ORACLE] >= 0)
                        return slot;
        }
        return (int) below(w, SLOTS);
}

static void choose(World *w) {
        static const unsigned open_flags[] = { O_RDONLY,
                                               O_RDWR,
                                               O_WRONLY,
                                               O_RDWR | O_APPEND,
                                               O_RDWR | O_CREAT,
                                               O_RDWR | O_TRUNC,
                                               O_RDONLY | O_DIRECTORY,
                                               O_RDWR | O_CREAT | O_EXCL,
                                               O_RDONLY | O_NOFOLLOW,
                                               O_RDWR,
                                               O_RDONLY | O_DIRECTORY };
        static const unsigned fallocate_modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                    FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
        static const int some_id[] = { -1, -1, 0, 0, 1, 33, 1000, 65533 };
        Op *op = &w->op;
        int sum = 0, at;

        for (int i = 0; i < N_OPS; i++)
                sum += i != OP_chown || ids ? op_info[i].weight : 0; /* the last one, so that the others are picked as without it */
again:
        at = (int) below(w, sum);
        memset(op, 0, offsetof(Op, a));
        op->a[0] = op->b[0] = '\0';
        while (at >= op_info[op->kind].weight)
                at -= op_info[op->kind++].weight;
        if ((*op_info[op->kind].feature != '\0' && strstr(without, op_info[op->kind].feature) != NULL) ||
            (on_slot(op->kind) && strstr(without, "slots") != NULL))
                goto again;
        op->slot = on_slot(op->kind) ? pick_slot(w) : (int) below(w, SLOTS);
        op->n = pick_offset(w);
        op->m = below(w, 4) == 0 ? below(w, CHUNK) : below(w, 300);
        op->flags = (unsigned) below(w, 1000);
        pick_path(w, op->a,
                  op->kind == OP_create || op->kind == OP_mkdir || op->kind == OP_symlink || op->kind == OP_tmpfile
                          ? 30
                          : 85);
        if (op->kind == OP_rmtree && strchr(op->a, '/') == NULL && below(w, 10) != 0)
                goto again; /* or the tree stays a small one */
        switch (op->kind) {
        case OP_create:
                op->flags = below(w, 2) == 0 ? 0 : below(w, 2) == 0 ? O_EXCL : O_TRUNC;
                op->slot2 = (int) pick_mode(w);
                break;
        case OP_mkdir:
        case OP_fifo:
        case OP_sock:
        case OP_chmod:
        case OP_fchmod:
        case OP_open:
        case OP_tmpfile:
                op->n = pick_mode(w);
                if (op->kind == OP_open)
                        op->flags = open_flags[below(w, sizeof open_flags / sizeof *open_flags)];
                else if (op->kind == OP_tmpfile)
                        op->flags = below(w, 8) == 0 ? O_EXCL : 0;
                break;
        case OP_chown:
                op->n = some_id[below(w, sizeof some_id / sizeof *some_id)];
                op->m = some_id[below(w, sizeof some_id / sizeof *some_id)];
                if (op->m < 0 && op->n < 0) /* takes set-id bits away, of which FUSE hears nothing */
                        goto again;
                break;
        case OP_symlink:
                strcpy(op->b, below(w, 8) == 0 ? "/nowhere/at all" : pick_name(w));
                break;
        case OP_link:
        case OP_rename:
        case OP_noreplace:
        case OP_exchange:
                pick_path(w, op->b, op->kind == OP_exchange ? 90 : 35);
                break;
        case OP_write:
                op->flags = below(w, 4) == 0 ? O_TRUNC : 0;
                break;
        case OP_utimens:
        case OP_futimens:
                op->n = below(w, CLOCK_TIMES);
                op->m = below(w, CLOCK_TIMES);
                op->flags = (unsigned) below(w, 1000000000);
                break;
        case OP_setx:
        case OP_fsetx:
        case OP_remx:
                op->slot2 = (int) below(w, 4);
                op->n = below(w, 3) == 0 ? 1 + below(w, 2) : 0; /* XATTR_CREATE, XATTR_REPLACE */
                op->m = below(w, 10) == 0 ? below(w, 1500) : below(w, 40);
                break;
        case OP_acl:
                op->n = below(w, 2);
                break;
        case OP_access:
                op->n = below(w, 8);
                break;
        case OP_fallocate:
                op->flags = fallocate_modes[below(w, sizeof fallocate_modes / sizeof *fallocate_modes)];
                op->m = 1 + below(w, 60000);
                break;
        case OP_cfr:
                op->slot2 = pick_slot(w);
                op->flags = (unsigned) pick_offset(w);
                break;
        case OP_createat:
        case OP_unlinkat:
        case OP_statat:
                strcpy(op->a, pick_name(w));
                break;
        default:
                break;
        }
}

static bool parse(World *w, char *line) {
        Op *op = &w->op;
        char name[32];
        int used = 0;
        long long n, m;

        memset(op, 0, offsetof(Op, a));
        if (sscanf(line, "%31s %d %d %x %lld %lld %n", name, &op->slot, &op->slot2, &op->flags, &n, &m, &used) < 6)
                return false;
        op->n = n;
        op->m = m;
        while (op->kind < N_OPS && strcmp(op_info[op->kind].name, name) != 0)
                op->kind++;
        char *b = strchr(line + used, ' ');
        if (op->kind == N_OPS || b == NULL || strlen(b) > 3 * TEXT)
                return false;
        *b++ = '\0';
        b[strcspn(b, "\n")] = '\0';
        decode(op->a, line + used);
        decode(op->b, b);
        return true;
}

/* Worlds */

static void world_close(World *w) {
        for (int s = 0; s < SIDES; s++) {
                for (int i = 0; i < SLOTS; i++)
                        if (w->slot[i][s] >= 0) {
                                close(w->slot[i][s]);
                                w->slot[i][s] = -1;
                        }
                close(w->dir[s]);
        }
        memset(w->inodes, 0, INODES * sizeof *w->inodes);
        w->n_inodes = 0;
}

static void world_open(World *w) {
        for (int s = 0; s < SIDES; s++) {
                char path[4096];

                snprintf(path, sizeof path, "%s/%s", top[s], w->base);
                w->dir[s] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (w->dir[s] < 0)
                        fail(w, "cannot open %s: %s", path, errno_name(errno));
        }
}

/* Make all readable and writable for its owner again, then compare once more: what no permission hides any more. */
static void settle(World *w, int dirfd, const char *name) {
        struct stat st;
        Names names;
        int fd;

        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISLNK(st.st_mode))
                return;
        if (((st.st_mode & 0600) != 0600 || (S_ISDIR(st.st_mode) && (st.st_mode & 0100) == 0)) &&
            fchmodat(dirfd, name, (st.st_mode & 07777) | (S_ISDIR(st.st_mode) ? 0700 : 0600), 0) < 0)
                return; /* a difference shows in the comparison */
        fd = S_ISDIR(st.st_mode) ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (fd < 0)
                return;
        names_read(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &names);
        for (size_t i = 0; i < names.n; i++)
                settle(w, fd, names.name[i]);
        names_free(&names);
        close(fd);
}

static void *run(void *data) {
        World *w = data;

        for (long i = 0; i < w->todo; i++, w->done++) {
                choose(w);
                apply(w);
        }
        return NULL;
}

static void ask(World *worlds, int n, const char *what) {
        char line[64];

        for (int i = 0; i < n; i++) {
                if (worlds[i].log != NULL)
                        fprintf(worlds[i].log, "!%s\n", what);
                if (strcmp(what, "kill") == 0 && syncfs(worlds[i].dir[MOUNT]) < 0)
                        fail(&worlds[i], "syncfs: %s", errno_name(errno));
                world_close(&worlds[i]);
                snprintf(worlds[i].doing, sizeof worlds[i].doing, "%.*s", TEXT, what);
        }
        printf("%s\n", what);
        fflush(stdout);
        if (fgets(line, sizeof line, stdin) == NULL || strcmp(line, "ok\n") != 0)
                fail(&worlds[0], "the caller could not %s", what);
        for (int i = 0; i < n; i++)
                world_open(&worlds[i]);
}

static void replay(World *w, FILE *file) {
        static char line[8 * TEXT];

        for (; fgets(line, sizeof line, file) != NULL; w->done++)
                if (strcmp(line, "!compare\n") == 0)
                        compare(w, false);
                else if (line[0] == '!') {
                        line[strcspn(line, "\n")] = '\0';
                        ask(w, 1, line + 1);
                } else if (!parse(w, line)) {
                        fprintf(stderr, "not an operation: %s", line);
                        exit(2);
                } else
                        apply(w);
}

static void rounds(World *worlds, int threads, long ops, long every, long remount, long kill_each) {
        pthread_t thread[64];

        for (long done = 0, last_remount = 0, last_kill = 0; done < ops;) {
                long step = every < ops - done ? every : ops - done;

                for (int i = 0; i < threads; i++) {
                        worlds[i].todo = step / threads;
                        if (threads > 1)
                                pthread_create(&thread[i], NULL, run, &worlds[i]);
                        else
                                run(&worlds[i]);
                }
                for (int i = 0; i < threads && threads > 1; i++)
                        pthread_join(thread[i], NULL);
                done += step;
                if (kill_each > 0 && done - last_kill >= kill_each) {
                        ask(worlds, threads, "kill");
                        last_kill = last_remount = done;
                } else if (remount > 0 && done - last_remount >= remount) {
                        ask(worlds, threads, "remount");
                        last_remount = done;
                }
                for (int i = 0; i < threads; i++) {
                        if (worlds[i].log != NULL)
                                fprintf(worlds[i].log, "!compare\n");
                        compare(&worlds[i], true);
                }
        }
}

static long number(const char *text) {
        char *end;
        long n = strtol(text, &end, 0);

        if (*text == '\0' || *end != '\0' || n < 0) {
                fprintf(stderr, "not a number: %s\n", text);
                exit(2);
        }
        return n;
}

int main(int argc, char **argv) {
        long ops = 10000, every = 1000, remount = 0, kill_each = 0;
        int threads = 1, i = 1;
        const char *replay_path = NULL;
        size_t entries = 0;
        static World worlds[64];

        for (; i < argc && argv[i][0] == '-'; i += 2) {
                const char *value = i + 1 < argc ? argv[i + 1] : "";

                if (strcmp(argv[i], "--seed") == 0)
                        seed = (uint64_t) number(value);
                else if (strcmp(argv[i], "--ops") == 0)
                        ops = number(value);
                else if (strcmp(argv[i], "--threads") == 0)
                        threads = (int) number(value);
                else if (strcmp(argv[i], "--compare") == 0)
                        every = number(value);
                else if (strcmp(argv[i], "--remount") == 0)
                        remount = number(value);
                else if (strcmp(argv[i], "--kill") == 0)
                        kill_each = number(value);
                else if (strcmp(argv[i], "--without") == 0)
                        without = value;
                else if (strcmp(argv[i], "--ids") == 0)
                        ids = number(value) != 0;
                else if (strcmp(argv[i], "--log") == 0)
                        log_path = value;
                else if (strcmp(argv[i], "--replay") == 0)
                        replay_path = value;
                else
                        argc = 0;
        }
        if (argc - i != 2 || threads < 1 || threads > 64 || every < 1) {
                fprintf(stderr, "usage: model [--seed N] [--ops N] [--threads N] [--compare EACH] [--remount EACH] "
                                "[--kill EACH] [--without FEATURE,...] [--ids 0|1]\n"
                                "             [--log FILE] [--replay FILE] MOUNT ORACLE\n"
                                "FEATURE: link exchange xattr acl fallocate mmap cfr tmpfile number dirtime redirect "
                                "dirrename seek slots\n");
                return 2;
        }
        top[MOUNT] = argv[i];
        top[ORACLE] = argv[i + 1];
        inode_numbers = strstr(without, "number") == NULL;
        dir_times = strstr(without, "dirtime") == NULL;
        signal(SIGPIPE, SIG_IGN);
        umask(027);
        for (int t = 0; t < threads; t++) {
                World *w = &worlds[t];

                w->number = t;
                w->rng = seed * 0x9E3779B97F4A7C15ull + (uint64_t) t * 0xD1B54A32D192ED03ull + 1;
                w->inodes = calloc(INODES, sizeof *w->inodes);
                memset(w->slot, -1, sizeof w->slot);
                snprintf(w->base, sizeof w->base, threads > 1 ? "t%d" : ".", t);
                strcpy(w->doing, "the start");
                if (log_path != NULL && threads == 1 && (w->log = fopen(log_path, "w")) == NULL) {
                        perror(log_path);
                        return 2;
                }
                world_open(w);
                compare(w, true);
        }
        if (replay_path != NULL) {
                FILE *file = fopen(replay_path, "r");

                if (file == NULL) {
                        perror(replay_path);
                        return 2;
                }
                replay(&worlds[0], file);
                fclose(file);
        } else
                rounds(worlds, threads, ops, every, remount, kill_each);
        for (int t = 0; t < threads; t++) {
                strcpy(worlds[t].doing, "all of it made readable");
                for (int s = SIDES - 1; s >= 0; s--)
                        settle(&worlds[t], worlds[t].dir[s], ".");
                entries += compare(&worlds[t], false);
                world_close(&worlds[t]);
        }
        printf("done %ld operations, %zu entries\n", worlds[0].done * threads, entries);
        return 0;
}
