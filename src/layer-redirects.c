/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The renamed directories of a box's layer.
 *
 * Role: launcher; commit. Privileges: the caller's. Threads: one, under the box's lock. Order: before a box goes on with its files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/lowers.h"
#include "layer-redirects.h"

#define DEPTH_MAX 2048u /* directories in a path of PATH_MAX */

typedef struct {
        LayerForm form;
        GString *path; /* of the directory at hand */
        LayerRedirect each;
        void *data;
        int shortage; /* errno of what was not looked at for want of descriptors or memory, or 0 */
} Walk;

/* False: all stops. */
static bool may_pass_over(Walk *w) {
        bool shortage = errno == EMFILE || errno == ENFILE || errno == ENOMEM;

        if (shortage)
                w->shortage = errno;
        return !shortage;
}

static bool walk(Walk *w, int dir, unsigned depth);

static bool walk_into(Walk *w, int dir, const char *name, unsigned depth) {
        _cleanup_close_ int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        size_t len = w->path->len;

        if (fd < 0)
                return may_pass_over(w); /* mostly it is no directory */
        g_string_append_printf(w->path, "/%s", name);
        mode_t mode;
        bool bad, opened = fd_open_up(fd, S_IRUSR, &mode);
        g_autofree char *mark = layer_redirect(w->form, fd, &bad);
        bool ok = (!mark || w->each(w->data, w->path->str, mark)) && walk(w, fd, depth + 1);
        if (opened)
                fd_shut_again(fd, mode);
        g_string_truncate(w->path, len);
        return ok;
}

static bool walk(Walk *w, int dir, unsigned depth) {
        DIR *d = depth < DEPTH_MAX ? fd_open_dir(dir, ".") : NULL;
        bool ok = true;

        if (!d)
                return depth == DEPTH_MAX || may_pass_over(w);
        for (const struct dirent *e; ok && (e = readdir(d));)
                if ((e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && !g_str_equal(e->d_name, ".") && !g_str_equal(e->d_name, ".."))
                        ok = walk_into(w, dirfd(d), e->d_name, depth);
        closedir(d);
        return ok;
}

bool layer_redirects_each(int upper, LayerRedirect each, void *data, GError **error) {
        g_autoptr(GString) path = g_string_new(NULL);
        Walk w = { .form = layer_form(upper), .path = path, .each = each, .data = data };
        struct rlimit before;
        bool known = getrlimit(RLIMIT_NOFILE, &before) == 0;

        /* Each level of the layer takes two. The command has the caller's limit. */
        (void) fd_raise_limit();
        bool ok = walk(&w, upper, 0);
        if (known)
                (void) setrlimit(RLIMIT_NOFILE, &before);
        return w.shortage ? err_set(error, w.shortage, "look for renamed directories in the box's layer") : ok;
}

static bool refuse(void *data, const char *path, const char *mark) {
        GError **error = data;
        g_autofree char *now = err_quote(path), *was = err_quote(mark);

        err_set(error, EOPNOTSUPP, "the box renamed a directory (%s, which was %s), and the kernel's overlayfs cannot follow that", now, was);
        return err_hint(error, "leave --overlay=kernel away, or begin anew: usbox commit, then usbox rm");
}

bool layer_redirects_none(int box_fd, GError **error) {
        /* usbox-fs alone moves directories, and has this wherever it worked. Where only the kernel did, much may be there, and nothing to be found. */
        if (faccessat(box_fd, "work/links", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                return true;
        _cleanup_close_ int upper = openat(box_fd, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return upper < 0 || layer_redirects_each(upper, refuse, error, error);
}
