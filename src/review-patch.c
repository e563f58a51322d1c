/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box changed, as a patch.
 *
 * Role: diff. Privileges: the caller's. Threads: one. Order: after review_changes().
 *
 * Lines are compared by diff(1), which gets two memory files of bytes that were read here: no name of the box comes to it. Names in the patch
 * are quoted as git does it, so none of them can look like a line of another kind.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "review-patch.h"

#define TEXT_MAX (16u * 1024 * 1024)  /* a file larger than this counts as binary */
#define HUNKS_MAX (64u * 1024 * 1024) /* twice that, and what is around */

/* One side of a file: what stands in a patch of it. */
typedef struct {
        bool exists;
        bool binary; /* or not to be read by the caller */
        mode_t mode; /* git's: 100644, 100755, 120000 */
        guint64 size;
        char *bytes; /* unless it is binary */
        gsize len;
} Side;

static void side_clear(Side *s) {
        g_free(s->bytes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Side, side_clear)

typedef struct {
        const Review *review;
        const char *strip;
        PatchFiles files;
        PatchVisit visit;
        void *data;
        char *diff; /* the program */
        GString *text;
        guint64 added, removed;
        guint unsaid;
        GError *error;
} Patch;

/* path is of the files that this is about. Asked before anything is read, and counted. */
static bool is_wanted(const Patch *p, const char *path) {
        return p->files == PATCH_ALL || review_is_hook(path) == (p->files == PATCH_HOOKS);
}

typedef int (*OpenIn)(const Review *review, const char *path, int flags);

/* git looks at the first 8000 bytes alone. Here all of them count: what stood behind a NUL would be in the file, and in no patch that is a string. */
static bool is_text(const char *bytes, gsize len) {
        return !memchr(bytes, '\0', len);
}

static bool load_link(Side *s, int fd) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(fd, "", target, sizeof target);

        if (n < 0)
                return false;
        s->mode = 0120000;
        s->bytes = g_strndup(target, (gsize) n);
        s->len = s->size = (gsize) n;
        return true;
}

/* Of what path is. False with errno; what is neither file nor symlink does not exist for a patch. */
static bool load(const Review *review, OpenIn open_in, const char *path, const struct stat *st, Side *ret) {
        *ret = (Side){ .exists = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode), .size = (guint64) st->st_size };
        if (!ret->exists)
                return true;
        _cleanup_close_ int fd = open_in(review, path, S_ISLNK(st->st_mode) ? O_PATH : O_RDONLY);
        ret->binary = fd < 0 && errno == EACCES; /* of an id of the box that is not the caller's */
        if (fd < 0)
                return ret->binary;
        if (S_ISLNK(st->st_mode))
                return load_link(ret, fd);
        ret->mode = st->st_mode & S_IXUSR ? 0100755 : 0100644;
        if (ret->size > TEXT_MAX || !fd_read_all(fd, TEXT_MAX, &ret->bytes, &ret->len)) {
                ret->binary = ret->size > TEXT_MAX || errno == EFBIG;
                return ret->binary;
        }
        ret->binary = !is_text(ret->bytes, ret->len);
        return true;
}

/* bytes as lines that begin with mark. Returns how many there are. */
static guint64 append_lines(GString *out, char mark, const Side *s) {
        guint64 n = 0;

        for (const char *at = s->bytes, *end = s->bytes + s->len; at < end; n++) {
                const char *newline = memchr(at, '\n', (size_t) (end - at));
                const char *next = newline ? newline + 1 : end;
                g_string_append_c(out, mark);
                g_string_append_len(out, at, next - at);
                if (!newline)
                        g_string_append(out, "\n\\ No newline at end of file\n");
                at = next;
        }
        return n;
}

static guint64 count_lines(const Side *s) {
        guint64 n = 0;

        for (gsize i = 0; i < s->len; i++)
                n += s->bytes[i] == '\n';
        return n + (s->len > 0 && s->bytes[s->len - 1] != '\n');
}

static void append_range(GString *out, char sign, guint64 n) {
        g_string_append_printf(out, n == 1 ? " %c1" : " %c%d,%" G_GUINT64_FORMAT, sign, n > 0, n);
}

/* All of one side gone and all of the other new: a new or a removed file, a symlink. */
static void whole_hunk(Patch *p, const Side *before, const Side *after) {
        if (before->len + after->len == 0)
                return;
        g_string_append(p->text, "@@");
        append_range(p->text, '-', count_lines(before));
        append_range(p->text, '+', count_lines(after));
        g_string_append(p->text, " @@\n");
        p->removed += append_lines(p->text, '-', before);
        p->added += append_lines(p->text, '+', after);
}

static int memory_file(const Side *s) {
        int fd = memfd_create("usbox-diff", MFD_CLOEXEC);

        if (fd >= 0 && fd_write_all(fd, s->bytes, s->len))
                return fd;
        fd_closep(&fd);
        return -1;
}

/* The lines of diff -u; its first two, which have names, left out. */
static void take_hunks(Patch *p, const char *out) {
        for (int i = 0; i < 2 && out; i++)
                out = strchr(out, '\n') ? strchr(out, '\n') + 1 : NULL;
        if (!out)
                return;
        for (const char *at = out; *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : at + strlen(at)) {
                p->added += *at == '+';
                p->removed += *at == '-';
        }
        g_string_append(p->text, out);
}

static bool compared_hunks(Patch *p, const Side *before, const Side *after) {
        _cleanup_close_ int a = memory_file(before), b = memory_file(after), out = -1;
        char *argv[] = { (char *) "diff", (char *) "--text", (char *) "--unified", (char *) "--label=a", (char *) "--label=b", (char *) "/proc/self/fd/3",
                         (char *) "/proc/self/fd/4", NULL };
        char *envp[] = { (char *) "LC_ALL=C", NULL };
        g_autofree char *hunks = NULL;
        int ends[2], status;

        if (a < 0 || b < 0 || pipe2(ends, O_CLOEXEC) < 0)
                return err_set(&p->error, errno, "compare");
        out = ends[0];
        const ProcFd map[] = { { a, 3 }, { b, 4 }, { ends[1], 1 } };
        pid_t pid = proc_spawn(p->diff, argv, envp, map, G_N_ELEMENTS(map), NULL, &p->error);
        close(ends[1]);
        if (pid < 0)
                return false;
        gsize len;
        bool got = fd_read_all(out, HUNKS_MAX, &hunks, &len);
        int errnum = errno;
        fd_closep(&out);
        if (!proc_wait(pid, &status))
                return err_set(&p->error, errno, "wait for %s", p->diff);
        if (!got || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
                g_autofree char *how = proc_status_text(status);
                return err_set(&p->error, got ? 0 : errnum, "%s: %s", p->diff, how);
        }
        take_hunks(p, hunks);
        return true;
}

/* A name is followed by a tab where git would take its blanks for the end of it. */
static void append_name_line(GString *out, const char *sign, const char *quoted) {
        g_string_append_printf(out, "%s %s%s\n", sign, quoted, strchr(quoted, ' ') && *quoted != '"' ? "\t" : "");
}

static const char *shown_path(const Patch *p, const char *path) {
        size_t n = strlen(p->strip);
        return path + (n == 1 ? 1 : n + 1);
}

static bool hunks(Patch *p, const Side *before, const Side *after, const char *a, const char *b) {
        if (before->exists && after->exists && before->len == after->len && memcmp(before->bytes, after->bytes, after->len) == 0)
                return true;
        if (before->len + after->len == 0)
                return true;
        append_name_line(p->text, "---", before->exists ? a : "/dev/null");
        append_name_line(p->text, "+++", after->exists ? b : "/dev/null");
        if (before->exists && after->exists && before->mode != 0120000)
                return compared_hunks(p, before, after);
        whole_hunk(p, before, after);
        return true;
}

/* git apply takes nothing below a .git, and with it nothing of a whole patch: there it is a comment. */
static void make_comment(GString *text) {
        g_auto(GStrv) lines = g_strsplit(text->str, "\n", -1);

        g_string_truncate(text, 0);
        for (char **line = lines; line[0] && line[1]; line++) /* the last is empty */
                g_string_append_printf(text, "# %s\n", *line);
}

static bool is_gits(const char *path) {
        const char *git = strstr(path, "/.git");
        return git && (git[5] == '/' || git[5] == '\0');
}

/* The patch of one file, of which both sides are of one type if both exist. */
static bool emit(Patch *p, const char *path, const Side *before, const Side *after) {
        const char *shown = shown_path(p, path);
        g_autofree char *a = review_quote("a/", shown), *b = review_quote("b/", shown);
        bool binary = before->binary || after->binary;

        g_string_truncate(p->text, 0);
        p->added = p->removed = 0;
        if (binary) {
                p->unsaid++;
                g_string_append_printf(p->text, "# %s: binary, %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes\n", b, before->size, after->size);
        } else {
                g_string_append_printf(p->text, "diff --git %s %s\n", a, b);
                gsize header = p->text->len;
                if (!before->exists)
                        g_string_append_printf(p->text, "new file mode %06o\n", after->mode);
                else if (!after->exists)
                        g_string_append_printf(p->text, "deleted file mode %06o\n", before->mode);
                else if (before->mode != after->mode)
                        g_string_append_printf(p->text, "old mode %06o\nnew mode %06o\n", before->mode, after->mode);
                if (!hunks(p, before, after, a, b))
                        return false;
                if (p->text->len == header)
                        return true;
                if (is_gits(path)) {
                        make_comment(p->text);
                        p->unsaid++;
                }
        }
        p->visit(p->data, &(PatchFile){ path, binary, p->added, p->removed, before->size, after->size, p->text->str });
        return true;
}

static bool unreadable(Patch *p, const char *path) {
        int errnum = errno;
        g_autofree char *quoted = err_quote(path);
        return err_set(&p->error, errnum, "read %s", quoted);
}

static bool removed_entry(void *data, const ReviewEntry *e) {
        Patch *p = data;
        g_auto(Side) before = { 0 }, after = { 0 };

        if (!e->shown || !is_wanted(p, e->path))
                return true;
        if (!load(p->review, review_open_lower, e->path, e->st, &before))
                return unreadable(p, e->path);
        return !before.exists || emit(p, e->path, &before, &after);
}

static bool walk_failed(Patch *p, const char *path) {
        return p->error ? false : unreadable(p, path);
}

/* What the host has at path goes. */
static bool removed(Patch *p, const char *path, const struct stat *st, RuleState rule) {
        g_auto(Side) before = { 0 }, after = { 0 };

        if (S_ISDIR(st->st_mode))
                return review_walk_lower(p->review, path, rule, removed_entry, p) || walk_failed(p, path);
        if (!is_wanted(p, path))
                return true;
        if (!load(p->review, review_open_lower, path, st, &before))
                return unreadable(p, path);
        return emit(p, path, &before, &after);
}

static bool added(Patch *p, const ReviewChange *c) {
        g_auto(Side) before = { 0 }, after = { 0 };

        if (!is_wanted(p, c->path))
                return true;
        if (!load(p->review, review_open_upper, c->path, &c->st, &after))
                return unreadable(p, c->path);
        if (!after.exists) {
                p->unsaid += !S_ISDIR(c->st.st_mode);
                return true;
        }
        return emit(p, c->path, &before, &after);
}

static bool modified(Patch *p, const ReviewChange *c) {
        g_auto(Side) before = { 0 }, after = { 0 };

        if (!is_wanted(p, c->path))
                return true;
        if (c->what & (CHANGE_OWNER | CHANGE_XATTR) || (c->what & CHANGE_MODE && ((c->st.st_mode ^ c->below.st_mode) & 07777 & ~S_IXUSR)))
                p->unsaid++;
        if (!(c->what & (CHANGE_CONTENT | CHANGE_MODE)) || S_ISDIR(c->st.st_mode))
                return true;
        if (!load(p->review, review_open_lower, c->below_path, &c->below, &before) || !load(p->review, review_open_upper, c->path, &c->st, &after))
                return unreadable(p, c->path);
        return !after.exists || emit(p, c->path, &before, &after);
}

/* A renamed directory: what of it the upper does not speak of came with it. */
typedef struct {
        Patch *patch;
        const ReviewChange *dir;
        GHashTable *spoken; /* paths of the box that have a change of their own, or went */
} Moved;

static bool moved_entry(void *data, const ReviewEntry *e) {
        Moved *m = data;
        g_autofree char *path = g_strconcat(m->dir->path, e->path + strlen(m->dir->redirect), NULL);
        g_auto(Side) before = { 0 }, after = { 0 };

        for (const char *slash = path + strlen(m->dir->path); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *above = g_strndup(path, (gsize) (slash - path));
                if (slash != path + strlen(m->dir->path) && g_hash_table_contains(m->spoken, above))
                        return true;
        }
        if (!e->shown || g_hash_table_contains(m->spoken, path) || !is_wanted(m->patch, path))
                return true;
        if (!load(m->patch->review, review_open_lower, e->path, e->st, &after))
                return unreadable(m->patch, e->path);
        return !after.exists || emit(m->patch, path, &before, &after);
}

static bool moved_rest(Patch *p, const GPtrArray *changes, const ReviewChange *dir) {
        g_autoptr(GHashTable) spoken = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < changes->len; i++) {
                const ReviewChange *c = changes->pdata[i];
                if (c->moved && !(c->has_st && S_ISDIR(c->st.st_mode) && c->kind != CHANGE_TYPE && !c->redirect && !c->opaque))
                        g_hash_table_add(spoken, c->path);
        }
        RuleState rule = changes_rule_of(&p->review->options, dir->redirect);
        return review_walk_lower(p->review, dir->redirect, rule, moved_entry, &(Moved){ p, dir, spoken }) || walk_failed(p, dir->redirect);
}

static bool one(Patch *p, const GPtrArray *changes, const ReviewChange *c) {
        if (c->hidden && c->has_st && !S_ISDIR(c->st.st_mode)) {
                p->unsaid += is_wanted(p, c->path); /* the host has that name: as a new file it would not apply */
                return true;
        }
        /* In a renamed directory nothing of what is new to it is at this path of the host, and all is new there; but where another was, that goes. */
        if (c->redirect && c->has_below && c->moved_len == 0 && !removed(p, c->path, &c->below, c->rule))
                return false;
        if (c->redirect)
                return moved_rest(p, changes, c) && (c->kind != CHANGE_MODIFIED || modified(p, c));
        if (c->moved)
                return c->has_st ? added(p, c) : true;
        if (c->kind == CHANGE_DELETED)
                return removed(p, c->path, &c->below, c->rule);
        if (c->kind == CHANGE_TYPE)
                return removed(p, c->path, &c->below, c->rule) && added(p, c);
        return c->kind == CHANGE_ADDED ? added(p, c) : modified(p, c);
}

bool review_patch(const Review *review, const GPtrArray *changes, const char *strip, PatchFiles files, PatchVisit visit, void *data, guint *unsaid,
                  GError **error) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_autofree char *diff = g_find_program_in_path("diff");
        Patch p = { .review = review, .strip = strip, .files = files, .visit = visit, .data = data, .diff = diff, .text = text };
        bool ok = true;

        if (!diff) {
                err_set(error, ENOENT, "diff");
                return err_hint(error, "as root: apt install diffutils");
        }
        for (guint i = 0; ok && i < changes->len; i++)
                ok = one(&p, changes, changes->pdata[i]);
        *unsaid += p.unsaid;
        if (p.error)
                g_propagate_error(error, p.error);
        return ok;
}
