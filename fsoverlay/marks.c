/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The marks by which one layer hides what is below it, or says that it is elsewhere: whiteouts, opaque directories, redirects; in
 * overlayfs's form (userxattr), and in others' where the layer may have those (Layer.foreign).
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fsoverlay/fs.h"

#define REDIRECT_MAX 4096

bool stat_is_whiteout(const struct stat *st) {
        return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

bool name_is_mark(const Fs *fs, const char *name) {
        return fs->layers[LAYER_UPPER].foreign && strncmp(name, ".wh.", 4) == 0;
}

bool has_dot_wh(int dir, const char *name) {
        char wh[NAME_LEN_MAX + 8];
        if (strlen(name) + 4 > NAME_LEN_MAX)
                return false;
        (void) g_snprintf(wh, sizeof wh, ".wh.%s", name);
        return faccessat(dir, wh, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A mark of an entry of a layer. Attributes of the kind user.* are for those who may read the file: in the upper the agent may. */
int get_mark(Fs *fs, const Layer *layer, int dir, const char *name, const char *xattr, char *value, size_t size) {
        int n = xattr_get_at(dir, name, xattr, value, size);
        if (n == -EACCES && layer == &fs->layers[LAYER_UPPER] && fs->agent)
                return agent_getxattr(fs->agent, dir, name, -1, xattr, value, size);
        return n;
}

/* What a disk or a server that fails says, or a lack of memory: there may be a mark all the same. */
static void note_failure(ssize_t n, int *ret_err) {
        static const int failures[] = { EIO, ENOMEM, ESTALE, ETIMEDOUT, EMFILE, ENFILE };

        for (size_t i = 0; i < G_N_ELEMENTS(failures); i++)
                if (n == -failures[i])
                        *ret_err = (int) n;
}

static bool says_yes(Fs *fs, const Layer *layer, int dir, const char *name, const char *xattr, int *ret_err) {
        char value[2];
        int n = get_mark(fs, layer, dir, name, xattr, value, sizeof value);

        note_failure(n, ret_err);
        return n == 1 && value[0] == 'y';
}

/* A directory of an overlay layer that hides what is below it. */
bool is_opaque(Fs *fs, const Layer *layer, int dir, const char *name, int *ret_err) {
        if (layer->host)
                return false;
        if (says_yes(fs, layer, dir, name, XATTR_OPAQUE, ret_err))
                return true;
        if (!layer->foreign)
                return false;
        /* Others' ways of saying it. */
        if (says_yes(fs, layer, dir, name, "user.fuseoverlayfs.opaque", ret_err) || says_yes(fs, layer, dir, name, "trusted.overlay.opaque", ret_err))
                return true;
        int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        bool opaque = fd >= 0 && faccessat(fd, ".wh..wh..opq", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        if (fd >= 0)
                close(fd);
        return opaque;
}

/*
 * Where a renamed directory's lower part is: a path from the root ("/..."), or a name alone where it was renamed in its directory (overlayfs writes it
 * so). g_malloc'ed or NULL.
 */
char *read_redirect(Fs *fs, const Layer *layer, int dir, const char *name, int *ret_err) {
        char value[REDIRECT_MAX];

        if (layer->host)
                return NULL;
        ssize_t n = get_mark(fs, layer, dir, name, XATTR_REDIRECT, value, sizeof value - 1);
        note_failure(n, ret_err);
        if (n <= 0)
                return NULL;
        value[n] = '\0';
        if (strlen(value) != (size_t) n)
                return NULL;
        g_auto(GStrv) parts = g_strsplit(value, "/", -1);
        if (g_strv_contains((const char *const *) parts, "..") || g_strv_contains((const char *const *) parts, "."))
                return NULL;
        return value[0] == '/' || !parts[1] ? g_strdup(value) : NULL;
}

char *redirect_path(const char *redirect, const char *above) {
        if (redirect[0] == '/')
                return g_strdup(redirect + 1);
        return above ? g_strconcat(above, *above ? "/" : "", redirect, NULL) : NULL;
}
