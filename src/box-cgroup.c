/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running box's cgroup, and its processes as /proc has them.
 *
 * Role: verbs (stats, top, pause, unpause). Privileges: the caller's. Threads: one. What the box can choose of it (names of processes) is quoted.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "box-cgroup.h"

#define FILE_MAX (256 * 1024)

Cgroup *box_cgroup_open(const BoxInfo *box, GError **error) {
        const char *path = json_string_value(json_object_get(box->facts, "cgroup"));

        if (!path || !g_str_has_prefix(path, "/sys/fs/cgroup/")) {
                err_set(error, EOPNOTSUPP, "box %s has no cgroup of its own", box->name ? box->name : box->id);
                err_hint(error, "a box gets one where it is started with a limit, such as --pids-limit unlimited");
                err_step(error, "limits");
                return NULL;
        }
        Cgroup *c = cgroup_open(path, error);
        if (!c)
                err_step(error, "limits");
        return c;
}

static char *proc_file(pid_t pid, const char *name, size_t *ret_len) {
        g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int) pid, name);
        char *text = NULL;

        return fd_read_file(AT_FDCWD, path, FILE_MAX, &text, ret_len) ? text : NULL;
}

/* The n-th number behind a key of /proc/PID/status, counted from 0; -1: the last. */
static guint64 status_number(const char *status, const char *key, int n) {
        g_autofree char *start = g_strconcat("\n", key, ":", NULL);
        const char *at = strstr(status, start);
        if (!at)
                return 0;
        at += strlen(start);
        g_autofree char *line = g_strndup(at, strcspn(at, "\n"));
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(line), "\t ", -1);
        int count = (int) g_strv_length(words);
        int i = n < 0 ? count - 1 : n;
        return i >= 0 && i < count ? g_ascii_strtoull(words[i], NULL, 10) : 0;
}

/* The box's number of a host's uid, by the process's own map; that itself where it has none. */
static guint32 uid_in_box(pid_t pid, guint32 uid) {
        g_autofree char *map = proc_file(pid, "uid_map", NULL);
        char *rest = map;

        for (char *line; rest && (line = strsep(&rest, "\n")) && *line;) {
                guint64 inside, outside, n;
                char *end;
                inside = g_ascii_strtoull(line, &end, 10);
                outside = g_ascii_strtoull(end, &end, 10);
                n = g_ascii_strtoull(end, NULL, 10);
                if (uid >= outside && uid - outside < n)
                        return (guint32) (inside + (uid - outside));
        }
        return uid;
}

/* Fields 14 and 15 of /proc/PID/stat, behind a name in parentheses that may hold anything (proc(5)). */
static guint64 cpu_time(const char *stat) {
        const char *at = strrchr(stat, ')');
        guint64 ticks = 0;

        for (int field = 2; at && field < 16; field++) {
                if (field >= 14)
                        ticks += g_ascii_strtoull(at + 1, NULL, 10);
                at = strchr(at + 1, ' ');
        }
        return ticks * G_USEC_PER_SEC / (guint64) sysconf(_SC_CLK_TCK);
}

static char *command_line(pid_t pid, const char *status) {
        size_t len = 0;
        g_autofree char *text = proc_file(pid, "cmdline", &len);

        if (!text || len == 0) {
                const char *name = g_str_has_prefix(status, "Name:\t") ? status + 6 : "?";
                g_autofree char *copy = g_strndup(name, strcspn(name, "\n"));
                g_autofree char *quoted = err_quote(copy);
                return g_strdup_printf("[%s]", quoted);
        }
        for (size_t i = 0; i + 1 < len; i++)
                if (text[i] == '\0')
                        text[i] = ' ';
        return err_quote(text);
}

static BoxProcess *process_read(pid_t pid) {
        g_autofree char *status = proc_file(pid, "status", NULL), *stat = proc_file(pid, "stat", NULL);

        if (!status || !stat)
                return NULL;
        BoxProcess *p = g_new0(BoxProcess, 1);
        p->pid = pid;
        p->box_pid = (pid_t) status_number(status, "NSpid", -1);
        p->uid = (guint32) status_number(status, "Uid", 1);
        p->box_uid = uid_in_box(pid, p->uid);
        p->memory = status_number(status, "VmRSS", 0) * 1024;
        p->cpu_us = cpu_time(stat);
        p->command = command_line(pid, status);
        return p;
}

static void process_free(gpointer data) {
        BoxProcess *p = data;

        g_free(p->command);
        g_free(p);
}

static gint by_pid(gconstpointer a, gconstpointer b) {
        return (*(const BoxProcess *const *) a)->pid - (*(const BoxProcess *const *) b)->pid;
}

GPtrArray *box_cgroup_processes(const Cgroup *c) {
        g_autoptr(GArray) pids = cgroup_processes(c);
        GPtrArray *ret = g_ptr_array_new_with_free_func(process_free);

        for (guint i = 0; i < pids->len; i++) {
                BoxProcess *p = process_read(g_array_index(pids, pid_t, i));
                if (p)
                        g_ptr_array_add(ret, p);
        }
        g_ptr_array_sort(ret, by_pid);
        return ret;
}

bool box_network_bytes(pid_t pid, guint64 *ret_received, guint64 *ret_sent) {
        g_autofree char *text = proc_file(pid, "net/dev", NULL);
        char *rest = text;

        *ret_received = *ret_sent = 0;
        /* "tap0: 1 2 3 4 5 6 7 8 9 ...": bytes received are the first number, bytes sent the ninth. */
        for (char *line; rest && (line = strsep(&rest, "\n"));) {
                char *colon = strchr(line, ':');
                if (!colon)
                        continue;
                *colon = '\0';
                if (g_str_equal(g_strstrip(line), "lo"))
                        continue;
                char *at = colon + 1;
                for (int i = 0; i < 9; i++) {
                        guint64 n = g_ascii_strtoull(at, &at, 10);
                        *ret_received += i == 0 ? n : 0;
                        *ret_sent += i == 8 ? n : 0;
                }
        }
        return text != NULL;
}
