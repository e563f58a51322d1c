/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The home directory in the box, the working directory, and the names that do not exist in the box.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: called by root-plan.c. home-tools.c and home-hidden.c have the lists.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "home.h"
#include "mountinfo.h"
#include "root-plan.h"

#define FILE_MAX (1024 * 1024) /* a dot file of the home that is copied into the box's layer */
#define PASSWD_MAX (8 * 1024 * 1024)

/* FNV-1a of a name up to its end or first slash. */
static guint first_part_hash(const char *name) {
        guint hash = 2166136261u;
        for (; *name && *name != '/'; name++)
                hash = (hash ^ (guchar) *name) * 16777619u;
        return hash % (HOME_FILTER_WORDS * 64);
}

static void list_home(Planner *p) {
        DIR *dir = opendir(p->spec->caller.home);
        for (struct dirent *d; dir && (errno = 0, d = readdir(dir));) {
                guint bit = first_part_hash(d->d_name);
                p->home_filter[bit / 64] |= 1ULL << bit % 64;
        }
        /* What is not known to be absent may have to be hidden. */
        if (errno != 0)
                memset(p->home_filter, 0xff, sizeof p->home_filter);
        if (dir)
                closedir(dir);
}

/* The real name of what is hidden, malloc()ed; NULL where there is none, or the caller cannot get there. */
static bool hidden_target(const char *path, char **ret, GError **error) {
        *ret = realpath(path, NULL);
        return *ret || errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP || err_set(error, errno, "hide %s", path);
}

/* Whether a name of home.h's lists, relative to the home, can exist: most are ruled out by their first part. */
bool plan_home_may_have(const Planner *p, const char *name) {
        guint bit = first_part_hash(name);
        return p->home_filter[bit / 64] >> bit % 64 & 1;
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
        LayerEntry *entry = plan_add_entry(p, LAYER_FILE, path);
        entry->data = g_steal_pointer(&data);
        entry->len = len;
        entry->mode = 0644;
        return true;
}

/* One entry of the tool list: a directory as an overlay, a file as a copy, a symlink as it is. */
static bool plan_home_tool(Planner *p, const char *path, GError **error) {
        struct stat st;

        if (lstat(path, &st) < 0 || plan_is_hidden(p, path))
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

/* Where a name of the lists is, or with a "*" in it, is as often as it is there: of char *, absolute. */
static GPtrArray *places_of(const Planner *p, const char *name) {
        GPtrArray *places = g_ptr_array_new_with_free_func(g_free);
        const char *star = strstr(name, "/*/");

        if (!star) {
                g_ptr_array_add(places, plan_join(p->spec->caller.home, name));
                return places;
        }
        g_autofree char *above = g_strndup(name, (size_t) (star - name)), *top = plan_join(p->spec->caller.home, above);
        DIR *dir = opendir(top);
        for (const struct dirent *d; dir && (d = readdir(dir));) {
                struct stat st;
                g_autofree char *path = g_strconcat(top, "/", d->d_name, star + 2, NULL);
                if (d->d_name[0] != '.' && lstat(path, &st) == 0)
                        g_ptr_array_add(places, g_steal_pointer(&path));
        }
        if (dir)
                closedir(dir);
        return places;
}

/* Names of a list that lie below dir (NULL: anywhere in the home), but not above or at unless_inside (NULL: nothing is excepted). */
static void hide_below_home(Planner *p, const char *const *names, const char *dir, const char *unless_inside) {
        for (const char *const *name = names; *name; name++) {
                if (dir && !plan_home_may_have(p, *name))
                        continue;
                /* Whether it is there is asked of the few that an overlay would show: plan_whiteouts(). */
                g_autoptr(GPtrArray) places = places_of(p, *name);
                for (guint i = 0; i < places->len; i++) {
                        const char *path = g_ptr_array_index(places, i);
                        if ((!dir || path_is_below(path, dir)) && (!unless_inside || !path_is_at_or_below(unless_inside, path)))
                                g_hash_table_add(p->hidden, g_strdup(path));
                }
        }
}

/* A hidden name that is a symlink (dotfiles kept elsewhere) hides what it leads to as well. */
static bool hide_link_targets(Planner *p, GError **error) {
        g_autoptr(GPtrArray) targets = g_ptr_array_new_with_free_func(free);
        GHashTableIter iter;
        gpointer key;
        struct stat st;

        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                char *real = NULL;
                bool maybe = lstat(key, &st) < 0 ? errno != ENOENT : S_ISLNK(st.st_mode);
                if (maybe && !hidden_target(key, &real, error))
                        return false;
                if (real)
                        g_ptr_array_add(targets, real);
        }
        for (guint i = 0; i < targets->len; i++) {
                const char *real = g_ptr_array_index(targets, i);
                if (path_is_below(real, p->spec->caller.home) && !path_is_at_or_below(p->spec->caller.cwd, real))
                        g_hash_table_add(p->hidden, g_strdup(real));
        }
        return true;
}

/* The same for what is planned so far to be shown of the home: the tools. */
void plan_hide_shown(Planner *p, const char *const *names) {
        for (const char *const *name = names; *name; name++) {
                if (!plan_home_may_have(p, *name))
                        continue;
                g_autoptr(GPtrArray) places = places_of(p, *name);
                for (guint i = 0; i < places->len; i++) {
                        const char *path = g_ptr_array_index(places, i);
                        bool shown = p->rules ? plan_fuse_shows(p, path) : root_plan_node_for(p->plan, path + 1)->host.path != NULL;
                        if (shown && !path_is_at_or_below(p->spec->caller.cwd, path))
                                g_hash_table_add(p->hidden, g_strdup(path));
                }
        }
}

bool plan_cwd_is_shown(const Planner *p) {
        static const char *const never[] = { "/proc", "/sys", "/dev", "/run", NULL };
        const char *cwd = p->spec->caller.cwd;
        const RootSpec *root = &p->spec->root;

        /* -w elsewhere: whoever works there has not said that he wants to show where he happens to be. */
        if ((root->workdir_given && !path_is_at_or_below(root->workdir, cwd)) || path_is_at_or_below(p->spec->caller.home, cwd))
                return false;
        for (const char *const *dir = never; *dir; dir++)
                if (path_is_at_or_below(cwd, *dir) && !path_is_below(cwd, "/dev/shm"))
                        return false;
        return !g_strv_contains(root_own_dirs, cwd) && !g_str_equal(cwd, "/dev/shm") && !plan_is_hidden(p, cwd);
}

/* The working directory, where nothing planned so far shows it and it is not one of the box's own places itself. */
static bool plan_cwd(Planner *p, GError **error) {
        const char *cwd = p->spec->caller.cwd;

        if (!plan_cwd_is_shown(p) || root_plan_node_for(p->plan, cwd + 1)->host.path)
                return true;
        plan_parents(p, cwd);
        return plan_tree(p, cwd, cwd, false, 0, error);
}

bool plan_home(Planner *p, GError **error) {
        const char *home = p->spec->caller.home;
        const RootSpec *root = &p->spec->root;
        struct stat st;

        if (g_str_equal(home, "/"))
                return plan_cwd(p, error);
        if (stat(home, &st) < 0)
                return errno == ENOENT ? plan_cwd(p, error) : err_set(error, errno, "the home directory %s", home);

        plan_parents(p, home);
        if (root->home == HOME_ALL) {
                /* Taken out of whatever overlay it lies in: a node of its own, so that hidden names are the same everywhere. */
                if (!plan_tree(p, home, home, false, 0, error))
                        return false;
                return plan_cwd(p, error);
        }

        plan_add_node(p, ROOT_OVERLAY, home, st.st_mode & 0777)->has_layer = true;
        if (!plan_cwd(p, error))
                return false;
        if (root->home == HOME_EMPTY)
                return true;
        for (const char *const *tool = home_tools; *tool; tool++) {
                if (!plan_home_may_have(p, *tool))
                        continue;
                g_autofree char *path = plan_join(home, *tool);
                if (!plan_home_tool(p, path, error))
                        return false;
        }
        plan_hide_shown(p, home_tool_secrets);
        plan_hide_shown(p, home_hidden);
        return true;
}

/* Homes of other people that are not below /home (that one has only the caller's). */
static bool hide_other_homes(Planner *p, GError **error) {
        g_autofree char *text = NULL;
        if (!fd_read_file(AT_FDCWD, "/etc/passwd", PASSWD_MAX, &text, NULL))
                return errno == ENOENT || err_set(error, errno, "read /etc/passwd");

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
                if (access(dir, F_OK) == 0 || errno != ENOENT)
                        g_hash_table_add(p->hidden, g_strdup(dir));
        }
        return true;
}

/* --hide. Both the name as given and what it resolves to: a hidden symlink alone would leave the file in sight. */
static bool hide_given(Planner *p, const char *path, GError **error) {
        char *real;

        if (!hidden_target(path, &real, error))
                return false;
        g_hash_table_add(p->hidden, g_strdup(path));
        if (real)
                g_hash_table_add(p->hidden, g_strdup(real));
        free(real);
        return true;
}

bool plan_collect_hidden(Planner *p, GError **error) {
        const Spec *spec = p->spec;

        for (guint i = 0; i < spec->root.hide->len; i++)
                if (!hide_given(p, g_ptr_array_index(spec->root.hide, i), error))
                        return false;
        if (spec->root.rootfs)
                return true;
        list_home(p);
        if (!hide_other_homes(p, error))
                return false;
        const char *all = spec->root.home == HOME_ALL ? NULL : spec->caller.cwd;
        hide_below_home(p, home_tool_secrets, all, spec->caller.cwd);
        hide_below_home(p, home_hidden, all, all);
        if (!all && !hide_link_targets(p, error))
                return false;
        g_autofree char *mail = g_strconcat("/var/mail/", spec->caller.name, NULL);
        g_autofree char *spool = g_strconcat("/var/spool/mail/", spec->caller.name, NULL);
        g_hash_table_add(p->hidden, g_steal_pointer(&mail));
        g_hash_table_add(p->hidden, g_steal_pointer(&spool));
        return true;
}
