/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of a box's cgroup as files: what is said of a controller that is not delegated, and that the command which is said mends it. And of who is a box's.
 *
 * Role: test program. Privileges: none; directories stand for cgroups. Threads: one.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "scope/leaves.h"
#include "scope/members.h"
#include "scope/property.h"

typedef struct {
        char *top;
        ScopeCgroup cgroup;
} World;

/* The user's systemd has these two; the scope, which was asked to have them, too. */
static void setup(World *w, gconstpointer data) {
        static const char *const files[] = { "cgroup.controllers", "usbox.slice/usbox-1.scope/cgroup.controllers" };
        g_autoptr(GError) error = NULL;

        w->top = g_dir_make_tmp("usbox-scope-XXXXXX", &error);
        g_assert_no_error(error);
        w->cgroup.path = g_build_filename(w->top, "usbox.slice/usbox-1.scope", NULL);
        g_assert_cmpint(g_mkdir_with_parents(w->cgroup.path, 0700), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
                g_autofree char *path = g_build_filename(w->top, files[i], NULL);
                g_assert_true(g_file_set_contents(path, "memory pids\n", -1, NULL));
        }
        w->cgroup.fd = open(w->cgroup.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(w->cgroup.fd, >=, 0);
}

static void run_shell(const char *script) {
        const char *argv[] = { "/bin/sh", "-ec", script, NULL };
        g_autoptr(GError) error = NULL;
        int status;

        g_assert_true(g_spawn_sync(NULL, (char **) argv, NULL, 0, NULL, NULL, NULL, NULL, &status, &error));
        g_assert_no_error(error);
        g_assert_cmpint(status, ==, 0);
}

static void teardown(World *w, gconstpointer data) {
        g_autofree char *script = g_strdup_printf("rm -r '%s'", w->top);

        close(w->cgroup.fd);
        run_shell(script);
        g_free(w->cgroup.path);
        g_free(w->top);
}

/* The hint's command, carried out on a tree of ours: what systemd would read then. The caller's. */
static char *delegated_by(const World *w, const char *hint) {
        const char *end = strstr(hint, ", then log out and in");
        g_assert_nonnull(end);
        g_autofree char *command = g_strndup(hint, end - hint), *etc = g_strconcat(w->top, "/etc", NULL);
        g_autofree char *script = NULL, *file = g_strconcat(etc, "/systemd/system/user@.service.d/usbox-delegate.conf", NULL);
        g_auto(GStrv) parts = g_strsplit(command, "/etc", -1);
        g_autofree char *there = g_strjoinv(etc, parts);
        g_autoptr(GKeyFile) conf = g_key_file_new();
        g_autoptr(GError) error = NULL;

        script = g_strconcat("sudo() { \"$@\"; }; systemctl() { test \"$*\" = daemon-reload; }; { ", there, "; } >/dev/null", NULL);
        run_shell(script);
        g_assert_true(g_key_file_load_from_file(conf, file, G_KEY_FILE_NONE, &error));
        g_assert_no_error(error);
        char *value = g_key_file_get_string(conf, "Service", "Delegate", &error);
        g_assert_no_error(error);
        return value;
}

static void assert_not_delegated(const World *w, const ScopeConfig *config, const char *controller) {
        g_autoptr(GError) error = NULL, later = NULL;
        g_autofree char *said = g_strdup_printf("the controller %s is not delegated to this user (these are: memory, pids)", controller);

        g_assert_false(cgroup_check_controllers(&w->cgroup, config, &error));
        g_assert_true(g_str_has_prefix(error->message, said));
        g_autofree char *value = delegated_by(w, err_get_hint(error));
        g_auto(GStrv) words = g_strsplit(value, " ", -1);
        g_assert_true(g_strv_contains((const char *const *) words, controller));
        /* And of a scope that has run for a while. */
        g_assert_false(cgroup_check_delegated(&w->cgroup, config, &later));
        g_assert_true(g_str_has_prefix(later->message, said));
}

static void test_not_delegated(World *w, gconstpointer data) {
        static const struct {
                const char *file, *value, *controller;
        } settings[] = { { "io.max", "8:0 wbps=1", "io" }, { "io.weight", "50", "io" }, { "cpu.max", "50000 100000", "cpu" },
                         { "cpu.weight", "50", "cpu" }, { "cpuset.cpus", "0", "cpuset" } };
        static const struct {
                const char *name, *value, *controller;
        } properties[] = { { "IOWeight", "50", "io" }, { "CPUQuota", "50%", "cpu" }, { "AllowedCPUs", "0", "cpuset" } };
        g_autoptr(GError) error = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
                g_autoptr(ScopeConfig) config = scope_config_new();
                g_ptr_array_add(config->settings, scope_setting_new("memory.max", "1048576"));
                g_assert_true(cgroup_check_controllers(&w->cgroup, config, &error));
                g_assert_no_error(error);
                g_ptr_array_add(config->settings, scope_setting_new(settings[i].file, settings[i].value));
                assert_not_delegated(w, config, settings[i].controller);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(properties); i++) {
                g_autoptr(ScopeConfig) config = scope_config_new();
                g_ptr_array_add(config->properties, scope_setting_new(properties[i].name, properties[i].value));
                assert_not_delegated(w, config, properties[i].controller);
        }
}

/* Where it was not systemd that made the cgroup, its drop-in would not help; and some it delegates to nobody. */
static void test_other_hints(World *w, gconstpointer data) {
        ScopeCgroup own = w->cgroup;
        g_autoptr(ScopeConfig) io = scope_config_new(), misc = scope_config_new();
        g_autoptr(GError) direct = NULL, nobody = NULL;

        own.own = true;
        g_ptr_array_add(io->settings, scope_setting_new("io.weight", "50"));
        g_assert_false(cgroup_check_controllers(&own, io, &direct));
        g_assert_nonnull(strstr(err_get_hint(direct), "cgroup.subtree_control"));
        g_ptr_array_add(misc->settings, scope_setting_new("misc.max", "sev 1"));
        g_assert_false(cgroup_check_controllers(&w->cgroup, misc, &nobody));
        g_assert_nonnull(strstr(err_get_hint(nobody), "delegates no misc to anyone"));
}

/* A process that has ended, was one of the box's, and left its number: nobody, or somebody else's child. */
static void test_members(void) {
        g_autoptr(GArray) mine = g_array_new(FALSE, FALSE, sizeof(pid_t)), none = g_array_new(FALSE, FALSE, sizeof(pid_t));
        const pid_t self = getpid();
        const char *argv[] = { "/bin/sleep", "1000", NULL };
        g_autoptr(GError) error = NULL;
        GPid child;

        g_array_append_val(mine, self);
        g_assert_true(g_spawn_async(NULL, (char **) argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &child, &error));
        g_assert_no_error(error);
        g_assert_true(members_is_child(child, mine));
        g_assert_false(members_is_child(child, none));
        g_assert_false(members_is_child(getppid(), mine));
        g_assert_false(members_is_child(self, mine));
        g_assert_cmpint(kill(child, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
        g_assert_false(members_is_child(child, mine));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add("/scope/not-delegated", World, NULL, setup, test_not_delegated, teardown);
        g_test_add("/scope/other-hints", World, NULL, setup, test_other_hints, teardown);
        g_test_add_func("/scope/members", test_members);
        return g_test_run();
}
