/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan of a root that usbox-fs serves: the host's "/" (or --rootfs) as a whole, and rules about what of it is there.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: called by root-plan.c in place of root-tree.c.
 *
 * What root-tree.c has to find out beforehand by looking through the host, usbox-fs asks about each file when it is looked up: so
 * here are only names, and nothing of the host is listed. A box shows the same as with the kernel's overlay, but that private
 * files are not there however deep they lie.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "home.h"
#include "mountinfo.h"
#include "root-plan.h"

/* A rule about box_path; what is hidden by name stays so. */
static void add_rule(Planner *p, FsRuleKind kind, const char *box_path) {
        if (!plan_is_hidden(p, box_path))
                g_hash_table_replace(p->rules, g_strdup(box_path), GINT_TO_POINTER(kind));
}

/* The rule that decides about box_path: that of the longest path at or above it; 0: none. *ret_len: how long that path is. */
static int governing(const Planner *p, const char *box_path, size_t *ret_len) {
        g_autofree char *at = g_strdup(box_path);

        for (;;) {
                int kind = GPOINTER_TO_INT(g_hash_table_lookup(p->rules, at));
                if (!kind && plan_is_hidden(p, at))
                        kind = FS_RULE_HIDE;
                if (kind == FS_RULE_TOOLS) /* which shows, too */
                        kind = FS_RULE_SHOW;
                char *slash = strrchr(at, '/');
                *ret_len = strlen(at);
                if (kind || slash == at)
                        return kind;
                *slash = '\0';
        }
}

bool plan_fuse_shows(const Planner *p, const char *box_path) {
        size_t len;
        return governing(p, box_path, &len) == FS_RULE_SHOW;
}

/* Some rule for a name below box_path needs it as a way. */
static bool leads_to_rule(const Planner *p, const char *box_path) {
        GHashTableIter iter;
        gpointer key;

        g_hash_table_iter_init(&iter, p->rules);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                if (path_is_below(key, box_path))
                        return true;
        return false;
}

/* One of the directories down to box_path, or it itself, is one that only the caller may see. path is the host's. */
static bool closed_on_the_way(const Planner *p, char *path, size_t skip) {
        for (char *slash = strchr(path + skip + 1, '/');; slash = strchr(slash + 1, '/')) {
                struct stat st;
                if (slash)
                        *slash = '\0';
                bool closed = lstat(path, &st) < 0 || plan_closed_to_others(p, &st);
                if (slash)
                        *slash = '/';
                if (closed || !slash)
                        return closed;
        }
}

bool plan_fuse_has(const Planner *p, const char *box_path) {
        const RootNode *root = g_ptr_array_index(p->plan->nodes, 0);
        g_autofree char *host = g_strconcat(root->host.path[1] ? root->host.path : "", box_path, NULL);
        struct stat st;
        size_t len;

        /* Patterns are usbox-fs's to understand. */
        if (p->spec->root.hide_globs->len > 0 || lstat(host, &st) < 0)
                return false;
        int kind = governing(p, box_path, &len);
        if (kind == FS_RULE_SHOW)
                return true;
        if (kind == FS_RULE_FILTER || kind == FS_RULE_EMPTY)
                return S_ISDIR(st.st_mode) && (len == strlen(box_path) || leads_to_rule(p, box_path));
        return kind == 0 && !(p->plan->fs->others_eyes && closed_on_the_way(p, host, strlen(host) - strlen(box_path)));
}

/* The places that the box mounts over: nothing of the host is to be seen in them before that, and they stay if the host removes its own. */
static void own_dirs(Planner *p) {
        const RootNode *root = g_ptr_array_index(p->plan->nodes, 0);

        for (const char *const *dir = root_own_dirs; *dir; dir++) {
                g_autofree char *host = g_strconcat(root->host.path[1] ? root->host.path : "", *dir, NULL);
                bool sticky = g_str_equal(*dir, "/tmp") || g_str_equal(*dir, "/var/tmp");
                g_autofree char *parent = g_path_get_dirname(host);
                struct stat st;
                bool there = lstat(host, &st) == 0 && S_ISDIR(st.st_mode);
                if (there)
                        add_rule(p, FS_RULE_EMPTY, *dir);
                if (there && lstat(parent, &st) == 0 && S_ISLNK(st.st_mode))
                        continue; /* a place for it would hide where a /var elsewhere is */
                plan_add_entry(p, LAYER_DIR, *dir)->mode = sticky ? 01777 : 0755;
        }
}

static void home_rules(Planner *p) {
        const char *home = p->spec->caller.home;
        struct stat st;

        if (g_str_equal(home, "/") || (stat(home, &st) < 0 && errno == ENOENT))
                return;
        add_rule(p, p->spec->root.home == HOME_ALL     ? FS_RULE_SHOW
                    : p->spec->root.home == HOME_EMPTY ? FS_RULE_EMPTY
                                                       : FS_RULE_FILTER,
                 home);
}

/* Toolchains. With --home=all they are shown already, and it is only about what is hidden in them. */
static void tool_rules(Planner *p) {
        const char *cwd = p->spec->caller.cwd;
        bool all = p->spec->root.home == HOME_ALL;

        for (const char *const *tool = home_tools; *tool; tool++) {
                struct stat st;
                if (!plan_home_may_have(p, *tool))
                        continue;
                g_autofree char *path = plan_join(p->spec->caller.home, *tool);
                if (lstat(path, &st) < 0 || (all ? path_is_at_or_below(path, cwd) : plan_fuse_shows(p, path)))
                        continue;
                add_rule(p, FS_RULE_TOOLS, path);
                if (all && path_is_below(cwd, path) && plan_cwd_is_shown(p))
                        add_rule(p, FS_RULE_SHOW, cwd);
        }
        for (const char *const *name = home_secret_names; *name; name++)
                fs_config_add_rule(p->plan->fs, FS_RULE_SECRET, *name);
        plan_hide_shown(p, home_tool_secrets);
        plan_hide_shown(p, home_hidden);
}

static void cwd_rule(Planner *p) {
        const char *cwd = p->spec->caller.cwd;
        struct stat st;

        if (!plan_cwd_is_shown(p) || plan_fuse_shows(p, cwd))
                return;
        add_rule(p, FS_RULE_SHOW, cwd);
        if (root_plan_is_own(cwd + 1))
                plan_add_node(p, ROOT_PART, cwd, stat(cwd, &st) == 0 ? st.st_mode & 0777 : 0755);
}

static void host_rules(Planner *p) {
        /* /home is never shown as a whole: of all homes only the caller's is there. root's home likewise. */
        add_rule(p, FS_RULE_FILTER, "/home");
        add_rule(p, FS_RULE_EMPTY, "/root");
        for (guint i = 0; i < p->kernel_mounts->len; i++) {
                const char *point = g_ptr_array_index(p->kernel_mounts, i);
                if (!root_plan_is_own(point + 1))
                        add_rule(p, FS_RULE_EMPTY, point);
        }
        add_rule(p, FS_RULE_HIDE, "/lost+found");
        home_rules(p);
        cwd_rule(p);
        if (p->spec->root.home != HOME_EMPTY && !g_str_equal(p->spec->caller.home, "/"))
                tool_rules(p);
}

/* The directory that is the lower: the host's "/", or --rootfs, by its real name. */
static bool lower_node(Planner *p, GError **error) {
        const char *path = p->spec->root.rootfs ? p->spec->root.rootfs : "/";
        struct stat st;
        _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_autofree char *real = fd >= 0 ? fd_read_path(fd) : NULL;

        if (!real || fstat(fd, &st) < 0) {
                err_set(error, errno, "%s%s", p->spec->root.rootfs ? "--rootfs " : "open ", path);
                return p->spec->root.rootfs && plan_hint_rootfs(error);
        }
        RootNode *node = plan_add_node(p, ROOT_OVERLAY, "/", st.st_mode & 0777);
        node->host = plan_host_path(real, &st);
        node->has_layer = true;
        node->read_only = p->spec->root.read_only;
        return true;
}

bool plan_fuse(Planner *p, GError **error) {
        const RootSpec *root = &p->spec->root;

        if (!lower_node(p, error))
                return false;
        p->plan->fs = fs_config_new();
        p->plan->fs->others_eyes = !root->rootfs;
        p->plan->fs->read_only = root->read_only;
        p->plan->fs->disk = root->disk;
        if (p->plan->box_dir.path) /* this box's own upper, and other boxes' */
                g_hash_table_add(p->hidden, g_path_get_dirname(p->plan->box_dir.path));
        own_dirs(p);
        if (!root->rootfs)
                host_rules(p);
        return true;
}

static int compare_strings(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* What is hidden and would not be missing without a rule: most of home.h's lists lie where only what is named is shown. */
static void hidden_rules(Planner *p) {
        GHashTableIter iter;
        gpointer key;

        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                g_autofree char *parent = g_path_get_dirname(key);
                size_t len;
                int kind = governing(p, parent, &len);
                if (kind == 0 || kind == FS_RULE_SHOW)
                        g_hash_table_replace(p->rules, g_strdup(key), GINT_TO_POINTER(FS_RULE_HIDE));
        }
}

void plan_fuse_finish(Planner *p) {
        FsConfig *config = p->plan->fs;

        hidden_rules(p);
        guint n;
        g_autofree gpointer *paths = g_hash_table_get_keys_as_array(p->rules, &n);
        qsort(paths, n, sizeof *paths, compare_strings);
        for (guint i = 0; i < n; i++)
                fs_config_add_rule(config, (FsRuleKind) GPOINTER_TO_INT(g_hash_table_lookup(p->rules, paths[i])), paths[i]);
        for (guint i = 0; i < p->spec->root.hide_globs->len; i++)
                fs_config_add_rule(config, FS_RULE_GLOB, g_ptr_array_index(p->spec->root.hide_globs, i));
}
