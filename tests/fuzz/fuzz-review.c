/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: an upper of any shape over a small host, judged and carried.
 *
 * The input is a list of two bytes each, what to make and where, and what is left of it is the box's journal. Role: tests only. Privileges: the
 * caller's, in a directory of its own. Threads: one. Whatever the upper is: nothing outside of the host's tree changes, no temporary name stays in it, and what
 * a plan wants to do it counts.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "box-remove.h"
#include "commit-apply.h"
#include "fuzz.h"

#define STEPS_MAX 24

static char *top;
static int top_fd;

static void remove_top(void) {
        FdLater later = { .n = FD_LATER_MAX };
        (void) box_remove_part(&later, AT_FDCWD, top, NULL);
}

static void begin(void) {
        top = g_dir_make_tmp("usbox-fuzz-XXXXXX", NULL);
        top_fd = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(top_fd, >=, 0);
        g_assert_cmpint(atexit(remove_top), ==, 0);
}

static void fresh(void) {
        static const char *const dirs[] = { "box", "box/upper", "host", "host/a", "host/a/b", "host/c", "outside", NULL };
        static const char *const files[] = { "host/a/f", "host/a/b/f", "host/c/f", "host/f", "outside/f", NULL };
        FdLater later = { .n = FD_LATER_MAX };

        for (const char *const *name = (const char *const[]){ "box", "host", "outside", NULL }; *name; name++)
                g_assert_cmpint(box_remove_part(&later, top_fd, *name, NULL), ==, 0);
        for (const char *const *name = dirs; *name; name++)
                g_assert_cmpint(mkdirat(top_fd, *name, 0755), ==, 0);
        for (const char *const *name = files; *name; name++) {
                int fd = openat(top_fd, *name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
                g_assert_true(fd_write_all(fd, "host\n", 5));
                close(fd);
        }
}

static void mark(const char *path, const char *name, const char *value) {
        g_autofree char *full = g_build_filename(top, path, NULL);
        (void) lsetxattr(full, name, value, strlen(value), 0);
}

/* One thing in the upper; where what it is in is missing or of another kind, nothing. */
static void make(uint8_t what, uint8_t where) {
        static const char *const places[] = { "a", "a/b", "a/f", "a/b/f", "c", "c/f", "n", "n/a", "n/f", "f", "a/n", "..." };
        static const char *const targets[] = { "/a", "/c", "/a/b", "/n", "/../outside", "a", "..", "/" };
        const char *target = targets[what / 16 % G_N_ELEMENTS(targets)];
        g_autofree char *path = g_strconcat("box/upper/", places[where % G_N_ELEMENTS(places)], NULL);
        int fd;

        switch (what % 10) {
        case 0:
                fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, where & 128 ? 0 : 0644);
                (void) !write(fd, "box\n", where & 64 ? 4 : 0);
                fd_closep(&fd);
                break;
        case 1:
        case 2:
                (void) mkdirat(top_fd, path, where & 128 ? 0700 : 0755);
                break;
        case 3:
                (void) symlinkat("../outside", top_fd, path); /* there from host/, not from box/upper/, where the next steps would follow it */
                break;
        case 4:
                (void) mknodat(top_fd, path, S_IFCHR, makedev(0, 0));
                break;
        case 5:
                (void) mknodat(top_fd, path, S_IFIFO | 0644, 0);
                break;
        case 6:
                mark(path, "user.overlay.opaque", "y");
                break;
        case 7:
                mark(path, "user.overlay.redirect", target);
                break;
        case 8:
                mark(path, "user.overlay.usbox.ino", "12345");
                break;
        default:
                (void) fchmodat(top_fd, path, where & 128 ? 0 : 06755, 0);
        }
}

static Review *review(void) {
        Review *r = g_new0(Review, 1);
        g_autoptr(GPtrArray) lower = g_ptr_array_new_with_free_func(g_free);

        g_strlcpy(r->id, "0123456789ab", sizeof r->id);
        r->home = g_strdup("/home/nobody");
        r->dir_fd = openat(top_fd, "box", O_PATH | O_DIRECTORY | O_CLOEXEC);
        r->upper = openat(top_fd, "box/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r->seen = g_new0(Seen, 1);
        r->seen->fuse = true;
        r->seen->since.tv_sec = G_MAXINT64;
        r->seen->own = g_hash_table_new(g_str_hash, g_str_equal);
        r->seen->ways = g_hash_table_new(g_str_hash, g_str_equal);
        r->seen->through = g_hash_table_new(g_str_hash, g_str_equal);
        r->seen->rules = fs_config_new();
        r->rules = rules_new(r->seen->rules);
        g_ptr_array_add(lower, g_build_filename(top, "host", NULL));
        g_assert_true(lowers_open(lower, &r->lowers, NULL));
        r->lowers.live = true;
        r->options = (ChangesOptions){ .live = true, .owners = true, .opens_closed = true, .uid = geteuid(), .root_uid = G_MAXUINT32,
                                       .root_gid = G_MAXUINT32, .rules = r->rules, .own = r->seen->own };
        r->journal = commit_journal_read(r->dir_fd, g_array_index(r->lowers.roots, int, 0), NULL);
        return r;
}

static void done(void *data, const CommitItem *item) {
        g_assert_true(item->verdict == COMMIT_DO);
        ++*(guint *) data;
}

static void failed(void *data, const CommitItem *item, const char *why) {
        g_assert_nonnull(why);
        ++*(guint *) data;
}

static bool no_rest(void *data, const ReviewEntry *e) {
        g_assert_false(g_str_has_prefix(e->name, COMMIT_TEMP));
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *text = NULL;
        guint told = 0, wanted = 0;

        if (!top)
                begin();
        fresh();
        size_t steps = MIN(size / 2, STEPS_MAX);
        for (size_t i = 0; i < steps; i++)
                make(data[2 * i], data[2 * i + 1]);
        int journal = size > 2 * steps ? openat(top_fd, "box/commit", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
        g_assert_true(journal < 0 || fd_write_all(journal, data + 2 * steps, size - 2 * steps));
        fd_closep(&journal);

        g_autoptr(Review) r = review();
        if (r->journal) {
                g_autoptr(CommitPlan) plan = commit_plan_new(r, NULL, size & 1);
                for (guint i = 0; i < plan->items->len; i++)
                        wanted += g_array_index(plan->items, CommitItem, i).verdict == COMMIT_DO;
                g_assert_cmpuint(wanted, ==, plan->n_do);
                g_assert_true(commit_apply(r, plan, &(CommitReport){ done, failed, &told }, NULL));
                g_assert_cmpuint(told, <=, wanted);
                (void) review_walk_lower(r, "/", rules_root(r->rules), no_rest, NULL);
        }
        gsize len;
        g_assert_true(fd_read_file(top_fd, "outside/f", 64, &text, &len) && g_str_equal(text, "host\n"));
        g_assert_cmpint(faccessat(top_fd, "outside/n", F_OK, 0), <, 0);
        return 0;
}
