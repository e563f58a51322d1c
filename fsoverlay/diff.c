/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an upper changes: usbox-fs diff.
 *
 * Role: a program of its own by usbox-fs's name. Privileges: the caller's, who must be able to read the upper. Threads: one.
 *
 * A walk over the upper beside the merged lower layers, each directory by descriptors. The upper is hostile: nothing in it is opened
 * but directories and regular files, without following symlinks or crossing mounts; times prove nothing, so files that look
 * alike are compared byte by byte; paths are bounded, and so is the depth.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "fsoverlay/diff.h"
#include "fsoverlay/jsonbytes.h"
#include "fsoverlay/lowers.h"
#include "fsoverlay/standalone.h"

#define OUT_SIZE 65536u
#define COMPARE_SIZE 131072u

typedef struct {
        char *name;
        bool whiteout;
        struct stat st; /* where it is none */
} Entry;

typedef struct {
        Lowers lowers;
        int out_fd;
        GString *out, *path; /* path: of the directory at hand, "" for the root */
        char *buffers[2];    /* of COMPARE_SIZE */
        guint n_errors;
        GError *write_error;
} Diff;

/* A directory of the upper and what is below it. */
typedef struct {
        int fd;
        const LowerDir *lower;
        const char *lower_path; /* where that lies, "" for the root */
        bool opaque;            /* lower is not to be seen through it: what the upper has not is gone */
} Place;

/* What the lower has at an entry's place. */
typedef struct {
        bool exists;
        struct stat st;
        int dirfd; /* borrowed */
        LowerDir dir;
} Below;

static void complain(Diff *d, const char *name, int errnum) {
        g_autofree char *full = g_strconcat(d->path->str, name ? "/" : "", name, NULL), *quoted = err_quote(*full ? full : "/");
        log_note("diff: %s: %s", quoted, g_strerror(errnum));
        d->n_errors++;
}

static void flush(Diff *d) {
        if (!d->write_error && d->out->len > 0 && !fd_write_all(d->out_fd, d->out->str, d->out->len))
                err_set(&d->write_error, errno, "write");
        g_string_truncate(d->out, 0);
}

static const char *type_name(mode_t mode) {
        switch (mode & S_IFMT) {
        case S_IFREG:
                return "file";
        case S_IFDIR:
                return "dir";
        case S_IFLNK:
                return "symlink";
        case S_IFIFO:
                return "fifo";
        case S_IFSOCK:
                return "socket";
        case S_IFCHR:
                return "char";
        default:
                return "block";
        }
}

static void append_status(GString *out, const struct stat *st) {
        bool has_size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode);
        g_string_append_printf(out, "\"type\":\"%s\",\"mode\":\"%04o\",\"size\":%lld", type_name(st->st_mode), st->st_mode & 07777u,
                               has_size ? (long long) st->st_size : 0);
}

/* st: NULL for what is gone; below: NULL for what is new. */
static void line(Diff *d, const char *name, char change, const struct stat *st, const struct stat *below, bool opaque, const char *redirect) {
        g_autofree char *path = g_strconcat(d->path->str, "/", name, NULL);

        g_string_append(d->out, "{\"path\":");
        jsonbytes_append(d->out, path);
        g_string_append_printf(d->out, ",\"change\":\"%c\"", change);
        if (st) {
                g_string_append_c(d->out, ',');
                append_status(d->out, st);
        }
        if (below) {
                g_string_append(d->out, ",\"lower\":{");
                append_status(d->out, below);
                g_string_append_c(d->out, '}');
        }
        if (opaque)
                g_string_append(d->out, ",\"opaque\":true");
        if (redirect) {
                g_string_append(d->out, ",\"redirect\":");
                jsonbytes_append(d->out, redirect);
        }
        g_string_append(d->out, "}\n");
        if (d->out->len >= OUT_SIZE)
                flush(d);
}

/* Attributes that are a program's own; the rest are ours, or the machine's (security.selinux). */
static bool counts(const char *attribute) {
        static const char *const ours[] = { "user.overlay.", "user.fuseoverlayfs.", "user.containers." };

        for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
                if (g_str_has_prefix(attribute, ours[i]))
                        return false;
        return g_str_has_prefix(attribute, "user.") || g_str_has_prefix(attribute, "system.posix_acl_") || g_str_equal(attribute, "security.capability");
}

static int compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The names of those that count, sorted; what has none or cannot be asked has none. */
static GPtrArray *attributes(int dirfd, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dirfd, name), *list = g_malloc(65536);
        GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
        ssize_t n = llistxattr(path, list, 65536);

        for (ssize_t i = 0; i < n; i += (ssize_t) strlen(list + i) + 1)
                if (counts(list + i))
                        g_ptr_array_add(found, g_strdup(list + i));
        g_ptr_array_sort(found, compare_names);
        return found;
}

static bool same_attributes(int a_dir, int b_dir, const char *a_name, const char *b_name) {
        g_autoptr(GPtrArray) a = attributes(a_dir, a_name), b = attributes(b_dir, b_name);

        if (a->len != b->len)
                return false;
        for (guint i = 0; i < a->len; i++) {
                if (!g_str_equal(a->pdata[i], b->pdata[i]))
                        return false;
                size_t a_len = 0, b_len = 0;
                g_autofree char *a_value = layer_xattr(a_dir, a_name, a->pdata[i], &a_len), *b_value = layer_xattr(b_dir, b_name, b->pdata[i], &b_len);
                if (!a_value || !b_value || a_len != b_len || memcmp(a_value, b_value, a_len) != 0)
                        return false;
        }
        return true;
}

/* As much as there is, or a buffer full. */
static ssize_t read_full(int fd, char *buffer) {
        size_t have = 0;

        while (have < COMPARE_SIZE) {
                ssize_t n = read(fd, buffer + have, COMPARE_SIZE - have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -1;
                if (n == 0)
                        break;
                have += (size_t) n;
        }
        return (ssize_t) have;
}

/* Files of one size. What cannot be read is not the same. */
static bool same_bytes(Diff *d, int a_dir, const char *a_name, int b_dir, const char *b_name) {
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        _cleanup_close_ int a = openat(a_dir, a_name, flags), b = openat(b_dir, b_name, flags);

        if (a < 0 || b < 0)
                return false;
        for (;;) {
                ssize_t n = read_full(a, d->buffers[0]), m = read_full(b, d->buffers[1]);
                if (n != m || n < 0 || memcmp(d->buffers[0], d->buffers[1], (size_t) n) != 0)
                        return false;
                if (n == 0)
                        return true;
        }
}

/* Not part of visit_directory(), of which there are as many on the stack as a path has names. */
G_NO_INLINE static bool same_target(int a_dir, const char *a_name, int b_dir, const char *b_name) {
        char a[PATH_MAX], b[PATH_MAX];
        ssize_t n = readlinkat(a_dir, a_name, a, sizeof a), m = readlinkat(b_dir, b_name, b, sizeof b);
        return n >= 0 && n == m && memcmp(a, b, (size_t) n) == 0;
}

/* Of one type: is it the same still? */
static bool same(Diff *d, const Place *place, const Entry *e, const Below *below) {
        const struct stat *a = &e->st, *b = &below->st;

        if (S_ISLNK(a->st_mode))
                return same_target(place->fd, e->name, below->dirfd, e->name);
        if (a->st_mode != b->st_mode)
                return false;
        if ((S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) && a->st_rdev != b->st_rdev)
                return false;
        if (S_ISREG(a->st_mode) &&
            (a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec))
                return false;
        if (!same_attributes(place->fd, below->dirfd, e->name, e->name))
                return false;
        return !S_ISREG(a->st_mode) || same_bytes(d, place->fd, e->name, below->dirfd, e->name);
}

static void entry_clear(gpointer entry) {
        g_free(((Entry *) entry)->name);
}

static int compare_entries(gconstpointer a, gconstpointer b) {
        const Entry *x = a, *y = b;
        int order = strcmp(x->name, y->name);
        return order ? order : (int) x->whiteout - (int) y->whiteout;
}

static void add_entry(GArray *entries, const char *name, bool whiteout, const struct stat *st) {
        Entry e = { .name = g_strdup(name), .whiteout = whiteout };
        if (st)
                e.st = *st;
        g_array_append_val(entries, e);
}

/* The names of a directory of the upper, sorted; one that is there and whited out by a file of that name comes first as there. */
static GArray *read_upper(Diff *d, const Place *place) {
        GArray *entries = g_array_new(FALSE, FALSE, sizeof(Entry));
        int fd = openat(place->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *stream = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *dirent;
        struct stat st;

        g_array_set_clear_func(entries, entry_clear);
        if (!stream) {
                complain(d, NULL, errno);
                fd_closep(&fd);
                return entries;
        }
        while (errno = 0, (dirent = readdir(stream))) {
                const char *name = dirent->d_name;
                if (g_str_equal(name, ".") || g_str_equal(name, "..") || layer_is_mark(name))
                        continue;
                if (layer_wh_name(name)) {
                        add_entry(entries, layer_wh_name(name), true, NULL);
                        continue;
                }
                LayerName kind = layer_look(place->fd, name, &st);
                if (kind == LAYER_NOTHING)
                        complain(d, name, ENOENT); /* read just now, and gone: somebody is at work there */
                else
                        add_entry(entries, name, kind == LAYER_WHITEOUT, &st);
        }
        if (errno != 0)
                complain(d, NULL, errno);
        closedir(stream);
        g_array_sort(entries, compare_entries);
        return entries;
}

/* What the lower has, and an opaque directory of the upper has not, as whiteouts. */
static void add_missing(Diff *d, const Place *place, GArray *entries) {
        g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < entries->len; i++)
                g_hash_table_add(known, g_array_index(entries, Entry, i).name);
        lowers_list(&d->lowers, place->lower, names);
        for (guint i = 0; i < names->len; i++)
                if (g_hash_table_add(known, names->pdata[i]))
                        add_entry(entries, names->pdata[i], true, NULL);
        g_array_sort(entries, compare_entries);
}

static void walk(Diff *d, const Place *place);

/* What is below a directory of the upper, by which path, and what of it shows; then into it. */
static void visit_directory(Diff *d, const Place *place, const Entry *e, const Below *below) {
        _cleanup_close_ int fd = sys_openat2(place->fd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0,
                                             RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
        int errnum = errno;
        bool own_opaque = fd >= 0 && layer_is_opaque(fd), bad = false, is_dir = below->exists && S_ISDIR(below->st.st_mode);
        g_autofree char *mark = fd >= 0 && !own_opaque ? layer_redirect(fd, &bad) : NULL;
        g_autofree char *redirect = mark && mark[0] != '/' ? g_strconcat(place->lower_path, "/", mark, NULL) : g_strdup(mark);

        if (!below->exists)
                line(d, e->name, 'A', &e->st, NULL, false, redirect);
        else if (!is_dir)
                line(d, e->name, 'T', &e->st, &below->st, false, redirect);
        else if (own_opaque || redirect || !same(d, place, e, below))
                line(d, e->name, 'M', &e->st, &below->st, own_opaque, redirect);

        if (fd < 0 || bad) {
                complain(d, e->name, bad ? EINVAL : errnum);
                if (fd < 0)
                        return;
        }
        if (d->path->len + strlen(e->name) + 2 >= PATH_MAX) {
                complain(d, e->name, ENAMETOOLONG);
                return;
        }

        g_auto(LowerDir) moved = { 0 };
        if (redirect)
                lowers_lookup_path(&d->lowers, redirect, &moved);
        g_autofree char *lower_path = redirect ? g_strdup(redirect) : g_strconcat(place->lower_path, "/", e->name, NULL);
        const Place child = { fd, redirect ? &moved : &below->dir, lower_path, !redirect && (own_opaque || place->opaque) };
        gsize len = d->path->len;
        g_string_append_printf(d->path, "/%s", e->name);
        walk(d, &child);
        g_string_truncate(d->path, len);
}

static void visit(Diff *d, const Place *place, const Entry *e) {
        Below below = { 0 };
        below.exists = lowers_lookup(&d->lowers, place->lower, e->name, &below.st, &below.dir, &below.dirfd);

        if (e->whiteout) {
                if (below.exists)
                        line(d, e->name, 'D', NULL, &below.st, false, NULL);
        } else if (S_ISDIR(e->st.st_mode))
                visit_directory(d, place, e, &below);
        else if (!below.exists)
                line(d, e->name, 'A', &e->st, NULL, false, NULL);
        else if ((e->st.st_mode & S_IFMT) != (below.st.st_mode & S_IFMT))
                line(d, e->name, 'T', &e->st, &below.st, false, NULL);
        else if (!same(d, place, e, &below))
                line(d, e->name, 'M', &e->st, &below.st, false, NULL);
        lower_dir_clear(&below.dir);
}

static void walk(Diff *d, const Place *place) {
        g_autoptr(GArray) entries = read_upper(d, place);

        if (place->opaque)
                add_missing(d, place, entries);
        for (guint i = 0; i < entries->len && !d->write_error; i++) {
                const Entry *e = &g_array_index(entries, Entry, i);
                if (i == 0 || !g_str_equal(e->name, g_array_index(entries, Entry, i - 1).name))
                        visit(d, place, e);
        }
}

/* A path has up to 2,048 names, and each has a descriptor for every layer. */
static void raise_nofile(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit); /* without it, a deep tree ends in an error that says so */
        }
}

bool diff_run(int argc, char **argv, int out_fd, GError **error) {
        g_auto(StandaloneOptions) options = { 0 };
        Diff d = { .out_fd = out_fd };

        if (!standalone_parse_diff(argc, argv, &options, error))
                return false;
        if (options.help) {
                const char *help = standalone_help();
                return fd_write_all(out_fd, help, strlen(help)) || err_set(error, errno, "write");
        }
        raise_nofile();
        g_autofree char *quoted = err_quote(options.upper);
        _cleanup_close_ int upper = open(options.upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (upper < 0)
                return err_set(error, errno, "upper directory %s", quoted);
        if (!lowers_open(options.lowers, &d.lowers, error)) {
                lowers_clear(&d.lowers);
                return false;
        }

        d.out = g_string_sized_new(OUT_SIZE + 16384);
        d.path = g_string_new(NULL);
        d.buffers[0] = g_malloc(COMPARE_SIZE);
        d.buffers[1] = g_malloc(COMPARE_SIZE);
        g_auto(LowerDir) root = { 0 };
        lowers_root(&d.lowers, &root);
        walk(&d, &(Place){ upper, &root, "", layer_is_opaque(upper) });
        flush(&d);

        bool ok = d.n_errors == 0 && !d.write_error && d.lowers.errnum == 0;
        if (d.write_error)
                g_propagate_error(error, d.write_error);
        else if (d.lowers.errnum != 0)
                err_set(error, d.lowers.errnum, "the lower could not be read in full");
        else if (!ok)
                err_set(error, 0, "the upper could not be read in full, %u times", d.n_errors);
        lowers_clear(&d.lowers);
        g_string_free(d.out, TRUE);
        g_string_free(d.path, TRUE);
        g_free(d.buffers[0]);
        g_free(d.buffers[1]);
        return ok;
}

int diff_main(int argc, char **argv) {
        g_autoptr(GError) error = NULL;

        log_init("usbox-fs", false);
        if (diff_run(argc, argv, STDOUT_FILENO, &error))
                return 0;
        log_note("diff: %s", error->message);
        if (err_get_hint(error))
                log_note("hint: %s", err_get_hint(error));
        return 1;
}
