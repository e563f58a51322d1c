/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who a uid is.
 *
 * Role: launcher. Privileges: the caller's. Threads: one.
 *
 * Not by getpwuid(3): it loads what nsswitch.conf names into the process, which a static program cannot count on, and which may
 * start threads or open sockets there. getent(1) does the same in a process of its own, for the few who need it.
 */
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "account.h"
#include "base/fd.h"
#include "base/proc.h"

#define ANSWER_MAX 65536

void account_clear(Account *account) {
        g_clear_pointer(&account->name, g_free);
        g_clear_pointer(&account->home, g_free);
        g_clear_pointer(&account->shell, g_free);
}

static bool find_in(FILE *file, uid_t uid, Account *ret) {
        for (const struct passwd *pw; (pw = fgetpwent(file));)
                if (pw->pw_uid == uid) {
                        *ret = (Account){ g_strdup(pw->pw_name), g_strdup(pw->pw_dir), g_strdup(pw->pw_shell) };
                        return true;
                }
        return false;
}

static bool ask_getent(uid_t uid, Account *ret) {
        g_autofree char *path = g_find_program_in_path("getent"), *number = g_strdup_printf("%u", (unsigned) uid), *answer = NULL;
        int ends[2], status = -1;

        if (!path || pipe2(ends, O_CLOEXEC) < 0)
                return false;
        char *const argv[] = { (char *) "getent", (char *) "passwd", number, NULL };
        pid_t pid = proc_spawn(path, argv, environ, &(ProcFd){ ends[1], STDOUT_FILENO }, 1, NULL, NULL);
        close(ends[1]);
        bool ok = pid > 0 && fd_read_all(ends[0], ANSWER_MAX, &answer, NULL);
        close(ends[0]);
        if (pid < 0 || !proc_wait(pid, &status) || status != 0 || !ok || !*answer)
                return false;

        FILE *file = fmemopen(answer, strlen(answer), "re");
        if (!file)
                return false;
        bool found = find_in(file, uid, ret);
        fclose(file);
        return found;
}

bool account_lookup(uid_t uid, Account *ret) {
        FILE *file = fopen("/etc/passwd", "re");
        bool found = file && find_in(file, uid, ret);

        if (file)
                fclose(file);
        return found || ask_getent(uid, ret);
}

char *account_data_dir(const char *home) {
        const char *xdg = g_getenv("XDG_DATA_HOME");
        return xdg && *xdg == '/' ? g_strdup(xdg) : g_build_filename(home, ".local/share", NULL);
}
