/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The Spec: defaults, the caller, and the checks that make a draft of options complete.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: spec_new(), option_parse(), spec_build(); nothing on
 * the host has been changed when spec_build() returns.
 */
#include <errno.h>
#include <unistd.h>

#include "account.h"
#include "base/error.h"
#include "mountinfo.h"
#include "own-state.h"
#include "spec.h"
#include "through.h"

static bool caller_look_up(Caller *caller, bool anywhere, GError **error) {
        caller->uid = getuid();
        caller->gid = getgid();

        g_auto(Account) account = { 0 };
        if (!account_lookup(caller->uid, &account, error))
                return false;
        caller->served = account_served(&account, caller->gid);
        bool known = account.name != NULL;
        caller->name = known && *account.name ? g_strdup(account.name) : g_strdup_printf("%u", caller->uid);
        caller->shell = g_strdup(known && *account.shell == '/' ? account.shell : "/bin/sh");
        caller->home = known && *account.home == '/' ? path_real(account.home) : NULL;
        /* Where there is none, nothing in it has to be hidden; where it cannot be found now, something may. */
        if (known && *account.home == '/' && !caller->home && errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return err_set(error, errno, "the home directory %s", account.home);
        if (!caller->home)
                caller->home = g_strdup("/");

        caller->cwd = path_real(".");
        /* getcwd(3) under it may give "(unreachable)/..." where the directory lies outside of our root. */
        if (caller->cwd && *caller->cwd == '/')
                return true;
        if (!anywhere) {
                err_set(error, caller->cwd ? ENOENT : errno, "the working directory");
                /* As a build does it with its own directory. The shell still has the name, its process the directory that is gone. */
                const char *name = g_getenv("PWD");
                bool again = name && g_path_is_absolute(name) && g_file_test(name, G_FILE_TEST_IS_DIR);
                return err_hint(error, again ? "it was removed, and made again: cd . goes to the new one" : "go to a directory that exists: cd /");
        }
        g_free(caller->cwd);
        caller->cwd = g_strdup("/");
        return true;
}

static Spec *new_spec(bool anywhere, GError **error) {
        g_autoptr(Spec) spec = g_new0(Spec, 1);

        box_init(&spec->box);
        user_init(&spec->user);
        root_init(&spec->root);
        mount_init(&spec->mount);
        net_init(&spec->net);
        process_init(&spec->process);
        limits_init(&spec->limits);
        if (!caller_look_up(&spec->caller, anywhere, error)) {
                err_step(error, "caller");
                return NULL;
        }
        return g_steal_pointer(&spec);
}

Spec *spec_new(GError **error) {
        return new_spec(false, error);
}

Spec *spec_new_anywhere(GError **error) {
        return new_spec(true, error);
}

void spec_free(Spec *spec) {
        g_free(spec->caller.name);
        g_free(spec->caller.home);
        g_free(spec->caller.shell);
        g_free(spec->caller.cwd);
        box_clear(&spec->box);
        pod_clear(&spec->pod);
        user_clear(&spec->user);
        namespaces_clear(&spec->namespaces);
        root_clear(&spec->root);
        mount_clear(&spec->mount);
        net_clear(&spec->net);
        seccomp_clear(&spec->seccomp);
        process_clear(&spec->process);
        limits_clear(&spec->limits);
        g_free(spec);
}

const Spec *spec_build(Spec *draft, char *const *argv, GError **error) {
        if (!argv[0]) {
                err_usage(error, "no command to run");
                err_hint(error, "usbox run [OPTION...] [--] COMMAND [ARGUMENT...]");
                err_step(error, "options");
                return NULL;
        }
        g_strfreev(draft->process.argv);
        draft->process.argv = g_strdupv((char **) argv);

        /* A box of a pod has no network of its own to check. Who the payload is decides on its capabilities and environment; its own
         * namespaces decide on its sysctls. */
        if (!box_check(draft, error) || !pod_check(draft, error) || !user_check(draft, error) || !namespaces_check(draft, error) ||
            !timens_check(draft, error) || !root_check(draft, error) || !mount_check(draft, error) || !net_check(draft, error) ||
            !caps_check(draft, error) || !limits_check(draft, error) || !process_check(draft, error) || !own_state_check(draft, error) ||
            !through_check(draft, error)) {
                err_step(error, "options");
                return NULL;
        }
        return draft;
}
