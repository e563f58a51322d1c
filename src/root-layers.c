/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's own layers: the directories that mounts stand on, the files that are the box's own, whiteouts.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace. Threads: one.
 * Order: step 7, before anything is mounted; nobody else sees the stage, in which they are made.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "root-build.h"

/* mkdir -p below dir, a directory of ours that nobody else sees yet. */
static int open_made_dirs(int dir, const char *path, mode_t mode) {
        _cleanup_close_ int at = fcntl(dir, F_DUPFD_CLOEXEC, 3);
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        for (char **part = parts; at >= 0 && *part; part++) {
                if (!**part)
                        continue;
                if (mkdirat(at, *part, part[1] ? 0755 : mode) == 0) {
                        if (!part[1] && mode != 0755 && fchmodat(at, *part, mode, 0) < 0)
                                return -1;
                } else if (errno != EEXIST) {
                        return -1;
                }
                int next = openat(at, *part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                close(at);
                at = next;
        }
        return fd_steal(&at);
}

/* The same where the directory itself is not needed. Nearly always its parent is there already. */
static bool make_dirs(int dir, const char *path, mode_t mode) {
        if (mkdirat(dir, path, mode) == 0)
                return mode == 0755 ||
                       fchmodat(dir, path, mode, 0) == 0; /* what the umask took away, and the sticky bit */
        if (errno == EEXIST)
                return true;
        _cleanup_close_ int made = errno == ENOENT ? open_made_dirs(dir, path, mode) : -1;
        return made >= 0;
}

static bool make_parents(int dir, const char *path) {
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash ? g_strndup(path, (size_t) (slash - path)) : NULL;
        return !parent || make_dirs(dir, parent, 0755);
}

static bool make_file(int dir, const char *path, const char *data, size_t len, mode_t mode) {
        if (!make_parents(dir, path))
                return false;
        _cleanup_close_ int fd = openat(dir, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_TRUNC | O_CLOEXEC, mode);
        return fd >= 0 && fchmod(fd, mode) == 0 && (len == 0 || fd_write_all(fd, data, len));
}

/* A symlink or a whiteout; what stands there already stays. */
static bool make_symlink(int dir, const char *path, const char *target) {
        return make_parents(dir, path) && (symlinkat(target, dir, path) == 0 || errno == EEXIST);
}

static bool make_whiteout(int dir, const char *path) {
        /* overlayfs's form; mknod(2) of just this device is allowed without CAP_MKNOD since 5.8 */
        return make_parents(dir, path) && (mknodat(dir, path, S_IFCHR, makedev(0, 0)) == 0 || errno == EEXIST);
}

/*
 * What the box's own layer adds to a root that shows true owners is the system's: root's, where the box has such an id. And what
 * it has in common with the host is whose it is there: an id that the box has not shows as this one here, and is the system's
 * by the same rule.
 */
#define OVERFLOW_ID 65534u

static bool has_root_id(const RootBuild *b) {
        guint32 host;
        return b->plan->served && user_map_to_host(b->spec->user.uidmap, 0, &host) && user_map_to_host(b->spec->user.gidmap, 0, &host);
}

static bool give_to(const RootBuild *b, int layer, const char *path, uid_t uid, gid_t gid) {
        return !has_root_id(b) || fchownat(layer, path, uid == OVERFLOW_ID ? 0 : uid, gid == OVERFLOW_ID ? 0 : gid,
                                           AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0;
}

/* The part of a box path below a node. */
static const char *below_node(const RootNode *node, const char *path) {
        const char *rest = path + strlen(node->path);
        return *rest == '/' ? rest + 1 : rest;
}

static void layer_name(const RootNode *node, char name[16]) {
        if (node->kind == ROOT_OVERLAY)
                g_snprintf(name, 16, "l%u", node->index);
        else
                g_strlcpy(name, "root", 16);
}

/* Directories that a layer has in common with the host look like the host's: the top one gives mode to the merged one. */
static bool copy_modes(const RootBuild *b, const RootNode *node, int layer, const char *rest) {
        if (!node->host.path)
                return true;
        for (const char *slash = strchr(rest, '/'); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *part = g_strndup(rest, (size_t) (slash - rest));
                g_autofree char *host = g_strconcat(node->host.path, "/", part, NULL);
                struct stat st;
                if (stat(host, &st) == 0 && S_ISDIR(st.st_mode) &&
                    (!give_to(b, layer, part, st.st_uid, st.st_gid) || fchmodat(layer, part, st.st_mode & 0777, 0) < 0))
                        return false;
        }
        return true;
}

/* The top of the layer over a root that is one whole. */
static bool dress_root(const RootBuild *b, const RootNode *root, int layer) {
        struct stat st;
        _cleanup_close_ int dir = openat(layer, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return dir >= 0 && fstat(b->host_fds[root->index], &st) == 0 && give_to(b, dir, "", st.st_uid, st.st_gid) &&
               fchmod(dir, st.st_mode & 0777) == 0;
}

/* The directory of a carrier's layer, made when it is first needed. b->layer_fds[0] is the skeleton's. */
int root_layer_dir(RootBuild *b, const RootNode *carrier) {
        unsigned i = carrier->kind == ROOT_OVERLAY ? carrier->index : 0;
        char name[16];

        if (b->layer_fds[i] < 0) {
                layer_name(carrier, name);
                if (i > 0 && !make_dirs(b->stage, name, carrier->mode))
                        return -1;
                b->layer_fds[i] = openat(b->stage, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        return b->layer_fds[i];
}

/* The place of a node in the node above it: what it is mounted on, or all that it is. */
static bool make_place(RootBuild *b, const RootNode *node) {
        const char *slash = strrchr(node->path, '/');
        g_autofree char *parent = g_strndup(node->path, slash ? (size_t) (slash - node->path) : 0);
        const RootNode *above = root_plan_carrier(b->plan, parent);

        if ((above->kind == ROOT_OVERLAY && !above->has_layer) || node->kind == ROOT_PART)
                return true; /* the host's directory has it */
        int layer = root_layer_dir(b, above);
        const char *rest = below_node(above, node->path);
        bool ok = layer >= 0;
        if (node->kind == ROOT_SYMLINK)
                ok = ok && make_symlink(layer, rest, node->target);
        else if (node->kind == ROOT_FILE)
                ok = ok && make_file(layer, rest, NULL, 0, node->mode);
        else
                ok = ok && make_dirs(layer, rest, node->mode);
        return ok && copy_modes(b, above, layer, rest);
}

static bool make_entry(RootBuild *b, const LayerEntry *entry) {
        const RootNode *carrier = root_plan_carrier(b->plan, entry->path);
        int layer = root_layer_dir(b, carrier);
        const char *rest = below_node(carrier, entry->path);
        bool ok = layer >= 0;

        if (entry->kind == LAYER_DIR)
                ok = ok && make_dirs(layer, rest, entry->mode);
        else if (entry->kind == LAYER_FILE)
                ok = ok && make_file(layer, rest, entry->data, entry->len, entry->mode);
        else
                ok = ok && make_whiteout(layer, rest);
        return ok && copy_modes(b, carrier, layer, rest) && (entry->kind != LAYER_FILE || give_to(b, layer, rest, 0, entry->gid));
}

/* The box's own layers: the skeleton in stage/root, and what lies over the host's files in stage/lN. */
bool root_layers_make(RootBuild *b, GError **error) {
        const RootPlan *plan = b->plan;

        if (plan->served) {
                const RootNode *root = g_ptr_array_index(plan->nodes, 0);
                int layer = root_layer_dir(b, root);
                if (layer < 0 || !dress_root(b, root, layer))
                        return err_set(error, errno, "layer of /");
        }
        for (guint i = 1; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (!make_place(b, node))
                        return err_set(error, errno, "place for /%s", node->path);
        }
        for (guint i = 0; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->has_layer && root_layer_dir(b, node) < 0)
                        return err_set(error, errno, "layer of /%s", node->path);
        }
        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                if (!make_entry(b, entry))
                        return err_set(error, errno, "layer entry /%s", entry->path);
        }
        return true;
}
