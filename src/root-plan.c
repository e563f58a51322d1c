/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan of the box's root: which host directory is shown where, and what is hidden.
 *
 * Role: launcher, before the clone. Privileges: the caller's, so every error is the caller's own "permission
 * denied". Threads: one. Order: step 3 of sandbox_run(); root-build.c carries it out in the child.
 *
 * Why one overlay a directory and not one for all: a user namespace may not clone a mount alone that has locked mounts
 * below it (has_locked_children(), fs/namespace.c), and "/" always has some. So the root is a skeleton, and each of the host's
 * top directories is an overlay of its own; a directory with a mount somewhere below is itself taken apart in this way.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "home.h"
#include "mountinfo.h"
#include "root.h"

#define FILE_MAX (1024 * 1024)      /* a dot file of the home that is copied into the box's layer */
#define MOUNT_FILE_MAX (64 * 1024 * 1024)
#define PASSWD_MAX (8 * 1024 * 1024)
#define EXPLODE_DEPTH 16
#define HOME_FILTER_WORDS 32
#define SCAN_BUDGET 2000

typedef struct {
        const Spec *spec;
        RootPlan *plan;
        GPtrArray *mounts;   /* of char *: the host's mount points */
        GHashTable *hidden;  /* set of char *: absolute host paths that do not exist in the box */
        guint64 home_filter[HOME_FILTER_WORDS]; /* Bloom filter of what the caller's home has: the lists of home.c are long */
        gid_t *groups;
        int n_groups;
        unsigned n_overlays;
} Planner;

/* These are the box's own, whatever the host has there. */
static const char *const own_dirs[] = { "/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp", NULL };

static void node_free(gpointer p) {
        RootNode *node = p;
        g_free(node->path);
        g_free(node->target);
        g_free(node->host.path);
        g_free(node);
}

static void entry_free(gpointer p) {
        LayerEntry *entry = p;
        g_free(entry->path);
        g_free(entry->data);
        g_free(entry);
}

static void source_free(gpointer p) {
        MountSource *source = p;
        g_free(source->host.path);
        g_free(source->data);
        g_free(source);
}

void root_plan_free(RootPlan *plan) {
        g_ptr_array_unref(plan->nodes);
        g_ptr_array_unref(plan->entries);
        g_ptr_array_unref(plan->sources);
        g_free(plan->box_dir.path);
        g_free(plan->workdir);
        g_free(plan);
}

static RootNode *longest_prefix(const RootPlan *plan, const char *path, bool overlays_only) {
        RootNode *best = g_ptr_array_index(plan->nodes, 0);
        size_t best_len = 0;

        for (guint i = 1; i < plan->nodes->len; i++) {
                RootNode *node = g_ptr_array_index(plan->nodes, i);
                size_t len = node->path_len;
                if (overlays_only && node->kind != ROOT_OVERLAY)
                        continue;
                if (len > best_len && path[0] == node->path[0] && strncmp(path, node->path, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
                        best = node;
                        best_len = len;
                }
        }
        return best;
}

bool root_plan_is_own(const char *path) {
        g_autofree char *absolute = g_strconcat("/", path, NULL);
        for (const char *const *dir = own_dirs; *dir; dir++)
                if (path_is_at_or_below(absolute, *dir))
                        return true;
        return false;
}

const RootNode *root_plan_node_for(const RootPlan *plan, const char *path) {
        return longest_prefix(plan, path, false);
}

RootNode *root_plan_carrier(const RootPlan *plan, const char *path) {
        return longest_prefix(plan, path, true);
}

static RootNode *add_node(Planner *p, RootNodeKind kind, const char *box_path, mode_t mode) {
        RootNode *node = g_new0(RootNode, 1);
        node->kind = kind;
        node->path = g_strdup(box_path + 1);
        node->path_len = strlen(node->path);
        node->mode = mode;
        if (kind == ROOT_OVERLAY)
                node->index = ++p->n_overlays;
        g_ptr_array_add(p->plan->nodes, node);
        return node;
}

static LayerEntry *add_entry(Planner *p, LayerKind kind, const char *box_path) {
        LayerEntry *entry = g_new0(LayerEntry, 1);
        entry->kind = kind;
        entry->path = g_strdup(box_path + 1);
        g_ptr_array_add(p->plan->entries, entry);
        return entry;
}

void root_plan_add_file(RootPlan *plan, const char *path, const char *data, mode_t mode) {
        LayerEntry *entry = g_new0(LayerEntry, 1);
        *entry = (LayerEntry){ .kind = LAYER_FILE, .path = g_strdup(path), .data = g_strdup(data), .len = strlen(data), .mode = mode };
        g_ptr_array_add(plan->entries, entry);
        root_plan_carrier(plan, path)->has_layer = true;
}

static HostPath host_path(const char *path, const struct stat *st) {
        return (HostPath){ .path = g_strdup(path), .dev = st->st_dev, .ino = st->st_ino };
}

static char *join(const char *dir, const char *name) {
        return g_str_equal(dir, "/") ? g_strconcat("/", name, NULL) : g_strconcat(dir, "/", name, NULL);
}

static bool is_hidden(const Planner *p, const char *path) {
        return g_hash_table_contains(p->hidden, path);
}

static bool has_mount_below(const Planner *p, const char *path) {
        for (guint i = 0; i < p->mounts->len; i++)
                if (path_is_below(g_ptr_array_index(p->mounts, i), path))
                        return true;
        return false;
}

/* "The eyes of any other user": what is the caller's own and closed to others stays out of the box. */
static bool closed_to_others(const Planner *p, const struct stat *st) {
        if (st->st_uid != p->spec->caller.uid)
                return false;
        mode_t need = S_ISDIR(st->st_mode) ? S_IROTH | S_IXOTH : S_IROTH;
        return (st->st_mode & need) != need;
}

/* The caller, and so the payload, may write this file, or make names in this directory. */
static bool caller_may_write(const Planner *p, const struct stat *st) {
        if (st->st_uid == p->spec->caller.uid)
                return st->st_mode & S_IWUSR;
        if (st->st_mode & S_IWOTH)
                return true;
        for (int i = 0; (st->st_mode & S_IWGRP) && i < p->n_groups; i++)
                if (st->st_gid == p->groups[i])
                        return true;
        return false;
}

static bool is_empty_dir(int fd, const struct stat *st) {
        if (st->st_nlink > 2) /* it has directories (btrfs says 1 of all: then the listing tells) */
                return false;
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        bool empty = true;

        if (!dir) {
                fd_closep(&copy);
                return false;
        }
        for (struct dirent *d; empty && (d = readdir(dir));)
                empty = g_str_equal(d->d_name, ".") || g_str_equal(d->d_name, "..");
        closedir(dir);
        return empty;
}

/* FNV-1a of a name up to its end or first slash. */
static guint first_part_hash(const char *name) {
        guint hash = 2166136261u;
        for (; *name && *name != '/'; name++)
                hash = (hash ^ (guchar) *name) * 16777619u;
        return hash % (HOME_FILTER_WORDS * 64);
}

static void list_home(Planner *p) {
        DIR *dir = opendir(p->spec->caller.home);
        for (struct dirent *d; dir && (d = readdir(dir));) {
                guint bit = first_part_hash(d->d_name);
                p->home_filter[bit / 64] |= 1ULL << bit % 64;
        }
        if (dir)
                closedir(dir);
}

/* Whether a name of home.c's lists, relative to the home, can exist: most are ruled out by their first part. */
static bool home_may_have(const Planner *p, const char *name) {
        guint bit = first_part_hash(name);
        return p->home_filter[bit / 64] >> bit % 64 & 1;
}

/*
 * How deep a top directory is looked through. What the distribution's packages own is not: nobody's private files are there, and
 * /usr alone has more entries than a run has time for. Elsewhere people put things at the top, in /opt and /srv below a name.
 */
static int scan_depth(const char *box) {
        static const char *const unscanned[] = { "/usr", "/etc", "/boot", NULL }, *const by_name[] = { "/opt", "/srv", NULL };
        return g_strv_contains(unscanned, box) ? 0 : g_strv_contains(by_name, box) ? 2 : 1;
}

/* Programs and libraries. */
static bool is_packaged(const char *box) {
        static const char *const dirs[] = { "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", NULL };
        return g_strv_contains(dirs, box);
}

/*
 * What lies in a tree outside of home and working directory, as many levels deep: hide what is the caller's own and
 * private, and find out whether there is anything that the payload may write. The kernel's overlay has no way to ask about each
 * file when it is opened; what lies deeper keeps the host's permissions, and in a tree without anything writable above it
 * it is read-only (ARCHITECTURE.md, Root). budget bounds the entries looked at: beyond it the tree counts as writable.
 */
typedef struct {
        bool writable;
        int budget;
} TreeScan;

static void scan_tree(Planner *p, int dirfd, const char *name, const char *host, int depth, TreeScan *scan) {
        if (depth == 0)
                return;
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (!dir) {
                fd_closep(&fd);
                return;
        }
        for (struct dirent *d; (d = readdir(dir));) {
                struct stat st;
                if (d->d_type == DT_LNK || g_str_equal(d->d_name, ".") || g_str_equal(d->d_name, ".."))
                        continue;
                if (scan->budget-- <= 0) {
                        scan->writable = true;
                        break;
                }
                if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 || S_ISLNK(st.st_mode))
                        continue;
                g_autofree char *child = join(host, d->d_name);
                if (g_strv_contains(own_dirs, child))
                        continue;
                if (closed_to_others(p, &st) && !path_is_at_or_below(p->spec->caller.cwd, child) && !path_is_at_or_below(p->spec->caller.home, child))
                        g_hash_table_add(p->hidden, g_strdup(child));
                else if (caller_may_write(p, &st))
                        scan->writable = true;
                if (S_ISDIR(st.st_mode) && st.st_nlink != 2)
                        scan_tree(p, fd, d->d_name, child, depth - 1, scan);
        }
        closedir(dir);
}

static bool plan_tree(Planner *p, const char *host, const char *box, bool others_eyes, int depth, GError **error);

/* A directory with a mount below it: a directory of the skeleton, each entry planned by itself. */
static bool plan_apart(Planner *p, int fd, const char *host, const char *box, bool others_eyes, int depth, GError **error) {
        if (depth >= EXPLODE_DEPTH)
                return err_set(error, ELOOP, "%s: mounts nested too deeply", host);

        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        if (!dir) {
                fd_closep(&copy);
                return err_set(error, errno, "list %s", host);
        }

        bool ok = true;
        for (struct dirent *d; ok && (d = readdir(dir));) {
                if (g_str_equal(d->d_name, ".") || g_str_equal(d->d_name, ".."))
                        continue;
                g_autofree char *child = join(host, d->d_name);
                g_autofree char *box_child = join(box, d->d_name);
                if (g_strv_contains(own_dirs, box_child) || g_str_equal(d->d_name, "lost+found"))
                        continue;
                ok = plan_tree(p, child, box_child, others_eyes, depth + 1, error);
        }
        closedir(dir);
        return ok;
}

static bool plan_symlink(Planner *p, const char *host, const char *box, GError **error) {
        g_autofree char *target = g_file_read_link(host, NULL);
        if (!target)
                return err_set(error, errno, "readlink %s", host);
        add_node(p, ROOT_SYMLINK, box, 0777)->target = g_steal_pointer(&target);
        return true;
}

/*
 * The host's host shall appear as box. Hidden, private (others_eyes) and special files are left out; a directory
 * that the caller cannot enter is there but empty.
 */
static bool plan_tree(Planner *p, const char *host, const char *box, bool others_eyes, int depth, GError **error) {
        struct stat st;

        if (is_hidden(p, host))
                return true;
        _cleanup_close_ int fd = open(host, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                if (errno == ENOENT || errno == EACCES)
                        return true;
                return err_set(error, errno, "%s", host);
        }
        if (S_ISLNK(st.st_mode))
                return plan_symlink(p, host, box, error);
        if (others_eyes && closed_to_others(p, &st))
                return true;
        if (S_ISREG(st.st_mode)) {
                if (access(host, R_OK) == 0)
                        add_node(p, ROOT_FILE, box, st.st_mode & 0777)->host = host_path(host, &st);
                return true;
        }
        if (!S_ISDIR(st.st_mode))
                return true;

        if (faccessat(fd, ".", R_OK | X_OK, 0) < 0) {
                add_node(p, ROOT_DIR, box, 0);
                return true;
        }
        if (others_eyes && is_empty_dir(fd, &st)) { /* /mnt, /srv, ...: an overlay of nothing */
                add_node(p, ROOT_DIR, box, st.st_mode & 01777);
                return true;
        }
        if (has_mount_below(p, host)) {
                /* Inside another overlay (a home in /var, say) a directory alone would let that one's files shine through. */
                bool covers = root_plan_carrier(p->plan, box + 1)->host.path;
                add_node(p, covers ? ROOT_OVERLAY : ROOT_DIR, box, st.st_mode & 01777)->has_layer = covers;
                return plan_apart(p, fd, host, box, others_eyes, depth, error);
        }
        RootNode *node = add_node(p, ROOT_OVERLAY, box, st.st_mode & 01777);
        node->host = host_path(host, &st);
        node->packaged = others_eyes && is_packaged(box);
        if (others_eyes) {
                TreeScan scan = { .writable = caller_may_write(p, &st) || p->spec->user.uid == 0, .budget = SCAN_BUDGET };
                scan_tree(p, fd, ".", host, scan_depth(box), &scan);
                node->read_only = !scan.writable;
        }
        return true;
}

/* Directories of the skeleton down to box_path (exclusive), where no node or overlay has them yet. */
static void plan_parents(Planner *p, const char *box_path) {
        for (const char *slash = strchr(box_path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *parent = g_strndup(box_path, (size_t) (slash - box_path));
                const RootNode *node = root_plan_node_for(p->plan, parent + 1);
                if (g_str_equal(node->path, parent + 1))
                        continue;
                if (node->kind == ROOT_OVERLAY)
                        add_entry(p, LAYER_DIR, parent)->mode = 0755;
                else
                        add_node(p, ROOT_DIR, parent, 0755);
        }
}

/* A dot file of the home: copied, so that the box may write it and no bind mount stands in a rename's way. */
static bool plan_home_file(Planner *p, const char *path, GError **error) {
        g_autofree char *data = NULL;
        size_t len;

        if (!fd_read_file(AT_FDCWD, path, FILE_MAX, &data, &len)) {
                if (errno == EACCES || errno == ENOENT || errno == EFBIG)
                        return true;
                return err_set(error, errno, "read %s", path);
        }
        plan_parents(p, path);
        LayerEntry *entry = add_entry(p, LAYER_FILE, path);
        entry->data = g_steal_pointer(&data);
        entry->len = len;
        entry->mode = 0644;
        return true;
}

/* One entry of the tool list: a directory as an overlay, a file as a copy, a symlink as it is. */
static bool plan_home_tool(Planner *p, const char *path, GError **error) {
        struct stat st;

        if (lstat(path, &st) < 0 || is_hidden(p, path))
                return true;
        if (root_plan_node_for(p->plan, path + 1)->host.path) /* the working directory's tree shows it already */
                return true;
        if (S_ISREG(st.st_mode))
                return plan_home_file(p, path, error);
        if (S_ISLNK(st.st_mode)) {
                plan_parents(p, path);
                return plan_symlink(p, path, path, error);
        }
        if (!S_ISDIR(st.st_mode) || access(path, R_OK | X_OK) < 0)
                return true;
        plan_parents(p, path);
        return plan_tree(p, path, path, false, 0, error);
}

/* Names of a list that lie below dir (NULL: anywhere in the home), but not above or at unless_inside (NULL: nothing is excepted). */
static void hide_below_home(Planner *p, const char *const *names, const char *dir, const char *unless_inside) {
        for (const char *const *name = names; *name; name++) {
                if (!home_may_have(p, *name))
                        continue;
                /* Whether it is there is asked of the few that an overlay would show: plan_whiteouts(). */
                g_autofree char *path = join(p->spec->caller.home, *name);
                if ((!dir || path_is_below(path, dir)) && (!unless_inside || !path_is_at_or_below(unless_inside, path)))
                        g_hash_table_add(p->hidden, g_steal_pointer(&path));
        }
}

/* The same for what the overlays planned so far would show of the home: the tools. */
static void hide_below_tools(Planner *p, const char *const *names) {
        for (const char *const *name = names; *name; name++) {
                if (!home_may_have(p, *name))
                        continue;
                g_autofree char *path = join(p->spec->caller.home, *name);
                if (root_plan_node_for(p->plan, path + 1)->host.path && !path_is_at_or_below(p->spec->caller.cwd, path))
                        g_hash_table_add(p->hidden, g_steal_pointer(&path));
        }
}

/* The working directory, where nothing planned so far shows it and it is not one of the box's own places itself. */
static bool plan_cwd(Planner *p, GError **error) {
        const char *cwd = p->spec->caller.cwd, *home = p->spec->caller.home;

        if (p->spec->root.workdir_given || path_is_at_or_below(home, cwd))
                return true;
        const RootNode *node = root_plan_node_for(p->plan, cwd + 1);
        if (node->host.path)
                return true;
        static const char *const never[] = { "/proc", "/sys", "/dev", "/run", NULL };
        for (const char *const *dir = never; *dir; dir++)
                if (path_is_at_or_below(cwd, *dir) && !path_is_below(cwd, "/dev/shm"))
                        return true;
        if (g_strv_contains(own_dirs, cwd) || g_str_equal(cwd, "/dev/shm") || is_hidden(p, cwd))
                return true;
        plan_parents(p, cwd);
        return plan_tree(p, cwd, cwd, false, 0, error);
}

static bool plan_home(Planner *p, GError **error) {
        const char *home = p->spec->caller.home;
        const RootSpec *root = &p->spec->root;
        struct stat st;

        if (g_str_equal(home, "/") || stat(home, &st) < 0)
                return plan_cwd(p, error);

        plan_parents(p, home);
        if (root->home == HOME_ALL) {
                /* Taken out of whatever overlay it lies in: a node of its own, so that hidden names are the same everywhere. */
                if (!plan_tree(p, home, home, false, 0, error))
                        return false;
                return plan_cwd(p, error);
        }

        add_node(p, ROOT_OVERLAY, home, st.st_mode & 0777)->has_layer = true;
        if (!plan_cwd(p, error))
                return false;
        if (root->home == HOME_EMPTY)
                return true;
        for (const char *const *tool = home_tools; *tool; tool++) {
                if (!home_may_have(p, *tool))
                        continue;
                g_autofree char *path = join(home, *tool);
                if (!plan_home_tool(p, path, error))
                        return false;
        }
        hide_below_tools(p, home_tool_secrets);
        hide_below_tools(p, home_hidden);
        return true;
}

/* Homes of other people that are not below /home (that one has only the caller's). */
static void hide_other_homes(Planner *p) {
        g_autofree char *text = NULL;
        if (!fd_read_file(AT_FDCWD, "/etc/passwd", PASSWD_MAX, &text, NULL))
                return;

        char *rest = text;
        for (char *line; (line = strsep(&rest, "\n"));) {
                g_auto(GStrv) f = g_strsplit(line, ":", 7);
                if (g_strv_length(f) < 6)
                        continue;
                guint64 uid = g_ascii_strtoull(f[2], NULL, 10);
                const char *dir = f[5];
                bool person = uid >= 1000 && uid != 65534;
                if (uid == p->spec->caller.uid || (!person && uid != 0) || dir[0] != '/' || strlen(dir) < 2)
                        continue;
                if (path_is_at_or_below(p->spec->caller.home, dir) || path_is_at_or_below(p->spec->caller.cwd, dir) ||
                    path_is_below(dir, "/home") || !strchr(dir + 1, '/'))
                        continue;
                if (access(dir, F_OK) == 0)
                        g_hash_table_add(p->hidden, g_strdup(dir));
        }
}

static void collect_hidden(Planner *p) {
        const Spec *spec = p->spec;

        for (guint i = 0; i < spec->root.hide->len; i++) {
                const char *path = g_ptr_array_index(spec->root.hide, i);
                /* Both the name as given and what it resolves to: a hidden symlink alone would leave the file in sight. */
                g_hash_table_add(p->hidden, g_strdup(path));
                char *real = realpath(path, NULL);
                if (real) {
                        g_hash_table_add(p->hidden, g_strdup(real));
                        free(real);
                }
        }
        if (spec->root.rootfs)
                return;
        list_home(p);
        hide_other_homes(p);
        const char *all = spec->root.home == HOME_ALL ? NULL : spec->caller.cwd;
        hide_below_home(p, home_tool_secrets, all, spec->caller.cwd);
        hide_below_home(p, home_hidden, all, all);
        g_autofree char *mail = g_strconcat("/var/mail/", spec->caller.name, NULL);
        g_autofree char *spool = g_strconcat("/var/spool/mail/", spec->caller.name, NULL);
        g_hash_table_add(p->hidden, g_steal_pointer(&mail));
        g_hash_table_add(p->hidden, g_steal_pointer(&spool));
}

/* Hidden names become whiteouts of the box layer where an overlay would show them; in the skeleton they are simply not made. */
static void plan_whiteouts(Planner *p) {
        GHashTableIter iter;
        gpointer key;

        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                const char *path = key;
                const RootNode *node = root_plan_node_for(p->plan, path + 1);
                struct stat st;
                g_autofree char *host = NULL;
                if (!node->host.path)
                        continue;
                /* With --rootfs the same name below another host directory. */
                host = g_strconcat(node->host.path, path + 1 + strlen(node->path), NULL);
                if (lstat(host, &st) == 0)
                        add_entry(p, LAYER_WHITEOUT, path);
        }
}

static bool plan_host_root(Planner *p, GError **error) {
        struct stat st;
        _cleanup_close_ int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(error, errno, "open /");
        add_node(p, ROOT_DIR, "/", 0755)->read_only = !caller_may_write(p, &st) && p->spec->user.uid != 0;

        /* /home is never shown as a whole: of all homes only the caller's is there. root's home likewise. */
        g_hash_table_add(p->hidden, g_strdup("/home"));
        g_hash_table_add(p->hidden, g_strdup("/root"));
        if (!plan_apart(p, fd, "/", "/", true, 0, error))
                return false;
        g_hash_table_remove(p->hidden, "/home");
        g_hash_table_remove(p->hidden, "/root");
        add_node(p, ROOT_DIR, "/home", 0755);
        if (!g_str_equal(p->spec->caller.home, "/root"))
                add_node(p, ROOT_DIR, "/root", 0700);
        return plan_home(p, error);
}

static bool plan_rootfs(Planner *p, GError **error) {
        const char *rootfs = p->spec->root.rootfs;
        struct stat st;
        _cleanup_close_ int fd = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(error, errno, "--rootfs %s", rootfs);

        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *real = g_file_read_link(link, NULL);
        if (!real)
                return err_set(error, errno, "--rootfs %s", rootfs);
        if (g_str_equal(real, "/")) {
                err_set(error, 0, "--rootfs / is what a box has without the option");
                return err_hint(error, "leave --rootfs out");
        }
        if (has_mount_below(p, real)) {
                add_node(p, ROOT_DIR, "/", st.st_mode & 0777);
                return plan_apart(p, fd, real, "/", false, 0, error);
        }
        add_node(p, ROOT_OVERLAY, "/", st.st_mode & 0777)->host = host_path(real, &st);
        return true;
}

/* Places that the box mounts on, where neither host nor skeleton has them. */
static void plan_own_dirs(Planner *p) {
        for (const char *const *dir = own_dirs; *dir; dir++) {
                const RootNode *node = root_plan_node_for(p->plan, *dir + 1);
                mode_t mode = g_str_equal(*dir, "/tmp") || g_str_equal(*dir, "/var/tmp") ? 01777 : 0755;
                if (node->kind != ROOT_OVERLAY) {
                        plan_parents(p, *dir);
                        add_node(p, ROOT_DIR, *dir, mode);
                } else {
                        g_autofree char *host = g_strconcat(node->host.path, "/", *dir + 1 + strlen(node->path), NULL);
                        if (access(host, F_OK) < 0) {
                                plan_parents(p, *dir);
                                add_entry(p, LAYER_DIR, *dir)->mode = mode;
                        }
                }
        }
}

/* The host's side of an overlay has this path of the box. */
static bool overlay_has(const RootNode *node, const char *box_path) {
        if (!node->host.path)
                return false;
        g_autofree char *host = g_strconcat(node->host.path, "/", box_path + strlen(node->path), NULL);
        struct stat st;
        return lstat(host, &st) == 0;
}

/* What a name of the box is once the symlinks of the host on its way are followed: where a mount on it will stand. */
static char *resolve_target(const Planner *p, const char *dst) {
        if (p->spec->root.rootfs)
                return g_strdup(dst);

        g_autofree char *head = g_strdup(dst);
        for (;;) {
                char *real = realpath(head, NULL);
                if (real) {
                        char *resolved = g_str_equal(real, "/") ? g_strdup(dst + strlen(head) - (strlen(head) == 1))
                                                                : g_strconcat(real, dst + strlen(head), NULL);
                        free(real);
                        return resolved;
                }
                char *slash = strrchr(head, '/');
                slash[slash == head] = '\0';
        }
}

/* Make sure that a mount will find its target in the box, without making anything on the host. */
static bool plan_target(Planner *p, const MountSource *source, GError **error) {
        g_autofree char *target = resolve_target(p, source->op->dst);

        for (const char *const *dir = own_dirs; *dir; dir++)
                if (path_is_at_or_below(target, *dir))
                        return true;
        for (guint i = 0; i < p->plan->sources->len; i++) {
                const MountSource *other = g_ptr_array_index(p->plan->sources, i);
                if (other == source)
                        break;
                if (!other->skip && other->op->kind != MOUNT_SYMLINK && path_is_at_or_below(target, other->op->dst))
                        return true; /* resolved when that mount stands */
        }

        GHashTableIter iter;
        gpointer key;
        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                if (path_is_below(target, key)) {
                        g_autofree char *shown = err_quote(key);
                        err_set(error, 0, "%s: the target lies under %s, which is hidden in the box", source->op->option, shown);
                        return err_hint(error, "mount on %s itself, or choose a target elsewhere", shown);
                }

        const RootNode *node = root_plan_node_for(p->plan, target + 1);
        bool hidden = is_hidden(p, target);
        if (g_str_equal(node->path, target + 1) || (!hidden && overlay_has(node, target + 1)))
                return true;
        g_hash_table_remove(p->hidden, target);
        plan_parents(p, target);
        if (source->is_dir && node->kind != ROOT_OVERLAY)
                add_node(p, ROOT_DIR, target, 0755);
        else if (source->op->kind != MOUNT_SYMLINK)
                add_entry(p, source->is_dir ? LAYER_DIR : LAYER_FILE, target)->mode = source->is_dir ? 0755 : 0444;
        return true;
}

/* Open what one mount takes from the host and remember which inode it was. */
static bool open_source(MountSource *source, GError **error) {
        const MountOp *op = source->op;
        struct stat st;

        if (op->kind == MOUNT_FILE) {
                if (!fd_read_all(op->fd, MOUNT_FILE_MAX, &source->data, &source->len))
                        return err_set(error, errno, "%s: read descriptor %d", op->option, op->fd);
                return true;
        }
        if (op->kind != MOUNT_BIND && op->kind != MOUNT_DEVICE) {
                source->is_dir = op->kind != MOUNT_SYMLINK;
                return true;
        }

        _cleanup_close_ int fd = open(op->src, O_PATH | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                if (op->optional && (errno == ENOENT || errno == EACCES)) {
                        source->skip = true;
                        return true;
                }
                g_autofree char *shown = err_quote(op->src);
                err_set(error, errno, "%s: source %s", op->option, shown);
                return errno == ENOENT ? err_hint(error, "the source of a mount must exist; usbox creates nothing on the host") : false;
        }
        if (op->kind == MOUNT_DEVICE && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
                return err_set(error, 0, "%s: not a device node", op->option);

        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *real = g_file_read_link(link, NULL);
        if (!real)
                return err_set(error, errno, "%s: readlink %s", op->option, link);
        source->host = host_path(real, &st);
        source->is_dir = S_ISDIR(st.st_mode);
        return true;
}

static bool plan_sources(Planner *p, GError **error) {
        const GPtrArray *ops = p->spec->mount.ops;

        for (guint i = 0; i < ops->len; i++) {
                MountSource *source = g_new0(MountSource, 1);
                source->op = g_ptr_array_index(ops, i);
                g_ptr_array_add(p->plan->sources, source);
                if (!open_source(source, error))
                        return false;
                if (!source->skip && !plan_target(p, source, error))
                        return false;
        }
        return true;
}

static void mark_layers(RootPlan *plan) {
        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                root_plan_carrier(plan, entry->path)->has_layer = true;
        }
        /* A node below an overlay needs its mount point there. */
        for (guint i = 1; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                const char *slash = strrchr(node->path, '/');
                g_autofree char *parent = g_strndup(node->path, slash ? (size_t) (slash - node->path) : 0);
                RootNode *above = root_plan_carrier(plan, parent);
                if (above->kind == ROOT_OVERLAY && !overlay_has(above, node->path))
                        above->has_layer = true;
        }
}

static bool host_has_only_cgroup2(void) {
        struct stat st;
        return stat("/sys/fs/cgroup/cgroup.controllers", &st) == 0;
}

RootPlan *root_plan_new(const Spec *spec, const char *box_dir, GError **error) {
        g_autoptr(RootPlan) plan = g_new0(RootPlan, 1);
        plan->nodes = g_ptr_array_new_with_free_func(node_free);
        plan->entries = g_ptr_array_new_with_free_func(entry_free);
        plan->sources = g_ptr_array_new_with_free_func(source_free);
        plan->sysfs_of_host = spec->net.mode == NET_HOST;
        plan->proc_of_host = spec->namespaces.pid_host;
        plan->cgroup2 = host_has_only_cgroup2();
        plan->workdir = g_strdup(spec->root.workdir_given ? spec->root.workdir : spec->root.rootfs ? NULL : spec->caller.cwd);

        if (box_dir) {
                struct stat st;
                if (stat(box_dir, &st) < 0) {
                        err_set(error, errno, "%s", box_dir);
                        return NULL;
                }
                plan->box_dir = host_path(box_dir, &st);
        }

        g_autofree char *text = NULL;
        if (!fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 64 * 1024 * 1024, &text, NULL)) {
                err_set(error, errno, "read /proc/self/mountinfo");
                return NULL;
        }
        g_autoptr(GPtrArray) mounts = mountinfo_points(text);
        g_autoptr(GHashTable) hidden = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        Planner p = { .spec = spec, .plan = plan, .mounts = mounts, .hidden = hidden };

        int n_groups = getgroups(0, NULL);
        g_autofree gid_t *groups = g_new(gid_t, MAX(n_groups, 0) + 1);
        p.n_groups = getgroups(MAX(n_groups, 0), groups);
        p.groups = groups;
        if (p.n_groups < 0) {
                err_set(error, errno, "getgroups");
                return NULL;
        }
        groups[p.n_groups++] = spec->caller.gid;

        collect_hidden(&p);
        if (!(spec->root.rootfs ? plan_rootfs(&p, error) : plan_host_root(&p, error)))
                return NULL;
        plan_own_dirs(&p);
        /* Before the whiteouts: a mount on a hidden name takes its place. */
        if (!plan_sources(&p, error))
                return NULL;
        plan_whiteouts(&p);
        mark_layers(plan);
        return g_steal_pointer(&plan);
}

static bool make_dir_at(int box_fd, const char *path, mode_t mode, GError **error) {
        /* The directories above first; most exist already, as nodes are sorted parents first. */
        if (mkdirat(box_fd, path, 0700) < 0) {
                if (errno == ENOENT) {
                        g_autofree char *parent = g_path_get_dirname(path);
                        return make_dir_at(box_fd, parent, 0755, error) && make_dir_at(box_fd, path, mode, error);
                }
                if (errno != EEXIST)
                        return err_set(error, errno, "make %s", path);
                return true;
        }
        if (fchmodat(box_fd, path, mode, 0) < 0)
                return err_set(error, errno, "chmod %s", path);
        return true;
}

bool root_plan_make_dirs(const RootPlan *plan, int box_fd, GError **error) {
        for (const char *const *dir = (const char *const[]){ "upper", "work", "tmp", NULL }; *dir; dir++)
                if (!make_dir_at(box_fd, *dir, g_str_equal(*dir, "tmp") ? 01777 : 0755, error))
                        return false;
        for (guint i = 0; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if ((i > 0 && node->kind != ROOT_OVERLAY) || node->read_only)
                        continue;
                g_autofree char *upper = g_strconcat("upper/", node->path, NULL);
                g_autofree char *work = g_strdup_printf("work/%u", node->index);
                if ((i > 0 && !make_dir_at(box_fd, upper, node->mode | 0700, error)) || !make_dir_at(box_fd, work, 0700, error))
                        return false;
        }
        return true;
}

/* A directory that we made and the box left empty; what it changed of mode or owner goes with it. */
static void trim_up(int box_fd, const char *path) {
        g_autofree char *at = g_strdup(path);
        while (strlen(at) > strlen("upper") && unlinkat(box_fd, at, AT_REMOVEDIR) == 0) {
                char *slash = strrchr(at, '/');
                *slash = '\0';
        }
}

void root_plan_trim_dirs(const RootPlan *plan, int box_fd) {
        for (guint i = plan->nodes->len; i-- > 0;) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->kind != ROOT_OVERLAY || !*node->path || node->read_only)
                        continue;
                g_autofree char *upper = g_strconcat("upper/", node->path, NULL);
                trim_up(box_fd, upper);
        }
}
