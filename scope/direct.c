/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits without systemd: a cgroup below one that was handed to us, as a container or a CI runner has it.
 *
 * Role: usbox-scope. Privileges: the caller's. Threads: one. Order: instead of systemd.c, where the user has none.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/leaves.h"

/* The controllers that the settings need and what every box has (accounting), as far as dir has them, "+memory +pids"; for a pod, whose boxes may
 * need others, all that systemd would give it. */
static char *wanted_controllers(int dir, const ScopeConfig *config) {
        g_auto(GStrv) have = cgroup_words(dir, "cgroup.controllers"), on = cgroup_words(dir, "cgroup.subtree_control");
        g_autoptr(GHashTable) wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        GString *text = g_string_new(NULL);

        for (const char *const *name = (const char *const[]){ "memory", "pids", config->is_pod ? "cpu" : NULL, "cpuset", "io", NULL }; *name; name++)
                g_hash_table_add(wanted, g_strdup(*name));
        for (guint i = 0; i < config->settings->len; i++)
                g_hash_table_add(wanted, scope_setting_controller(config->settings->pdata[i]));
        for (char **name = have; *name; name++)
                if (g_hash_table_contains(wanted, *name) && !g_strv_contains((const char *const *) on, *name))
                        g_string_append_printf(text, "%s+%s", text->len ? " " : "", *name);
        return g_string_free(text, FALSE);
}

static bool writable(int dir) {
        return faccessat(dir, "cgroup.procs", W_OK, 0) == 0 && faccessat(dir, "cgroup.subtree_control", W_OK, 0) == 0 &&
               faccessat(dir, ".", W_OK, 0) == 0;
}

/* All controllers of the settings are there to be handed on. */
static bool has_controllers(int dir, const GPtrArray *settings) {
        g_auto(GStrv) have = cgroup_words(dir, "cgroup.controllers");

        for (guint i = 0; i < settings->len; i++) {
                g_autofree char *controller = scope_setting_controller(settings->pdata[i]);
                if (!g_strv_contains((const char *const *) have, controller))
                        return false;
        }
        return true;
}

/* A unit of systemd's: what is above it is systemd's business. */
static bool is_unit(const char *path) {
        return g_str_has_suffix(path, ".scope") || g_str_has_suffix(path, ".service") || g_str_has_suffix(path, ".slice");
}

/* Our own cgroup, or the one that it is a leaf of: one that may have children with controllers, which a cgroup with processes in it may not. */
static int find_place(const char *own, const ScopeConfig *config, char **ret_path, GError **error) {
        g_autofree char *path = g_strdup(own);
        bool any = false;

        for (int up = 0; up < 2; up++) {
                g_autofree char *full = g_strconcat(CGROUP_MOUNT, path, NULL);
                _cleanup_close_ int dir = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (dir < 0 || !writable(dir))
                        break;
                any = true;
                g_autofree char *wanted = wanted_controllers(dir, config);
                if (has_controllers(dir, config->settings) && (*wanted == '\0' || fd_write_file(dir, "cgroup.subtree_control", wanted))) {
                        *ret_path = g_steal_pointer(&path);
                        return fd_steal(&dir);
                }
                log_step("%s: %s: %s", path, wanted, err_text(errno));
                char *slash = strrchr(path, '/');
                if (!slash || g_str_equal(path, "/") || is_unit(path))
                        break;
                slash[slash == path] = '\0';
        }
        if (any) {
                err_set(error, EBUSY, "the cgroup %s is writable, but has processes of its own or not all controllers", own);
                err_hint(error, "start usbox from a leaf of it: mkdir " CGROUP_MOUNT "%s/main && echo $$ > " CGROUP_MOUNT "%s/main/cgroup.procs",
                         g_str_equal(own, "/") ? "" : own, g_str_equal(own, "/") ? "" : own);
        } else {
                err_set(error, EACCES, "no systemd runs for this user, and the cgroup %s is not his", own);
                err_hint(error, "sudo loginctl enable-linger $USER (where systemd runs the machine)");
        }
        return -1;
}

bool direct_make(const ScopeConfig *config, ScopeCgroup *ret, GError **error) {
        if (config->properties->len > 0) {
                err_set(error, EOPNOTSUPP, "--property is for systemd, and none runs for this user");
                return err_hint(error, "sudo loginctl enable-linger $USER (where systemd runs the machine)");
        }
        g_autofree char *own = cgroup_of_self(error);
        if (!own)
                return false;
        g_autofree char *place_path = NULL;
        _cleanup_close_ int place = find_place(own, config, &place_path, error);
        if (place < 0)
                return false;

        g_autofree char *name = scope_unit_name(config->id);
        if (mkdirat(place, name, 0755) < 0)
                return err_set(error, errno, "make the cgroup %s/%s", place_path, name);
        ret->own = true;
        ret->home = g_steal_pointer(&own);
        ret->path = g_strconcat(g_str_equal(place_path, "/") ? "" : place_path, "/", name, NULL);
        ret->fd = openat(place, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return ret->fd >= 0 ? true : err_set(error, errno, "%s", ret->path);
}
