/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making the copy of something of the upper on the host, under a temporary name beside its place.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-apply.c.
 *
 * What comes to the host: bytes with holes as holes, symlinks, mode without set-id bits of files, times, attributes user.* and ACLs. The owner is who
 * calls; the group is the replaced file's.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/copy.h"
#include "base/fd.h"
#include "base/times.h"
#include "commit-work.h"
#include "fsoverlay/config.h"
#include "mountinfo.h"

#define ATTRIBUTE_MAX 65536

static char *name_key(const struct stat *st) {
        return g_strdup_printf("%" G_GINT64_MODIFIER "x:%" G_GINT64_MODIFIER "x", (guint64) st->st_dev, (guint64) st->st_ino);
}

void commit_remember_name(CommitWork *w, const ReviewChange *c) {
        if (!commit_has_other_names(&c->st))
                return;
        g_autofree char *key = name_key(&c->st);
        GPtrArray *names = g_hash_table_lookup(w->names, key);
        if (!names) {
                names = g_ptr_array_new_with_free_func(g_free);
                g_hash_table_insert(w->names, g_steal_pointer(&key), names);
        }
        g_ptr_array_add(names, g_strdup(c->path));
}

/* Which part of the host path is of: the length of what its paths begin with. */
static size_t part_of(const Review *r, const char *path) {
        const char *cwd = r->seen->cwd;
        bool shown = !path_is_at_or_below(r->home, cwd); /* else the box has seen no working directory */

        if (!g_str_equal(r->seen->lower, "/"))
                return 0;
        if (shown && path_is_at_or_below(path, cwd))
                return strlen(cwd);
        size_t top = path_is_at_or_below(path, r->home) ? strlen(r->home) : 0;
        return top + 1 + strcspn(path + top + 1, "/");
}

/*
 * The names may be one file on the host as they are in the box. Not of a project and of what lies outside of it: the next box that may write the project
 * (--rw) would write that as well, and nobody sees it of the name. Nor of a project hook, which such a box may not write.
 */
static bool may_share(const Review *r, const char *a, const char *b) {
        size_t n = part_of(r, a), m = part_of(r, b);

        return n == m && strncmp(a, b, n) == 0 && !review_is_hook(a) && !review_is_hook(b);
}

typedef enum {
        LINK_FAILED, /* errno says why: at another time there may be one */
        LINK_NONE,
        LINK_MADE,
} Link;

/* None where the host's is another by now, or cannot have one more. */
static Link link_to(CommitWork *w, const ReviewChange *c, const char *known) {
        _cleanup_close_ int fd = review_open_lower(w->review, known, O_PATH);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EXDEV ? LINK_NONE : LINK_FAILED;
        if (!S_ISREG(st.st_mode) || st.st_size != c->st.st_size || time_compare(&st.st_mtim, &c->st.st_mtim) != 0)
                return LINK_NONE;
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, path, w->dir, w->temp, AT_SYMLINK_FOLLOW) == 0)
                return LINK_MADE;
        return errno == EMLINK || errno == EXDEV || errno == EPERM || errno == EOPNOTSUPP ? LINK_NONE : LINK_FAILED;
}

/* Another name of a file that is on the host already: a name here, too. */
static Link link_known(CommitWork *w, const ReviewChange *c) {
        g_autofree char *key = name_key(&c->st);
        const GPtrArray *known = c->st.st_nlink > 1 ? g_hash_table_lookup(w->names, key) : NULL;
        Link link = LINK_NONE;

        for (guint i = known ? known->len : 0; link == LINK_NONE && i-- > 0;)
                if (may_share(w->review, known->pdata[i], c->path))
                        link = link_to(w, c, known->pdata[i]);
        return link;
}

static bool is_acl(const char *name) {
        return g_str_has_prefix(name, XATTR_ACL);
}

static bool wanted(const char *name) {
        return is_acl(name) || (g_str_has_prefix(name, "user.") && !g_str_has_prefix(name, XATTR_PRIVATE));
}

/* What the one has of them, the other gets; what the other has besides (an ACL that its directory gave it) goes. */
static bool copy_xattrs(int from, int to) {
        g_autofree char *names = g_malloc(ATTRIBUTE_MAX), *value = g_malloc(ATTRIBUTE_MAX), *have = g_malloc(ATTRIBUTE_MAX);
        g_autoptr(GHashTable) set = g_hash_table_new(g_str_hash, g_str_equal);
        ssize_t n = flistxattr(from, names, ATTRIBUTE_MAX), m = flistxattr(to, have, ATTRIBUTE_MAX);

        if (n < 0 || m < 0)
                return errno == EOPNOTSUPP;
        for (ssize_t at = 0; at < n; at += (ssize_t) strlen(names + at) + 1) {
                const char *name = names + at;
                if (!wanted(name))
                        continue;
                ssize_t size = fgetxattr(from, name, value, ATTRIBUTE_MAX);
                if (size < 0 || fsetxattr(to, name, value, (size_t) size, 0) < 0)
                        return false;
                g_hash_table_add(set, (gpointer) name);
        }
        for (ssize_t at = 0; at < m; at += (ssize_t) strlen(have + at) + 1)
                if (wanted(have + at) && !g_hash_table_contains(set, have + at) && fremovexattr(to, have + at) < 0 && errno != ENODATA)
                        return false;
        return true;
}

/* Attributes user.* ask for the right to write, which a file may keep from its owner: then for as long as this takes. */
static bool copy_closed_xattrs(int from, int to) {
        bool ok = copy_xattrs(from, to);
        mode_t mode;

        if (ok || errno != EACCES || !fd_open_up(to, S_IWUSR, &mode))
                return ok;
        ok = copy_xattrs(from, to);
        fd_shut_again(to, mode);
        return ok;
}

bool commit_copy_attributes(CommitWork *w, const ReviewChange *c, int from, int to) {
        const struct timespec times[2] = { c->st.st_atim, c->st.st_mtim };
        mode_t mode = c->st.st_mode & (S_ISDIR(c->st.st_mode) ? 07777 : 01777);

        return copy_closed_xattrs(from, to) && fchmod(to, mode) == 0 && futimens(to, times) == 0;
}

static bool make_file(CommitWork *w, const ReviewChange *c, const struct stat *replaced) {
        Link link = link_known(w, c);
        if (link != LINK_NONE)
                return link == LINK_MADE;
        _cleanup_close_ int from = commit_open_upper(w, c, O_RDONLY);
        if (from < 0)
                return false;
        _cleanup_close_ int to = openat(w->dir, w->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0)
                return false;
        int r = copy_data(from, to, c->st.st_size, true);
        if (r < 0) {
                errno = -r;
                return false;
        }
        /* Its group, where that is one of ours; real root keeps the owner, too. */
        if (replaced && fchown(to, geteuid() == 0 ? replaced->st_uid : (uid_t) -1, replaced->st_gid) < 0 && errno != EPERM)
                return false;
        if (!commit_copy_attributes(w, c, from, to))
                return false;
        return !replaced || fdatasync(to) == 0; /* there was something to lose */
}

static bool make_link(CommitWork *w, const ReviewChange *c) {
        const struct timespec times[2] = { c->st.st_atim, c->st.st_mtim };
        char target[PATH_MAX];
        _cleanup_close_ int from = commit_open_upper(w, c, O_PATH);
        ssize_t n = from >= 0 ? readlinkat(from, "", target, sizeof target - 1) : -1;

        if (n < 0)
                return false;
        target[n] = '\0';
        return symlinkat(target, w->dir, w->temp) == 0 && utimensat(w->dir, w->temp, times, AT_SYMLINK_NOFOLLOW) == 0;
}

bool commit_make(CommitWork *w, const ReviewChange *c, const struct stat *replaced) {
        struct stat st;
        bool ok = S_ISREG(c->st.st_mode)   ? make_file(w, c, replaced)
                  : S_ISLNK(c->st.st_mode) ? make_link(w, c)
                                           : mkdirat(w->dir, w->temp, 0700) == 0;

        return ok && fstatat(w->dir, w->temp, &st, AT_SYMLINK_NOFOLLOW) == 0 && commit_journal_add_made(w->review->journal, &st, &w->error);
}
