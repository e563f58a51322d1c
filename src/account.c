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
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"

#define PASSWD_MAX (16 * 1024 * 1024)
#define ANSWER_MAX 65536
#define LOGIN_DEFS_MAX (1024 * 1024)
#define GETENT_NOT_FOUND 2 /* getent(1) */

void account_clear(Account *account) {
        g_clear_pointer(&account->name, g_free);
        g_clear_pointer(&account->home, g_free);
        g_clear_pointer(&account->shell, g_free);
}

/* Comments and the entries of NIS ("+", "-somebody") are nobody's. */
static bool line_is_of(const char *line, const char *end, uid_t uid) {
        if (line == end || strchr("#+-:", *line))
                return false;
        const char *colon = memchr(line, ':', (size_t) (end - line));
        colon = colon ? memchr(colon + 1, ':', (size_t) (end - colon - 1)) : NULL;
        if (!colon || !g_ascii_isdigit(colon[1]))
                return false;
        char *stop;
        guint64 number = g_ascii_strtoull(colon + 1, &stop, 10); /* too large a one becomes G_MAXUINT64: nobody's */
        return *stop == ':' && number == uid;
}

bool account_find(const char *text, uid_t uid, Account *ret) {
        for (const char *line = text; *line;) {
                const char *end = strchrnul(line, '\n');
                if (line_is_of(line, end, uid)) {
                        g_autofree char *copy = g_strndup(line, (size_t) (end - line));
                        g_auto(GStrv) fields = g_strsplit(copy, ":", 7);
                        guint n = g_strv_length(fields);
                        if (n >= 6 && *fields[3] && !fields[3][strspn(fields[3], G_CSET_DIGITS)]) {
                                *ret = (Account){ g_strdup(fields[0]), g_strdup(fields[5]), g_strdup(n == 7 ? fields[6] : ""),
                                                  (gid_t) g_ascii_strtoull(fields[3], NULL, 10) };
                                return true;
                        }
                }
                line = *end ? end + 1 : end;
        }
        return false;
}

/* What it says, its status with it; false where it could not be asked. */
static bool run_getent(const char *path, uid_t uid, char **ret_answer, int *ret_status, GError **error) {
        g_autofree char *number = g_strdup_printf("%u", (unsigned) uid);
        char *const argv[] = { (char *) "getent", (char *) "passwd", number, NULL };
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe for getent");
        pid_t pid = proc_spawn(path, argv, environ, &(ProcFd){ ends[1], STDOUT_FILENO }, 1, NULL, error);
        close(ends[1]);
        bool ok = pid > 0;
        if (ok && !fd_read_all(ends[0], ANSWER_MAX, ret_answer, NULL))
                ok = err_set(error, errno, "read from getent");
        close(ends[0]);
        if (pid > 0 && !proc_wait(pid, ret_status))
                ok = ok && err_set(error, errno, "wait for getent");
        return ok;
}

static bool ask_getent(uid_t uid, Account *ret, GError **error) {
        g_autofree char *path = g_find_program_in_path("getent"), *answer = NULL;
        int status = -1;

        if (!path)
                return true;
        if (!run_getent(path, uid, &answer, &status, error))
                return false;
        if (WIFEXITED(status) && WEXITSTATUS(status) == GETENT_NOT_FOUND)
                return true;
        if (status != 0) {
                g_autofree char *how = proc_status_text(status);
                err_set(error, 0, "getent passwd %u: %s", (unsigned) uid, how);
                return err_hint(error, "without knowing whose home is whose nothing in it can be hidden: getent passwd %u says more", (unsigned) uid);
        }
        (void) account_find(answer, uid, ret);
        return true;
}

bool account_lookup(uid_t uid, Account *ret, GError **error) {
        g_autofree char *text = NULL;

        if (!fd_read_file(AT_FDCWD, "/etc/passwd", PASSWD_MAX, &text, NULL) && errno != ENOENT)
                return err_set(error, errno, "read /etc/passwd");
        return (text && account_find(text, uid, ret)) || ask_getent(uid, ret, error);
}

/* As shadow's programs read it: the last line counts, and no other word than "yes". */
static bool grants_other_groups(const char *login_defs) {
        g_auto(GStrv) lines = g_strsplit(login_defs ? login_defs : "", "\n", -1);
        bool yes = false;

        for (char **line = lines; *line; line++) {
                g_auto(GStrv) words = g_strsplit_set(g_strstrip(*line), " \t", 2);
                if (g_strcmp0(words[0], "GRANT_AUX_GROUP_SUBIDS") == 0)
                        yes = words[1] && g_ascii_strcasecmp(g_strstrip(words[1]), "yes") == 0;
        }
        return yes;
}

AccountServed account_served_by(const Account *account, gid_t gid, const char *login_defs) {
        if (!account->name)
                return ACCOUNT_NONE;
        return account->gid == gid || grants_other_groups(login_defs) ? ACCOUNT_SERVED : ACCOUNT_OTHER_GROUP;
}

AccountServed account_served(const Account *account, gid_t gid) {
        g_autofree char *login_defs = NULL;

        if (account->name && account->gid != gid && !fd_read_file(AT_FDCWD, "/etc/login.defs", LOGIN_DEFS_MAX, &login_defs, NULL))
                login_defs = NULL;
        return account_served_by(account, gid, login_defs);
}

char *account_mend(uid_t uid) {
        return g_strdup_printf("sudo useradd --no-create-home --uid %u u%u", (unsigned) uid, (unsigned) uid);
}

/* The fields of the next line of a file like passwd(5), at least n; *text goes on. Other lines are passed over. NULL at the end. */
static char **next_fields(const char **text, guint n) {
        while (**text) {
                const char *end = strchrnul(*text, '\n');
                g_autofree char *line = g_strndup(*text, (size_t) (end - *text));
                g_auto(GStrv) fields = g_strsplit(line, ":", -1);
                *text = *end ? end + 1 : end;
                if (!strchr("#+-", *line) && g_strv_length(fields) >= n)
                        return g_steal_pointer(&fields);
        }
        return NULL;
}

static bool is_number(const char *field, guint64 number) {
        guint64 value;
        return g_ascii_string_to_unsigned(field, 10, 0, G_MAXUINT32, &value, NULL) && value == number;
}

bool account_group_is_own(const char *passwd, const char *group, const char *name, gid_t gid) {
        bool known = false;

        if (!passwd || !group || !name)
                return false;
        for (char **f; (f = next_fields(&passwd, 4)); g_strfreev(f))
                if (is_number(f[3], gid) && !g_str_equal(f[0], name)) {
                        g_strfreev(f);
                        return false;
                }
        for (char **f; (f = next_fields(&group, 4)); g_strfreev(f)) {
                if (!is_number(f[2], gid))
                        continue;
                known = true;
                if (*f[3] && !g_str_equal(f[3], name)) {
                        g_strfreev(f);
                        return false;
                }
        }
        return known;
}

char *account_data_dir(const char *home) {
        const char *xdg = g_getenv("XDG_DATA_HOME");
        return xdg && *xdg == '/' ? g_strdup(xdg) : g_build_filename(home, ".local/share", NULL);
}

char *account_shadow(const char *passwd) {
        GString *text = g_string_new(NULL);

        for (char **f; (f = next_fields(&passwd, 7)); g_strfreev(f))
                g_string_append_printf(text, "%s:*::0:99999:7:::\n", f[0]);
        return g_string_free(text, FALSE);
}

char *account_gshadow(const char *group) {
        GString *text = g_string_new(NULL);

        for (char **f; (f = next_fields(&group, 4)); g_strfreev(f))
                g_string_append_printf(text, "%s:*::%s\n", f[0], f[3]);
        return g_string_free(text, FALSE);
}
