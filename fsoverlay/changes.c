/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an upper changes: a walk over it beside the merged lower layers.
 *
 * Role: usbox-fs diff; usbox's verbs that review a box. Privileges: the caller's, who must be able to read the upper. Threads: one.
 *
 * Each directory is gone through by descriptors. The upper is hostile: nothing in it is opened but directories and regular files, without following
 * symlinks or crossing mounts; times prove nothing, so files that look alike are compared byte by byte; paths are bounded, and so is
 * the depth.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/fd.h"
#include "base/sys.h"
#include "base/times.h"
#include "fsoverlay/changes-xattr.h"
#include "fsoverlay/changes.h"
#include "fsoverlay/config.h"

typedef struct {
        char *name;
        bool whiteout;
        struct stat st; /* where it is none */
} Entry;

typedef struct {
        Lowers *lowers;
        const ChangesOptions *options;
        const ChangesVisitor *visitor;
        LayerForm form;   /* of the upper */
        GString *path;    /* of the directory at hand, "" for the root */
        char *buffer;     /* of COPY_COMPARE_SIZE */
} Walk;

/* A directory of the upper and what is below it. */
typedef struct {
        int fd;
        const LowerDir *lower;
        const char *lower_path; /* where that lies, "" for the root */
        gsize moved_len;        /* so much of it is the path of a directory that was renamed to this one, or to one above it; 0: none was */
        RuleState rule;         /* of lower */
        bool opaque;            /* lower is not to be seen through it: what the upper has not is gone */
        bool later;             /* lower, or what it is in, came to be when the upper's was there: it is in place of nothing */
} Place;

/* What the lower has at an entry's place, for the eyes of the box. */
typedef struct {
        bool exists, hidden;
        struct stat st;
        int dirfd; /* borrowed */
        RuleState rule;
        LowerDir dir;
} Below;

static void complain(Walk *w, const char *name, int errnum) {
        g_autofree char *full = g_strconcat(w->path->str, name ? "/" : "", name, NULL);
        w->visitor->complain(w->visitor->data, *full ? full : "/", errnum);
}

const char *changes_type_name(mode_t mode) {
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

/* Files of one size. False with errno, 0 where the bytes are others. */
static bool same_bytes(Walk *w, int a_dir, const char *a_name, int b_dir, const char *b_name) {
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        _cleanup_close_ int a = openat(a_dir, a_name, flags), b = openat(b_dir, b_name, flags);

        if (a < 0 || b < 0)
                return false;
        int same = copy_is_same(a, b, G_MAXOFFSET, w->buffer);
        errno = same < 0 ? -same : 0;
        return same == 1;
}

/* Not part of visit_directory(), of which there are as many on the stack as a path has names. */
G_NO_INLINE static bool same_target(int a_dir, const char *a_name, int b_dir, const char *b_name) {
        char a[PATH_MAX], b[PATH_MAX];
        ssize_t n = readlinkat(a_dir, a_name, a, sizeof a), m = readlinkat(b_dir, b_name, b, sizeof b);
        return n >= 0 && n == m && memcmp(a, b, (size_t) n) == 0;
}

static bool same_id(guint32 upper, guint32 below, guint32 box_root) {
        return upper == below || (below == 0 && upper == box_root);
}

/* Whose it is: what it says, where it could not be given to them. */
static bool same_owner(const Walk *w, int dirfd, const char *name, const struct stat *a, const struct stat *b) {
        g_autofree char *note = S_ISLNK(a->st_mode) ? NULL : layer_xattr(dirfd, name, XATTR_OWNER, NULL);
        guint64 uid = a->st_uid, gid = a->st_gid;
        g_auto(GStrv) parts = note ? g_strsplit(note, ":", 3) : NULL;

        if (parts && parts[0] && parts[1] && g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXUINT32, &uid, NULL))
                (void) g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT32, &gid, NULL);
        return same_id((guint32) uid, b->st_uid, w->options->root_uid) && same_id((guint32) gid, b->st_gid, w->options->root_gid);
}

/* A file that could not be read is what it looks like where its mode shuts out everybody, here and there: else a commit of it would never be through. */
static bool is_shut_alike(const struct stat *st, unsigned what) {
        return errno == EACCES && !(st->st_mode & (S_IRUSR | S_IRGRP | S_IROTH)) && !(what & (CHANGE_MODE | CHANGE_TIME));
}

/* Of one type: what is not the same? */
static unsigned differences(Walk *w, const Place *place, const Entry *e, const Below *below) {
        const struct stat *a = &e->st, *b = &below->st;
        bool file = S_ISREG(a->st_mode), same_size = a->st_size == b->st_size;
        unsigned what = 0;

        if (w->options->owners && !same_owner(w, place->fd, e->name, a, b))
                what |= CHANGE_OWNER;
        if (S_ISLNK(a->st_mode))
                return what | (same_target(place->fd, e->name, below->dirfd, e->name) ? 0 : CHANGE_CONTENT);
        if (a->st_mode != b->st_mode)
                what |= CHANGE_MODE;
        if ((S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) && a->st_rdev != b->st_rdev)
                what |= CHANGE_CONTENT;
        if (file && time_compare(&a->st_mtim, &b->st_mtim) != 0)
                what |= CHANGE_TIME;
        if (!changes_same_attributes(place->fd, e->name, below->dirfd, e->name))
                what |= CHANGE_XATTR;
        if (file && !(same_size && (same_bytes(w, place->fd, e->name, below->dirfd, e->name) || is_shut_alike(a, what))))
                what |= CHANGE_CONTENT;
        return what;
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
static GArray *read_upper(Walk *w, const Place *place) {
        GArray *entries = g_array_new(FALSE, FALSE, sizeof(Entry));
        DIR *stream = fd_open_dir(place->fd, ".");
        const struct dirent *dirent;
        struct stat st;

        g_array_set_clear_func(entries, entry_clear);
        if (!stream) {
                complain(w, NULL, errno);
                return entries;
        }
        while (errno = 0, (dirent = readdir(stream))) {
                const char *name = dirent->d_name;
                if (g_str_equal(name, ".") || g_str_equal(name, "..") || layer_is_mark(w->form, name))
                        continue;
                const char *gone = layer_wh_name(w->form, name);
                if (gone) {
                        add_entry(entries, gone, true, NULL);
                        continue;
                }
                LayerName kind = layer_look(w->form, place->fd, name, &st);
                if (kind == LAYER_NOTHING)
                        complain(w, name, errno); /* ENOENT: read just now, and gone: somebody is at work there */
                else
                        add_entry(entries, name, kind == LAYER_WHITEOUT, &st);
        }
        if (errno != 0)
                complain(w, NULL, errno);
        closedir(stream);
        g_array_sort(entries, compare_entries);
        return entries;
}

/* Those of names that the upper has not, as whiteouts. */
static void add_whiteouts(GArray *entries, const GPtrArray *names) {
        g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < entries->len; i++)
                g_hash_table_add(known, g_array_index(entries, Entry, i).name);
        for (guint i = 0; i < names->len; i++)
                if (g_hash_table_add(known, names->pdata[i]))
                        add_entry(entries, names->pdata[i], true, NULL);
        g_array_sort(entries, compare_entries);
}

/* What the lower has, and an opaque directory of the upper has not. */
static void add_missing(Walk *w, const Place *place, GArray *entries) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

        lowers_list(w->lowers, place->lower, names);
        add_whiteouts(entries, names);
}

/* What any other user of the machine could not see, as the plan of the root has it, and what is only an ACL's to open. */
static bool closed_to_others(const ChangesOptions *o, int dirfd, const char *name, const struct stat *st) {
        mode_t closed = (S_ISDIR(st->st_mode) ? S_IROTH | S_IXOTH : S_IROTH) & ~st->st_mode;

        if (S_ISLNK(st->st_mode) || !closed)
                return false;
        bool mine = st->st_uid == o->uid;
        for (guint i = 0; !mine && i < o->n_groups; i++)
                mine = st->st_gid == o->groups[i];
        return mine || (closed & S_IROTH && faccessat(dirfd, name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0) ||
               (closed & S_IXOTH && faccessat(dirfd, name, X_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0);
}

static bool shown_by_rules(const ChangesOptions *options, int dirfd, const char *parent_path, const char *name, const struct stat *st, RuleState *rule) {
        if (options->live && !S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode))
                return false;
        if (!options->rules)
                return true;
        RuleState parent = *rule;
        if (!rules_trivial(parent) && !rules_enter(options->rules, parent, *parent_path ? parent_path : "/", name, S_ISDIR(st->st_mode), rule))
                return false;
        return !rules_others_eyes(*rule) || !closed_to_others(options, dirfd, name, st) || rules_close(rule);
}

static bool is_made(const ChangesOptions *options, const char *parent_path, const char *name, const struct stat *st) {
        g_autofree char *path = g_strconcat(g_str_equal(parent_path, "/") ? "" : parent_path, "/", name, NULL);
        return options->made && options->made(options->data, path, st);
}

bool changes_shows(const ChangesOptions *options, int dirfd, const char *parent_path, const char *name, const struct stat *st, RuleState *rule) {
        if (shown_by_rules(options, dirfd, parent_path, name, st, rule))
                return true;
        if (!is_made(options, parent_path, name, st))
                return false;
        *rule = rules_nothing(); /* what others put into it since is hidden as it was, and nothing of it shows through the upper's */
        return true;
}

/* A name at which something was made of what the upper had, and the upper has it no more: no mark was needed for that, since nothing of the lower's
 * shows there, be it hidden, or in a directory that the upper's does not show. */
static void add_made(Walk *w, const Place *place, GArray *entries) {
        const GPtrArray *names = w->options->made_in ? w->options->made_in(w->options->data, *place->lower_path ? place->lower_path : "/") : NULL;
        g_autoptr(GPtrArray) gone = g_ptr_array_new();

        for (guint i = 0; names && i < names->len; i++) {
                g_auto(LowerDir) dir = { 0 };
                RuleState rule = place->rule;
                struct stat st;
                int dirfd;
                if (lowers_lookup(w->lowers, place->lower, names->pdata[i], &st, &dir, &dirfd) &&
                    (place->later || (!shown_by_rules(w->options, dirfd, place->lower_path, names->pdata[i], &st, &rule) &&
                                      is_made(w->options, place->lower_path, names->pdata[i], &st))))
                        g_ptr_array_add(gone, names->pdata[i]);
        }
        if (gone->len > 0)
                add_whiteouts(entries, gone);
}

static void look_below(Walk *w, const Place *place, const char *name, Below *ret) {
        *ret = (Below){ .rule = place->rule };
        ret->exists = lowers_lookup(w->lowers, place->lower, name, &ret->st, &ret->dir, &ret->dirfd);
        if (!ret->exists)
                return;
        bool own = false;
        if (w->options->own) {
                g_autofree char *path = g_strconcat(w->path->str, "/", name, NULL);
                own = g_hash_table_contains(w->options->own, path);
        }
        if (!own && changes_shows(w->options, ret->dirfd, place->lower_path, name, &ret->st, &ret->rule))
                return;
        ret->exists = false;
        ret->hidden = true;
        lower_dir_clear(&ret->dir);
}

/* Say what became of an entry. True: what is in it is to be looked at. */
static bool report(Walk *w, const Place *place, const Entry *e, const Below *below, Change *change) {
        g_autofree char *path = g_strconcat(w->path->str, "/", e->name, NULL);
        g_autofree char *below_path = g_strconcat(place->lower_path, "/", e->name, NULL);

        change->path = path;
        change->name = e->name;
        change->dirfd = place->fd;
        change->st = change->kind == CHANGE_DELETED ? NULL : &e->st;
        change->below = below->exists ? &below->st : NULL;
        change->below_path = below_path;
        change->moved_len = place->moved_len;
        change->rule = below->rule;
        change->hidden = below->hidden;
        return w->visitor->change(w->visitor->data, change);
}

/*
 * Where in the lower a directory of the upper continues by its mark, or where that lies by now. The caller's. NULL: it has none, or *ret_here: that is its own
 * place, to which it came back, or was moved by somebody.
 */
static char *continued_at(Walk *w, const Place *place, const char *name, int fd, bool *ret_here, bool *ret_bad) {
        g_autofree char *mark = layer_redirect(w->form, fd, ret_bad);
        if (!mark)
                return NULL;
        g_autofree char *redirect = mark[0] != '/' ? g_strconcat(place->lower_path, "/", mark, NULL) : g_strdup(mark);
        g_autofree char *now = w->options->place ? w->options->place(w->options->data, redirect) : NULL;
        g_autofree char *own = g_strconcat(now ? w->path->str : place->lower_path, "/", name, NULL);
        *ret_here = now ? g_str_equal(now, own) : !place->opaque && g_str_equal(redirect, own);
        if (*ret_here)
                return NULL;
        return now ? g_steal_pointer(&now) : g_steal_pointer(&redirect);
}

static void walk(Walk *w, const Place *place);

RuleState changes_rule_of(const ChangesOptions *options, const char *path) {
        g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
        g_autoptr(GString) parent = g_string_new("/");
        RuleState rule = options->rules ? rules_root(options->rules) : 0;

        for (guint i = 0; options->rules && names[i]; i++) {
                RuleState above = rule;
                if (!rules_trivial(above) && !rules_enter(options->rules, above, parent->str, names[i], true, &rule))
                        return above;
                g_string_append_printf(parent, "%s%s", parent->len > 1 ? "/" : "", names[i]);
        }
        return rule;
}

/* A directory of the upper that was entered. */
typedef struct {
        int fd;
        bool opaque; /* itself, or what it is in */
        bool later;
        const char *redirect;
} Entered;

/* A directory that the lower has not is by its path where rules go on, too: none of its directory's is about what is in it. */
static RuleState rule_inside(const Walk *w, const Place *place, const Entry *e, const Below *below) {
        const ChangesOptions *o = w->options;
        RuleState own;

        if (below->exists || below->hidden || !o->rules || rules_trivial(place->rule))
                return below->rule;
        return rules_enter(o->rules, place->rule, *place->lower_path ? place->lower_path : "/", e->name, true, &own) ? own : below->rule;
}

static void walk_into(Walk *w, const Place *place, const Entry *e, const Below *below, const Entered *entered) {
        const char *redirect = entered->redirect;
        g_auto(LowerDir) moved = { 0 };

        if (w->path->len + strlen(e->name) + 2 >= PATH_MAX) {
                complain(w, e->name, ENAMETOOLONG);
                return;
        }
        if (redirect)
                lowers_lookup_path(w->lowers, redirect, &moved);
        g_autofree char *lower_path = redirect ? g_strdup(redirect) : g_strconcat(place->lower_path, "/", e->name, NULL);
        const Place child = { .fd = entered->fd,
                              .lower = redirect ? &moved : &below->dir,
                              .lower_path = lower_path,
                              .moved_len = redirect ? strlen(redirect) : place->moved_len,
                              .rule = redirect ? changes_rule_of(w->options, redirect) : rule_inside(w, place, e, below),
                              .opaque = entered->opaque,
                              .later = entered->later };
        gsize len = w->path->len;
        g_string_append_printf(w->path, "/%s", e->name);
        walk(w, &child);
        g_string_truncate(w->path, len);
}

static int open_dir(const Place *place, const char *name, uint64_t flags) {
        return sys_openat2(place->fd, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0,
                           RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

static bool set_mode(int fd, mode_t mode) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        return chmod(path, mode) == 0;
}

/* *ret_closed: its mode is to be put back. */
static int enter_dir(const Walk *w, const Place *place, const Entry *e, bool *ret_closed) {
        int fd = (e->st.st_mode & S_IXUSR) || !w->options->opens_closed ? open_dir(place, e->name, O_RDONLY) : (errno = EACCES, -1);
        _cleanup_close_ int path = -1;

        *ret_closed = false;
        if (fd >= 0 || errno != EACCES || !w->options->opens_closed || e->st.st_uid != geteuid())
                return fd;
        path = open_dir(place, e->name, O_PATH);
        *ret_closed = path >= 0 && set_mode(path, (e->st.st_mode & 07777) | 0700);
        return *ret_closed ? open_dir(place, e->name, O_RDONLY) : -1;
}

/* The lower's directory e came to be later than that of the upper, fd. */
static bool came_later(const Walk *w, const Place *place, const Entry *e, int fd) {
        g_autofree char *path = g_strconcat(place->lower_path, "/", e->name, NULL);
        return w->options->came_later && w->options->came_later(w->options->data, path, fd);
}

/* What is below a directory of the upper, by which path, and what of it shows; then into it. */
static void visit_directory(Walk *w, const Place *place, const Entry *e, const Below *below) {
        bool closed;
        _cleanup_close_ int fd = enter_dir(w, place, e, &closed);
        int errnum = errno;
        bool own_opaque = fd >= 0 && layer_is_opaque(w->form, fd), here = false, bad = false, is_dir = below->exists && S_ISDIR(below->st.st_mode);
        g_autofree char *redirect = fd >= 0 && !own_opaque ? continued_at(w, place, e->name, fd, &here, &bad) : NULL;
        bool later = is_dir && !redirect && !here && (place->later || (own_opaque && came_later(w, place, e, fd)));
        own_opaque = own_opaque && !later;
        own_opaque = own_opaque || (is_dir && !redirect && below->rule == rules_nothing());
        bool opaque = own_opaque || (place->opaque && !redirect && !here && !later);
        Change change = { .kind = !below->exists ? CHANGE_ADDED : is_dir ? CHANGE_NONE : CHANGE_TYPE, .redirect = redirect, .opaque = is_dir && own_opaque };
        change.merged = !opaque && !redirect && place->lower->parts;
        change.unread = fd < 0;

        if (is_dir && (change.what = differences(w, place, e, below) | (own_opaque || redirect ? CHANGE_PLACE : 0)))
                change.kind = CHANGE_MODIFIED;
        bool enter = (change.kind == CHANGE_NONE && !w->options->unchanged) || report(w, place, e, below, &change);
        if (fd < 0 || bad)
                complain(w, e->name, bad ? EINVAL : errnum);
        if (fd >= 0 && enter)
                walk_into(w, place, e, below, &(Entered){ fd, opaque, later, redirect });
        if (closed)
                (void) set_mode(fd, e->st.st_mode & 07777);
}

static void visit(Walk *w, const Place *place, const Entry *e) {
        Below below;
        Change change = { .kind = CHANGE_DELETED };

        look_below(w, place, e->name, &below);
        if (e->whiteout) {
                if (below.exists)
                        report(w, place, e, &below, &change);
        } else if (S_ISDIR(e->st.st_mode))
                visit_directory(w, place, e, &below);
        else {
                change.kind = !below.exists                                                   ? CHANGE_ADDED
                              : (e->st.st_mode & S_IFMT) != (below.st.st_mode & S_IFMT) ? CHANGE_TYPE
                                                                                        : CHANGE_MODIFIED;
                if (change.kind == CHANGE_MODIFIED && !(change.what = differences(w, place, e, &below)))
                        change.kind = CHANGE_NONE;
                if (change.kind != CHANGE_NONE || w->options->unchanged)
                        report(w, place, e, &below, &change);
        }
        lower_dir_clear(&below.dir);
}

static void walk(Walk *w, const Place *place) {
        g_autoptr(GArray) entries = read_upper(w, place);

        if (place->opaque)
                add_missing(w, place, entries);
        else
                add_made(w, place, entries);
        for (guint i = 0; i < entries->len; i++) {
                const Entry *e = &g_array_index(entries, Entry, i);
                if (i == 0 || !g_str_equal(e->name, g_array_index(entries, Entry, i - 1).name))
                        visit(w, place, e);
        }
}

void changes_walk(int upper, Lowers *lowers, const ChangesOptions *options, const ChangesVisitor *visitor) {
        g_autoptr(GString) path = g_string_new(NULL);
        g_autofree char *buffer = g_malloc(COPY_COMPARE_SIZE);
        Walk w = { lowers, options, visitor, layer_form(upper), path, buffer };
        g_auto(LowerDir) root = { 0 };

        lowers_root(lowers, &root);
        walk(&w, &(Place){ .fd = upper,
                           .lower = &root,
                           .lower_path = "",
                           .rule = options->rules ? rules_root(options->rules) : 0,
                           .opaque = layer_is_opaque(w.form, upper) });
}
