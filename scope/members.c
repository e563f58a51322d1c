/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Processes of a box, found by who has forked them.
 *
 * Role: usbox-scope. Privileges: the caller's. Threads: one. Order: when the box is to be moved into its cgroup.
 *
 * What the kernel lists of somebody's children is of one moment: what is forked meanwhile, the caller looks for again.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/members.h"

#define CHILDREN_MAX (16 * 1024 * 1024)
#define STAT_MAX 4096

static bool contains(const GArray *pids, pid_t pid) {
        for (guint i = 0; i < pids->len; i++)
                if (g_array_index(pids, pid_t, i) == pid)
                        return true;
        return false;
}

void members_add(GArray *pids, GVariant *list) {
        GVariantIter iter;
        guint32 pid;

        g_variant_iter_init(&iter, list);
        while (g_variant_iter_next(&iter, "u", &pid)) {
                pid_t p = (pid_t) pid;
                g_array_append_val(pids, p);
        }
}

static void add_of_thread(GArray *pids, pid_t pid, const char *tid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/task/%s/children", (int) pid, tid), *text = NULL;

        if (!fd_read_file(AT_FDCWD, path, CHILDREN_MAX, &text, NULL)) {
                log_step("%s: %s", path, err_text(errno));
                return;
        }
        g_auto(GStrv) words = g_strsplit(g_strstrip(text), " ", -1);
        for (char **word = words; *word; word++) {
                pid_t child = (pid_t) g_ascii_strtoll(*word, NULL, 10);
                if (child > 0 && !contains(pids, child))
                        g_array_append_val(pids, child);
        }
}

static void add_of_threads(GArray *pids, pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/task", (int) pid);
        DIR *tasks = fd_open_dir(AT_FDCWD, path);

        for (struct dirent *e; tasks && (e = readdir(tasks));)
                if (*e->d_name != '.')
                        add_of_thread(pids, pid, e->d_name);
        if (tasks)
                closedir(tasks);
}

void members_add_children(GArray *pids, guint first, bool all_threads) {
        for (guint i = first; i < pids->len; i++) {
                pid_t pid = g_array_index(pids, pid_t, i);
                g_autofree char *first_thread = g_strdup_printf("%d", (int) pid);
                if (all_threads)
                        add_of_threads(pids, pid);
                else
                        add_of_thread(pids, pid, first_thread);
        }
}

bool members_is_child(pid_t pid, const GArray *parents) {
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid), *text = NULL;

        if (!fd_read_file(AT_FDCWD, path, STAT_MAX, &text, NULL))
                return false;
        /* The state and the parent follow the name in parentheses, which may hold anything (proc(5)). */
        const char *end = strrchr(text, ')');
        return end && strlen(end) > strlen(") S ") && contains(parents, (pid_t) g_ascii_strtoll(end + strlen(") S "), NULL, 10));
}

void members_remove(GArray *pids, const GArray *others) {
        for (guint i = pids->len; i-- > 0;)
                if (contains(others, g_array_index(pids, pid_t, i)))
                        g_array_remove_index(pids, i);
}

bool members_drop_ended(GArray *pids) {
        guint before = pids->len;

        for (guint i = pids->len; i-- > 0;)
                if (kill(g_array_index(pids, pid_t, i), 0) < 0 && errno == ESRCH)
                        g_array_remove_index(pids, i);
        return pids->len < before;
}
