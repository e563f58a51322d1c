/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From names to files: one name in all layers of a directory, as overlayfs merges them (Documentation/filesystems/overlayfs.rst).
 *
 * Role: usbox-fs. Privileges: the caller's; the agent's for directories of the upper that the caller may not search. Threads: any; the
 * caller holds Fs.tree.
 *
 * Layers are reached by directory descriptors only. One name at a time is asked of a directory that is open, never
 * followed if it is a symlink; paths are opened beneath their layer's root without following anything (openat2(2)). So a
 * symlink that somebody puts into a lower, or that the box made, leads nowhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"
#include "fsoverlay/fs.h"
#include "fsoverlay/spelling.h"

void found_clear(Found *found) {
        for (unsigned i = 0; i < found->n_lower; i++)
                free(found->lower[i].redirect);
        free(found->lower);
        found->lower = NULL;
        found->n_lower = 0;
}

bool dir_has_lower(const Node *dir) {
        return dir->dir->n > 0;
}

/* A path of any length, piece by piece where it is longer than the kernel takes at once. */
int open_beneath(int root, const char *path, int flags) {
        const uint64_t how = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
        int at = root;

        if (!*path)
                path = ".";
        while (strlen(path) >= PATH_MAX) {
                char piece[PATH_MAX];
                size_t len = PATH_MAX - 1;
                while (len > 0 && path[len] != '/')
                        len--;
                if (len == 0) {
                        if (at != root)
                                close(at);
                        errno = ENAMETOOLONG;
                        return -1;
                }
                memcpy(piece, path, len);
                piece[len] = '\0';
                int next = sys_openat2(at, piece, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, how);
                if (at != root)
                        close(at);
                if (next < 0)
                        return -1;
                at = next;
                path += len + 1;
        }
        int fd = sys_openat2(at, path, (uint64_t) (flags | O_NOFOLLOW | O_CLOEXEC), 0, how);
        if (at != root) {
                int saved = errno;
                close(at);
                errno = saved;
        }
        return fd;
}

static const DirLayer *lower_of(const Node *dir, unsigned layer) {
        for (unsigned i = 0; i < dir->dir->n; i++)
                if (dir->dir->lower[i].layer == layer)
                        return &dir->dir->lower[i];
        return NULL;
}

/* Names from the root down to node, up to where a redirect begins; layer UINT_MAX: the box's own names. */
static char *join_path(Fs *fs, const Node *node, unsigned layer) {
        g_autoptr(GPtrArray) parts = g_ptr_array_new();

        for (const Node *at = node; at != fs->root; at = at->parent) {
                const DirLayer *lower = layer != LAYER_UPPER && layer != UINT32_MAX && S_ISDIR(node_type(at)) ? lower_of(at, layer) : NULL;
                if (lower && lower->redirect) {
                        g_ptr_array_add(parts, lower->redirect);
                        break;
                }
                if (!at->parent) /* nameless, or below it */
                        return NULL;
                g_ptr_array_add(parts, (char *) node_name(at));
        }
        GString *path = g_string_new(NULL);
        for (guint i = parts->len; i-- > 0;) {
                if (path->len > 0)
                        g_string_append_c(path, '/');
                g_string_append(path, g_ptr_array_index(parts, i));
        }
        return g_string_free(path, FALSE);
}

char *dir_path(Fs *fs, const Node *node, unsigned layer) {
        return join_path(fs, node, layer);
}

char *node_path(Fs *fs, Node *node, const char *name) {
        g_autofree char *path = join_path(fs, node, UINT32_MAX);
        if (!path)
                return NULL;
        return name ? g_strconcat(*path ? "/" : "", path, "/", name, NULL) : g_strconcat("/", path, NULL);
}

/*
 * "The eyes of any other user": what is the caller's own, by owner or group, and closed to others. The same of what an ACL opens to the caller: that
 * is asked of the few that are closed to others and not the caller's, and mostly nobody's to read.
 */
static bool closed_to_others(const Fs *fs, int dir, const char *name, const struct stat *st) {
        mode_t closed = (S_ISDIR(st->st_mode) ? S_IROTH | S_IXOTH : S_IROTH) & ~st->st_mode;

        if (S_ISLNK(st->st_mode) || !closed)
                return false;
        bool mine = st->st_uid == fs->ids.uid || st->st_gid == fs->ids.gid;
        for (int i = 0; !mine && i < fs->n_groups; i++)
                mine = st->st_gid == fs->groups[i];
        return mine || (closed & S_IROTH && faccessat(dir, name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0) ||
               (closed & S_IXOTH && faccessat(dir, name, X_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0);
}

/* What rules and others' eyes leave of a lower name; *rule: the parent's, then the name's. */
static bool layer_shows(Fs *fs, const Layer *layer, Node *parent, int dir, const char *name, const struct stat *st, RuleState *rule) {
        if (layer->host && !S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode))
                return false;
        if (!layer->ruled || !fs->rules)
                return true;
        if (!rules_trivial(*rule)) {
                RuleState state = *rule;
                g_autofree char *path = NULL;
                if (rules_needs_path(fs->rules)) {
                        /* The lower's own path, wherever the box has moved the directory. */
                        char *below = dir_path(fs, parent, parent->dir->lower[parent->dir->n - 1].layer);
                        path = below ? g_strconcat("/", below, NULL) : NULL;
                        g_free(below);
                        if (!path)
                                return false;
                }
                if (!rules_enter(fs->rules, state, path, name, S_ISDIR(st->st_mode), rule))
                        return false;
        }
        return !rules_others_eyes(*rule) || !closed_to_others(fs, dir, name, st) || rules_close(rule);
}

/*
 * Some file systems find a file by more spellings than the one that they list: another case (vfat, ntfs, cifs, directories of ext4 with +F), a
 * short name. Rules speak of names as they are listed; so where there are rules, no other spelling exists. Most directories are none of these: one look
 * for a name with the case of one letter changed says so, for good.
 */
static bool is_spelled_so(DirLayer *lower, int dir, const char *name, const struct stat *st) {
        if (atomic_load_explicit(&lower->exact, memory_order_relaxed))
                return true;
        g_autofree char *other = NULL;
        switch (spelling_of(dir, name, st, &other)) {
        case SPELLING_COUNTS:
                atomic_store_explicit(&lower->exact, true, memory_order_relaxed);
                return true;
        case SPELLING_UNKNOWN:
                if (g_str_is_ascii(name) && !strchr(name, '~'))
                        return true; /* nothing to spell otherwise, and no short name */
                break;
        case SPELLING_IGNORED:
                break;
        }
        return spelling_is_listed(dir, name);
}

static bool add_lower(Found *f, unsigned layer, const char *redirect) {
        DirLayer *more = realloc(f->lower, (f->n_lower + 1u) * sizeof *more);
        if (!more)
                return false;
        f->lower = more;
        more[f->n_lower] = (DirLayer){ .layer = (uint16_t) layer, .redirect = redirect ? strdup(redirect) : NULL };
        f->n_lower++;
        return true;
}

/* There is nothing further below that a mark in this layer could hide or lead to. */
static bool is_bottom(const Fs *fs, unsigned layer) {
        return layer + 1 >= fs->n_layers;
}

/* One name of one layer. 1: there (*st), 0: not there, -ENOENT: and nothing below either, or another negative errno. */
static int ask_layer(Fs *fs, unsigned number, int dir, const char *name, struct stat *st, uint32_t *birth) {
        const Layer *layer = &fs->layers[number];
        bool upper = number == LAYER_UPPER;

        *birth = 0;
        if ((upper ? fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) : stat_born(dir, name, st, birth)) < 0) {
                if (errno == EACCES && upper && fs->agent) {
                        int r = agent_stat(fs->agent, dir, name, st);
                        if (r < 0)
                                return r == -ENOENT ? 0 : r;
                } else if (errno == ENOENT || errno == ENOTDIR) {
                        return !is_bottom(fs, number) && layer->foreign && has_dot_wh(dir, name) ? -ENOENT : 0;
                } else if (errno == EACCES && !upper) {
                        /* A directory that is closed to us shows nothing, as where it is listed (read_layer()): whom the kernel lets
                         * into it, the box's root, can make names there. */
                        return 0;
                } else if (errno == ENAMETOOLONG) {
                        return -ENAMETOOLONG;
                } else {
                        return -errno;
                }
        }
        if (layer->host)
                return 1;
        if (stat_is_whiteout(st))
                return -ENOENT;
        if (layer->foreign && strncmp(name, ".wh.", 4) == 0)
                return 0;
        /* overlayfs's other form (6.7): an empty file with a mark. */
        if (S_ISREG(st->st_mode) && st->st_size == 0 && !upper &&
            xattr_get_at(dir, name, XATTR_WHITEOUT, NULL, 0) >= 0)
                return -ENOENT;
        return 1;
}

/* What rules and others' eyes say of the path where a directory was still holds. *rule: its state. */
static bool old_path_shows(Fs *fs, const Layer *layer, const char *path, RuleState *rule) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        g_autoptr(GString) at = g_string_new("/");
        RuleState state = rules_root(fs->rules);

        for (char **part = parts; *part; part++) {
                struct stat st;
                if (!rules_enter(fs->rules, state, at->str, *part, true, &state))
                        return false;
                g_string_append_printf(at, "%s%s", at->len > 1 ? "/" : "", *part);
                int fd = open_beneath(layer->root, at->str + 1, O_PATH | O_DIRECTORY);
                bool shows = fd >= 0 && fstat(fd, &st) == 0 &&
                             (!rules_others_eyes(state) || !closed_to_others(fs, fd, ".", &st) || rules_close(&state));
                if (fd >= 0)
                        close(fd);
                if (!shows)
                        return false;
        }
        *rule = state;
        return true;
}

/* One layer's part of a path that was renamed. */
typedef struct {
        int fd;     /* the directory; -1: it is not there */
        bool ends;  /* nothing of the path shows from further below */
        char *next; /* where it is in the layers below, if elsewhere */
} Walked;

/* From the layer's root, name by name: each may be hidden, opaque, or renamed itself. */
static int walk_layer(Fs *fs, const Layer *layer, const char *path, Walked *ret) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        g_autoptr(GString) above = g_string_new(NULL);
        int at = fcntl(layer->root, F_DUPFD_CLOEXEC, 3);

        *ret = (Walked){ .fd = -1 };
        for (char **part = parts; at >= 0 && *part; part++) {
                int fd = openat(at, *part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0) {
                        bool gone = errno == ENOENT && !(layer->foreign && has_dot_wh(at, *part));
                        int r = errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
                        ret->ends |= !gone;
                        close(at);
                        return r;
                }
                int failed = 0;
                ret->ends |= is_opaque(fs, layer, at, *part, &failed);
                g_autofree char *redirect = read_redirect(fs, layer, at, *part, &failed), *elsewhere = redirect ? redirect_path(redirect, above->str) : NULL;
                if (elsewhere) {
                        g_autofree char *rest = g_strjoinv("/", part + 1);
                        g_free(ret->next);
                        ret->next = g_strconcat(elsewhere, *rest ? "/" : "", rest, NULL);
                }
                g_string_append_printf(above, "%s%s", above->len ? "/" : "", *part);
                close(at);
                at = fd;
                if (failed < 0) {
                        close(at);
                        return failed;
                }
        }
        ret->fd = at;
        return at < 0 ? -errno : 0;
}

/* The lower parts of a directory that was renamed: at a path of their own, in all layers from `from` on. */
static int follow_redirect(Fs *fs, unsigned from, const char *path, Found *f) {
        g_autofree char *at = g_strdup(path);

        for (unsigned i = from; i < fs->n_layers; i++) {
                const Layer *layer = &fs->layers[i];
                Walked walked;
                struct stat st;
                int r = walk_layer(fs, layer, at, &walked);
                if (r == 0 && walked.fd >= 0 && fstat(walked.fd, &st) < 0)
                        r = -EIO;
                bool there = r == 0 && walked.fd >= 0;
                if (there)
                        fs_dev_meet(fs, st.st_dev, walked.fd, ".");
                if (walked.fd >= 0)
                        close(walked.fd);
                if (there && layer->ruled && fs->rules)
                        there = old_path_shows(fs, layer, at, &f->rule);
                if (there && f->n_lower == 0 && f->upper)
                        f->ino = fs_shown_ino(fs, st.st_dev, st.st_ino);
                if (there && !add_lower(f, i, at))
                        r = -ENOMEM;
                if (walked.next) {
                        g_free(at);
                        at = walked.next;
                }
                if (r < 0 || walked.ends)
                        return r;
        }
        return 0;
}

/* A file of the upper may be the copy of a lower one, whose inode number it goes on to show. */
static void ask_origin(Fs *fs, int dir, const char *name, Found *f) {
        char value[32];

        if (!atomic_load(&fs->origins) || S_ISDIR(f->st.st_mode))
                return;
        ssize_t n = S_ISREG(f->st.st_mode) ? get_mark(fs, &fs->layers[LAYER_UPPER], dir, name, XATTR_INO, value, sizeof value - 1) : 0;
        value[MAX(n, 0)] = '\0';
        uint64_t ino = S_ISREG(f->st.st_mode) ? g_ascii_strtoull(value, NULL, 10) : links_number(fs, LINKS_ORIGIN, f->st.st_ino);
        if (ino == 0)
                return;
        f->ino = ino;
        f->indexed = f->st.st_nlink > 1 && links_has(fs, ino, &f->st);
}

int lookup_name(Fs *fs, Node *parent, const char *name, unsigned from, Found *ret) {
        bool found = false;
        int r = 0;

        *ret = (Found){ .rule = parent->dir->rule };
        for (int i = -1; i < (int) parent->dir->n; i++) {
                if (i < 0 && !node_is(parent, NODE_UPPER))
                        continue;
                unsigned number = i < 0 ? LAYER_UPPER : parent->dir->lower[i].layer;
                if (number < from)
                        continue;
                const Layer *layer = &fs->layers[number];
                struct stat st;
                Fd *dir = fd_dir(fs, parent, number, &r);
                if (!dir) {
                        if ((r == -ENOENT || r == -ESTALE || r == -EACCES) && number != LAYER_UPPER) {
                                r = 0; /* gone on the host, or closed to us */
                                continue;
                        }
                        break;
                }
                uint32_t birth;
                r = ask_layer(fs, number, dir->fd, name, &st, &birth);
                RuleState rule = parent->dir->rule;
                if (r == 1 && layer->ruled && !rules_trivial(rule) && i >= 0 && !is_spelled_so(&parent->dir->lower[i], dir->fd, name, &st))
                        r = 0;
                if (r == 1 && number != LAYER_UPPER && !layer_shows(fs, layer, parent, dir->fd, name, &st, &rule))
                        r = 0;
                if (r == 1 && layer->ruled)
                        ret->rule = rule;
                if (r != 1 || (found && !S_ISDIR(st.st_mode))) {
                        fd_put(fs, dir);
                        if (r == 0)
                                continue;
                        /* A file below a directory is hidden by it, and so is all below a whiteout. */
                        r = r == 1 ? 0 : r;
                        break;
                }
                fs_dev_meet(fs, st.st_dev, dir->fd, name);
                if (!found) {
                        found = true;
                        ret->st = st;
                        ret->birth = birth;
                        ret->layer = number;
                        ret->upper = number == LAYER_UPPER;
                        ret->ino = fs_shown_ino(fs, st.st_dev, st.st_ino);
                        if (ret->upper)
                                ask_origin(fs, dir->fd, name, ret);
                } else if (ret->upper && ret->n_lower == 0) {
                        /* A merged directory shows the lower's number, as it did before it was copied up. */
                        ret->ino = fs_shown_ino(fs, st.st_dev, st.st_ino);
                }
                if (!S_ISDIR(st.st_mode)) {
                        links_find(fs, dir->fd, name, ret);
                        fd_put(fs, dir);
                        r = 0;
                        break;
                }
                if (number != LAYER_UPPER && !add_lower(ret, number, NULL)) {
                        fd_put(fs, dir);
                        r = -ENOMEM;
                        break;
                }
                int failed = 0;
                bool last = is_bottom(fs, number) || is_opaque(fs, layer, dir->fd, name, &failed);
                g_autofree char *redirect = last ? NULL : read_redirect(fs, layer, dir->fd, name, &failed);
                g_autofree char *above = redirect && *redirect != '/' ? dir_path(fs, parent, number) : NULL;
                g_autofree char *elsewhere = redirect ? redirect_path(redirect, above) : NULL;
                fd_put(fs, dir);
                r = last ? 0 : failed;
                if (last || r < 0)
                        break;
                if (elsewhere) {
                        r = follow_redirect(fs, number + 1, elsewhere, ret);
                        break;
                }
        }
        if (found && (r == 0 || r == -ENOENT))
                return 0;
        found_clear(ret);
        return r < 0 ? r : -ENOENT;
}

int lookup_lower(Fs *fs, Node *parent, const char *name) {
        Found found;

        if (!dir_has_lower(parent))
                return 0;
        int r = lookup_name(fs, parent, name, LAYER_UPPER + 1, &found);
        if (r == 0) {
                found_clear(&found);
                return 1;
        }
        return r == -ENOENT ? 0 : r;
}
