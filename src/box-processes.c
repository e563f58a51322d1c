/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running box's processes as /proc has them.
 *
 * Role: verbs (stats, top). Privileges: the caller's. Threads: one. What the box can choose of it (names of processes) is quoted.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "box-processes.h"

#define FILE_MAX (256 * 1024)

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
        p->threads = status_number(status, "Threads", 0);
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

typedef struct {
        pid_t pid, parent;
        bool deeper; /* in a pid namespace below the host's */
} Relation;

struct ProcessTree {
        GArray *relations;
        GHashTable *by_pid; /* → Relation, of that array */
};

ProcessTree *process_tree_read(void) {
        ProcessTree *tree = g_new0(ProcessTree, 1);
        DIR *d = fd_open_dir(AT_FDCWD, "/proc");

        tree->relations = g_array_new(FALSE, FALSE, sizeof(Relation));
        tree->by_pid = g_hash_table_new(NULL, NULL);
        for (struct dirent *e; d && (e = readdir(d));) {
                Relation r = { .pid = (pid_t) g_ascii_strtoll(e->d_name, NULL, 10) };
                g_autofree char *status = r.pid > 0 ? proc_file(r.pid, "status", NULL) : NULL;
                if (!status)
                        continue;
                r.parent = (pid_t) status_number(status, "PPid", 0);
                r.deeper = status_number(status, "NSpid", 1) > 0;
                g_array_append_val(tree->relations, r);
        }
        if (d)
                closedir(d);
        for (guint i = 0; i < tree->relations->len; i++) {
                Relation *r = &g_array_index(tree->relations, Relation, i);
                g_hash_table_insert(tree->by_pid, GINT_TO_POINTER(r->pid), r);
        }
        return tree;
}

void process_tree_free(ProcessTree *tree) {
        g_array_unref(tree->relations);
        g_hash_table_unref(tree->by_pid);
        g_free(tree);
}

static const Relation *relation_of(const ProcessTree *tree, pid_t pid) {
        return g_hash_table_lookup(tree->by_pid, GINT_TO_POINTER(pid));
}

static pid_t parent_of(const ProcessTree *tree, pid_t pid) {
        const Relation *r = relation_of(tree, pid);
        return r ? r->parent : 0;
}

/* Below init, or below what a child of the launcher's has in a pid namespace that is not the host's. A pid that was used again while the tree was read may
 * make a ring. */
static bool is_inside(const ProcessTree *tree, const Relation *r, pid_t init, pid_t launcher) {
        for (guint depth = 0; r && depth < tree->relations->len; depth++, r = relation_of(tree, r->parent))
                if (r->parent == init || (r->deeper && launcher > 0 && parent_of(tree, r->parent) == launcher))
                        return true;
        return false;
}

static pid_t fact_pid(const BoxInfo *box, const char *name) {
        return (pid_t) json_integer_value(json_object_get(box->facts, name));
}

/* The command is a child of init; what `usbox exec` starts is a child of a joiner, which is one of the launcher. */
static GArray *processes_by_descent(const ProcessTree *tree, const BoxInfo *box) {
        GArray *ret = g_array_new(FALSE, FALSE, sizeof(pid_t));
        pid_t command = fact_pid(box, "pid"), init = parent_of(tree, command), launcher = fact_pid(box, "launcher");

        for (guint i = 0; command > 0 && init > 1 && i < tree->relations->len; i++) {
                const Relation *r = &g_array_index(tree->relations, Relation, i);
                if (is_inside(tree, r, init, launcher))
                        g_array_append_val(ret, r->pid);
        }
        return ret;
}

static GPtrArray *read_all(const GArray *pids) {
        GPtrArray *ret = g_ptr_array_new_with_free_func(process_free);

        for (guint i = 0; i < pids->len; i++) {
                BoxProcess *p = process_read(g_array_index(pids, pid_t, i));
                if (p)
                        g_ptr_array_add(ret, p);
        }
        g_ptr_array_sort(ret, by_pid);
        return ret;
}

GPtrArray *box_processes(const BoxInfo *box, const Cgroup *c) {
        g_autoptr(ProcessTree) tree = c ? NULL : process_tree_read();
        g_autoptr(GArray) pids = c ? cgroup_processes(c) : processes_by_descent(tree, box);

        return read_all(pids);
}

guint64 box_processes_memory(const BoxInfo *box, const Cgroup *c) {
        g_autoptr(GPtrArray) processes = box_processes(box, c);
        guint64 sum = 0;

        for (guint i = 0; i < processes->len; i++)
                sum += ((const BoxProcess *) processes->pdata[i])->memory;
        return sum;
}

void box_processes_sum(const BoxInfo *box, const ProcessTree *tree, CgroupNumbers *ret) {
        static const CgroupPressure unknown = { .some = -1, .full = -1 };
        g_autoptr(GArray) pids = processes_by_descent(tree, box);
        g_autoptr(GPtrArray) processes = read_all(pids);

        *ret = (CgroupNumbers){ 0 };
        ret->memory_peak = ret->memory_max = ret->swap = ret->pids_max = ret->cpu_quota_us = G_MAXUINT64;
        ret->read_bytes = ret->write_bytes = ret->reads = ret->writes = G_MAXUINT64;
        ret->pressure_cpu = ret->pressure_memory = ret->pressure_io = unknown;
        if (processes->len == 0)
                ret->cpu_us = ret->memory = ret->pids = G_MAXUINT64;
        for (guint i = 0; i < processes->len; i++) {
                const BoxProcess *p = processes->pdata[i];
                ret->cpu_us += p->cpu_us;
                ret->memory += p->memory;
                ret->pids += p->threads;
        }
}
