/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: sequences of FUSE requests, with a plain directory as oracle.
 *
 * The input is a list of three bytes each: what, where, with what. Each step is done to the oracle by a system call; if that works, it is done to the file
 * system by the requests that the kernel would send (what fails there fails in the kernel, before a request is made). Both must agree, on errors, on what
 * is read, and at the end on the whole tree, before and after a remount.
 *
 * Role: tests only. Privileges: the caller's, in a directory of its own. Threads: one, no mount: requests are handed to the server as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/mountfs.h"
#include "fsoverlay/notify.h"
#include "fsoverlay/ops.h"
#include "fsoverlay/server.h"
#include "fuzz.h"

#define STEPS_MAX 40
#define KNOWN_MAX 4096
#define BUFFER 65536
#define OPCODES 128

static char *top;
static int top_fd, lower_fd, oracle, first_fd; /* from first_fd on: what a mount opened */
static Fs *fs;
static FsConfig *config;

/* Ids that the kernel knows, one for each time that it was told. */
static uint64_t known[KNOWN_MAX];
static unsigned n_known;

static union {
        struct fuse_in_header head;
        char bytes[BUFFER];
} in;
static char out[BUFFER], answer[BUFFER];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
        return remove(path);
}

static void remove_tree(const char *name) {
        g_autofree char *path = g_build_filename(top, name, NULL);
        (void) nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_top(void) {
        remove_tree("");
}

/* One request; its answer is in `answer`, behind the header. Returns 0 or a negative errno. */
static int request(uint32_t opcode, uint64_t node, const void *body, size_t size, const void *more, size_t more_size) {
        static uint64_t unique;
        struct fuse_out_header head;
        Request r = { .fs = fs, .head = &in.head, .in = in.bytes + sizeof in.head, .in_len = size + more_size, .out = out, .out_size = sizeof out };

        g_assert_cmpuint(sizeof in.head + size + more_size, <=, sizeof in);
        in.head = (struct fuse_in_header){ .len = (uint32_t) (sizeof in.head + size + more_size), .opcode = opcode, .unique = ++unique, .nodeid = node,
                                           .uid = geteuid(), .gid = getegid(), .pid = 1 };
        if (size)
                memcpy(in.bytes + sizeof in.head, body, size);
        if (more_size)
                memcpy(in.bytes + sizeof in.head + size, more, more_size);
        g_assert_cmpint(ftruncate(fs->dev, 0), ==, 0);
        g_assert_cmpint(lseek(fs->dev, 0, SEEK_SET), ==, 0);
        server_handle(&r);
        ssize_t n = pread(fs->dev, answer, sizeof answer, 0);
        if (opcode == FUSE_FORGET) {
                g_assert_cmpint(n, ==, 0);
                return 0;
        }
        g_assert_cmpint(n, >=, (ssize_t) sizeof head);
        memcpy(&head, answer, sizeof head);
        g_assert_cmpuint(head.len, ==, (size_t) n);
        g_assert_cmpuint(head.unique, ==, unique);
        g_assert_cmpint(head.error, <=, 0);
        g_assert_cmpint(head.error, >, -512);
        memmove(answer, answer + sizeof head, (size_t) n - sizeof head);
        memset(answer + (size_t) n - sizeof head, 0, sizeof head);
        return head.error;
}

static void forget_all(void) {
        while (n_known > 0) {
                struct fuse_forget_in body = { .nlookup = 1 };
                request(FUSE_FORGET, known[--n_known], &body, sizeof body, NULL, 0);
        }
}

static void take_entry(struct fuse_entry_out *ret) {
        memcpy(ret, answer, sizeof *ret);
        g_assert_cmpuint(ret->nodeid, !=, 0);
        g_assert_cmpuint(n_known, <, KNOWN_MAX);
        known[n_known++] = ret->nodeid;
}

static int look_up(uint64_t parent, const char *name, struct fuse_entry_out *ret) {
        int r = request(FUSE_LOOKUP, parent, name, strlen(name) + 1, NULL, 0);
        /* An absent name may come as an entry without id, which the kernel keeps as such. */
        if (r == 0 && ((struct fuse_entry_out *) (void *) answer)->nodeid == 0)
                return -ENOENT;
        if (r == 0)
                take_entry(ret);
        return r;
}

static void unmount(void) {
        forget_all();
        node_unref(fs, fs->root, 1);
        g_assert_cmpuint(nodes_count(fs), ==, 0); /* what the kernel forgot is gone */
        for (unsigned i = 0; i < NODE_SHARDS; i++)
                free(fs->shards[i].slots);
        for (unsigned i = 0; i < fs->n_devs; i++)
                g_free(fs->devs[i].id);
        g_hash_table_destroy(fs->dev_numbers);
        g_hash_table_destroy(fs->removed);
        free(fs->devs);
        free(fs->dev_taken);
        free((void *) fs->counts);
        g_free(fs->groups);
        g_free(fs->layers);
        g_free(fs->notifiers);
        g_free(fs);
        fs = NULL;
        /* Its descriptors, and the lock of the work directory, are the process's to its end. */
        g_assert_cmpint(close_range((unsigned) first_fd, ~0u, 0), ==, 0);
}

static void mount(void) {
        struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = 131072,
                                     .flags = FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_DONT_MASK | FUSE_MAX_PAGES | FUSE_WRITEBACK_CACHE };
        FsParts parts = { .upper = openat(top_fd, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC), .work = openat(top_fd, "work", O_PATH | O_DIRECTORY | O_CLOEXEC),
                          .lowers = &lower_fd, .n_lowers = 1, .config = config, .trace = -1 };
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(parts.upper, >=, 0);
        g_assert_cmpint(parts.work, >=, 0);
        fs = fs_open(&parts, &error);
        g_assert_no_error(error);
        g_assert_true(fs_add_lowers(fs, &parts, memfd_create("answers", MFD_CLOEXEC), &error));
        fs->counts = calloc(OPCODES, sizeof *fs->counts);
        notifier_init(fs); /* no thread of it is ever needed: nobody changes the lower */
        g_assert_cmpint(request(FUSE_INIT, 0, &init, sizeof init, NULL, 0), ==, 0);
        g_assert_true(fs->no_open);
}

/* The tree below; the oracle begins as it is. */
static void make_lower(const char *name) {
        static const char *const dirs[] = { "", "/a", "/a/b", "/d", NULL };
        static const char *const files[] = { "/a/a", "/a/b/c", "/b", NULL };

        for (const char *const *d = dirs; *d; d++) {
                g_autofree char *path = g_strconcat(name, *d, NULL);
                g_assert_cmpint(mkdirat(top_fd, path, 0755), ==, 0);
        }
        for (const char *const *f = files; *f; f++) {
                g_autofree char *path = g_strconcat(name, *f, NULL);
                _cleanup_close_ int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
                g_assert_true(fd_write_all(fd, *f, strlen(*f)));
        }
        g_autofree char *link = g_strconcat(name, "/c", NULL), *file = g_strconcat(name, "/b", NULL), *other = g_strconcat(name, "/a/d", NULL);
        g_assert_cmpint(symlinkat("b", top_fd, link), ==, 0);
        g_assert_cmpint(linkat(top_fd, file, top_fd, other, 0), ==, 0);
}

static void begin(void) {
        umask(0);
        top = g_dir_make_tmp("usbox-fuzz-XXXXXX", NULL);
        top_fd = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(top_fd, >=, 0);
        g_assert_cmpint(atexit(remove_top), ==, 0);
        make_lower("lower");
        lower_fd = openat(top_fd, "lower", O_PATH | O_DIRECTORY | O_CLOEXEC);
        oracle = fcntl(lower_fd, F_DUPFD_CLOEXEC, 3); /* a place for it below first_fd */
        first_fd = oracle + 1;
        config = fs_config_new();
}

static void fresh(void) {
        static const char *const names[] = { "upper", "work", "oracle" };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
                remove_tree(names[i]);
        g_assert_cmpint(mkdirat(top_fd, "upper", 0755), ==, 0);
        g_assert_cmpint(mkdirat(top_fd, "work", 0755), ==, 0);
        make_lower("oracle");
        int fd = openat(top_fd, "oracle", O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(dup3(fd, oracle, O_CLOEXEC), ==, oracle);
        close(fd);
}

/* "a", "a/b" or "a/b/c", of four names. */
static void path_of(uint8_t where, char ret[8]) {
        unsigned depth = 1 + (where >> 6) % 3, n = 0;

        for (unsigned i = 0; i < depth; i++) {
                if (i > 0)
                        ret[n++] = '/';
                ret[n++] = (char) ('a' + (where >> (2 * i) & 3));
        }
        ret[n] = '\0';
}

/* The parent directory and the last name of a path whose parents are directories in the oracle. False: one of them is something else. */
static bool parent_of(const char *path, uint64_t *ret_parent, const char **ret_name) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        g_autoptr(GString) at = g_string_new(NULL);
        struct fuse_entry_out entry;
        struct stat st;

        *ret_parent = FUSE_ROOT_ID;
        for (guint i = 0; parts[i + 1]; i++) {
                g_string_append_printf(at, "%s%s", i ? "/" : "", parts[i]);
                if (fstatat(oracle, at->str, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                        return false;
                g_assert_cmpint(look_up(*ret_parent, parts[i], &entry), ==, 0);
                *ret_parent = entry.nodeid;
        }
        *ret_name = path + strlen(path) - 1;
        return true;
}

/* A path of the oracle for calls that have no directory argument. */
static const char *oracle_path(const char *path) {
        static char full[PATH_MAX];
        g_snprintf(full, sizeof full, "%s/oracle/%s", top, path);
        return full;
}

/* A new file of any kind: what the kernel sends after the name was not found. */
static void step_make(uint64_t parent, const char *name, const char *path, uint8_t what, uint8_t with) {
        static const char *const targets[] = { "a", "b/c", "..", "/nowhere" };
        const char *target = targets[with % G_N_ELEMENTS(targets)];
        struct fuse_mknod_in node = { .mode = S_IFREG | (0400u + (with & 0377u)) };
        struct fuse_mkdir_in dir = { .mode = 0700u | (with & 077u) };
        struct fuse_entry_out entry;
        int r;

        g_assert_cmpint(look_up(parent, name, &entry), ==, -ENOENT);
        if (what == 0) {
                g_assert_cmpint(mknodat(oracle, path, node.mode, 0), ==, 0);
                r = request(FUSE_MKNOD, parent, &node, sizeof node, name, strlen(name) + 1);
        } else if (what == 1) {
                g_assert_cmpint(mkdirat(oracle, path, dir.mode), ==, 0);
                r = request(FUSE_MKDIR, parent, &dir, sizeof dir, name, strlen(name) + 1);
        } else {
                g_assert_cmpint(symlinkat(target, oracle, path), ==, 0);
                r = request(FUSE_SYMLINK, parent, name, strlen(name) + 1, target, strlen(target) + 1);
        }
        g_assert_cmpint(r, ==, 0);
        take_entry(&entry);
}

static void step_remove(uint64_t parent, const char *name, const char *path, bool dir) {
        struct fuse_entry_out entry;

        g_assert_cmpint(look_up(parent, name, &entry), ==, 0);
        int expected = unlinkat(oracle, path, dir ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
        g_assert_cmpint(request(dir ? FUSE_RMDIR : FUSE_UNLINK, parent, name, strlen(name) + 1, NULL, 0), ==, expected);
}

/* To a second path, which its first byte says. */
static void step_rename(uint64_t parent, const char *name, const char *path, uint8_t with, bool exchange) {
        char to[8], names[4];
        uint64_t new_parent;
        const char *new_name;
        struct stat old, at;
        struct fuse_entry_out entry;

        path_of(with, to);
        if (!parent_of(to, &new_parent, &new_name) || fstatat(oracle, path, &old, AT_SYMLINK_NOFOLLOW) < 0)
                return;
        bool same = fstatat(oracle, to, &at, AT_SYMLINK_NOFOLLOW) == 0 && at.st_ino == old.st_ino;
        int expected = renameat2(oracle, path, oracle, to, exchange ? RENAME_EXCHANGE : 0) < 0 ? -errno : 0;
        /* The kernel's own answer: above all, that a directory does not replace one that it is in. */
        if (same || (expected < 0 && (expected != -ENOTEMPTY || g_str_has_prefix(path, to))))
                return;
        g_assert_cmpint(look_up(parent, name, &entry), ==, 0);
        int there = look_up(new_parent, new_name, &entry);
        g_assert_true(there == 0 || there == -ENOENT);
        struct fuse_rename2_in body = { .newdir = new_parent, .flags = exchange ? RENAME_EXCHANGE : 0 };
        memcpy(names, (char[]){ *name, 0, *new_name, 0 }, sizeof names);
        g_assert_cmpint(request(FUSE_RENAME2, parent, &body, sizeof body, names, sizeof names), ==, expected);
}

static void step_link(uint64_t parent, const char *name, uint8_t with, const char *path) {
        char to[8];
        uint64_t new_parent;
        const char *new_name;
        struct fuse_entry_out entry;

        path_of(with, to);
        if (!parent_of(to, &new_parent, &new_name) || linkat(oracle, path, oracle, to, 0) < 0)
                return;
        g_assert_cmpint(look_up(parent, name, &entry), ==, 0);
        struct fuse_link_in body = { .oldnodeid = entry.nodeid };
        g_assert_cmpint(look_up(new_parent, new_name, &entry), ==, -ENOENT);
        g_assert_cmpint(request(FUSE_LINK, new_parent, &body, sizeof body, new_name, strlen(new_name) + 1), ==, 0);
        take_entry(&entry);
}

static void step_write(uint64_t node, const char *path, uint8_t with) {
        struct fuse_write_in body = { .offset = (with & 15u) * 3, .size = (with >> 4) + 1u };
        char data[16];

        memset(data, 'A' + with % 26, sizeof data);
        _cleanup_close_ int fd = openat(top_fd, oracle_path(path), O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        g_assert_cmpint(pwrite(fd, data, body.size, (off_t) body.offset), ==, (ssize_t) body.size);
        g_assert_cmpint(request(FUSE_WRITE, node, &body, sizeof body, data, body.size), ==, 0);
}

static void step_attr(uint64_t node, const char *path, mode_t type, uint8_t with) {
        struct fuse_setattr_in body = { .valid = FATTR_MODE, .mode = type | (S_ISDIR(type) ? 0700u : 0600u) | (with & 0177u) };

        if (with & 128 && S_ISREG(type)) {
                body = (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = with & 31u };
                if (truncate(oracle_path(path), (off_t) body.size) < 0)
                        return;
        } else {
                g_assert_cmpint(chmod(oracle_path(path), body.mode & 07777), ==, 0);
        }
        g_assert_cmpint(request(FUSE_SETATTR, node, &body, sizeof body, NULL, 0), ==, 0);
}

static void step_xattr(uint64_t node, const char *path, uint8_t with) {
        static const char name[] = "user.t";
        char value[8];
        int r;

        memset(value, 'a' + with % 26, sizeof value);
        if (with & 128) {
                int expected = lremovexattr(oracle_path(path), name) < 0 ? -errno : 0;
                r = request(FUSE_REMOVEXATTR, node, name, sizeof name, NULL, 0);
                g_assert_cmpint(r, ==, expected);
                return;
        }
        struct fuse_setxattr_in body = { .size = with & 7u };
        char text[sizeof name + sizeof value];
        memcpy(text, name, sizeof name);
        memcpy(text + sizeof name, value, body.size);
        int expected = lsetxattr(oracle_path(path), name, value, body.size, 0) < 0 ? -errno : 0;
        /* The short form: the long one is asked for by a flag of INIT. */
        r = request(FUSE_SETXATTR, node, &body, FUSE_COMPAT_SETXATTR_IN_SIZE, text, sizeof name + body.size);
        g_assert_cmpint(r, ==, expected);
}

static void step(uint8_t what, uint8_t where, uint8_t with) {
        char path[8];
        uint64_t parent;
        const char *name;
        struct stat st;
        struct fuse_entry_out entry;

        path_of(where, path);
        if (!parent_of(path, &parent, &name))
                return;
        bool there = fstatat(oracle, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
        what %= 12;
        if (!there) {
                if (what < 6)
                        step_make(parent, name, path, what % 3, with);
                return;
        }
        bool dir = S_ISDIR(st.st_mode);
        if (what < 3) {
                step_remove(parent, name, path, dir);
                return;
        }
        if (what < 6) {
                step_rename(parent, name, path, with, what == 5);
                return;
        }
        if (what == 6 && !dir) {
                step_link(parent, name, with, path);
                return;
        }
        g_assert_cmpint(look_up(parent, name, &entry), ==, 0);
        if (what == 7 && S_ISREG(st.st_mode))
                step_write(entry.nodeid, path, with);
        else if (what == 8 && !S_ISLNK(st.st_mode))
                step_attr(entry.nodeid, path, st.st_mode & S_IFMT, with);
        else if (what == 9 && (dir || S_ISREG(st.st_mode)) && (st.st_mode & 0600) == 0600)
                step_xattr(entry.nodeid, path, with);
        else if (what == 10)
                forget_all();
        else if (what == 11) {
                unmount();
                mount();
        }
}

static void compare_file(uint64_t node, const char *path, const struct stat *st) {
        struct fuse_read_in body = { .size = 4096 };
        char data[4096];

        if (S_ISLNK(st->st_mode)) {
                ssize_t n = readlinkat(oracle, path, data, sizeof data);
                g_assert_cmpint(request(FUSE_READLINK, node, NULL, 0, NULL, 0), ==, 0);
                g_assert_cmpmem(answer, (size_t) n, data, (size_t) n);
                return;
        }
        _cleanup_close_ int fd = openat(top_fd, oracle_path(path), O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return; /* closed to its owner */
        ssize_t n = pread(fd, data, sizeof data, 0);
        g_assert_cmpint(request(FUSE_READ, node, &body, sizeof body, NULL, 0), ==, 0);
        g_assert_cmpint(memcmp(answer, data, (size_t) n), ==, 0);
}

static void compare_xattr(uint64_t node, const char *path) {
        char value[16];
        ssize_t n = lgetxattr(oracle_path(path), "user.t", value, sizeof value);
        int expected = n < 0 ? -errno : 0;
        struct fuse_getxattr_in body = { .size = sizeof value };

        g_assert_cmpint(request(FUSE_GETXATTR, node, &body, sizeof body, "user.t", 7), ==, expected);
        if (n > 0)
                g_assert_cmpint(memcmp(answer, value, (size_t) n), ==, 0);
}

static gint by_name(gconstpointer a, gconstpointer b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The names of a directory, joined, sorted. */
static char *names_of(uint64_t node) {
        struct fuse_read_in body = { .size = 32768 };
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

        memset(answer, 0, sizeof answer);
        g_assert_cmpint(request(FUSE_READDIR, node, &body, sizeof body, NULL, 0), ==, 0);
        for (size_t at = 0;;) {
                const struct fuse_dirent *d = (const void *) (answer + at);
                if (d->namelen == 0)
                        break;
                char *name = g_strndup(d->name, d->namelen);
                if (g_str_equal(name, ".") || g_str_equal(name, ".."))
                        g_free(name);
                else
                        g_ptr_array_add(names, name);
                at += FUSE_DIRENT_SIZE(d);
        }
        g_ptr_array_sort(names, by_name);
        g_ptr_array_add(names, NULL);
        return g_strjoinv(" ", (char **) names->pdata);
}

static void compare_tree(uint64_t node, const char *path) {
        g_autoptr(GString) expected = g_string_new(NULL);
        struct stat st;

        for (char c = 'a'; c <= 'd'; c++) {
                g_autofree char *child = g_strdup_printf("%s%s%c", path, *path ? "/" : "", c);
                char name[2] = { c };
                struct fuse_entry_out entry;
                bool there = fstatat(oracle, child, &st, AT_SYMLINK_NOFOLLOW) == 0;
                g_assert_cmpint(look_up(node, name, &entry), ==, there ? 0 : -ENOENT);
                if (!there)
                        continue;
                g_string_append_printf(expected, "%s%c", expected->len ? " " : "", c);
                g_assert_cmpuint(entry.attr.mode, ==, st.st_mode);
                g_assert_cmpuint(entry.attr.uid, ==, st.st_uid);
                if (!S_ISDIR(st.st_mode)) {
                        g_assert_cmpuint(entry.attr.size, ==, (uint64_t) st.st_size);
                        g_assert_cmpuint(entry.attr.nlink, ==, st.st_nlink);
                        compare_file(entry.nodeid, child, &st);
                }
                if (!S_ISLNK(st.st_mode) && (st.st_mode & 0400))
                        compare_xattr(entry.nodeid, child);
                if (S_ISDIR(st.st_mode))
                        compare_tree(entry.nodeid, child);
        }
        g_autofree char *names = names_of(node);
        g_assert_cmpstr(names, ==, expected->str);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size > (size_t) 3 * STEPS_MAX)
                return -1; /* what is behind would not be looked at, and is only in the way of what is */
        if (!top)
                begin();
        fresh();
        mount();
        for (size_t i = 0; i + 3 <= size; i += 3)
                step(data[i], data[i + 1], data[i + 2]);
        compare_tree(FUSE_ROOT_ID, "");
        unmount();
        mount();
        compare_tree(FUSE_ROOT_ID, "");
        unmount();
        return 0;
}
