/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox top: the processes of a box.
 *
 * Role: verb. Privileges: the caller's. Threads: one.
 */
#include <stdio.h>

#include "box-cgroup.h"
#include "box-processes.h"
#include "cmd-verbs.h"
#include "jsontext.h"
#include "limit.h"

/* What is called use of the processor is that of so long. */
#define SAMPLE_US 500000

const VerbOption top_options[] = {
        { .name = "json", .help = "an array of objects, for programs" },
        { 0 },
};

static const BoxProcess *find(const GPtrArray *list, pid_t pid) {
        for (guint i = 0; i < list->len; i++)
                if (((const BoxProcess *) list->pdata[i])->pid == pid)
                        return list->pdata[i];
        return NULL;
}

static double percent(const GPtrArray *before, const BoxProcess *p, gint64 us) {
        const BoxProcess *was = find(before, p->pid);
        guint64 from = was ? was->cpu_us : 0;

        return us > 0 && p->cpu_us > from ? 100.0 * (double) (p->cpu_us - from) / (double) us : 0;
}

static json_t *to_json(const BoxProcess *p, double cpu) {
        return json_pack("{s:i, s:i, s:I, s:I, s:f, s:I, s:I, s:o}", "pid", (int) p->pid, "box_pid", (int) p->box_pid, "uid", (json_int_t) p->uid,
                         "box_uid", (json_int_t) p->box_uid, "cpu_percent", cpu, "cpu_us", (json_int_t) p->cpu_us, "memory",
                         (json_int_t) p->memory, "command", jsontext_string(p->command));
}

static void print(const GPtrArray *before, const GPtrArray *now, gint64 us) {
        printf("%8s  %8s  %10s  %10s  %6s  %10s  %s\n", "PID", "HOST-PID", "UID", "HOST-UID", "CPU", "MEMORY", "COMMAND");
        for (guint i = 0; i < now->len; i++) {
                const BoxProcess *p = now->pdata[i];
                g_autofree char *memory = limits_size_text(p->memory);
                printf("%8d  %8d  %10u  %10u  %5.1f%%  %10s  %s\n", (int) p->box_pid, (int) p->pid, p->box_uid, p->uid, percent(before, p, us), memory,
                       p->command);
        }
}

int cmd_top(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "top", top_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "top", 1, 1, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(BoxInfo) box = spec ? registry_find_running(&spec->caller, verb_args_word(&args, 0), error) : NULL;
        g_autoptr(Cgroup) cgroup = box && box_has_cgroup(box) ? box_cgroup_open(box, error) : NULL;
        if (!box || (box_has_cgroup(box) && !cgroup))
                return -1;
        gint64 start = g_get_monotonic_time();
        g_autoptr(GPtrArray) before = box_processes(box, cgroup);
        g_usleep(SAMPLE_US);
        g_autoptr(GPtrArray) now = box_processes(box, cgroup);
        gint64 us = g_get_monotonic_time() - start;
        if (!verb_args_has(&args, "json")) {
                print(before, now, us);
                return 0;
        }
        json_t *list = json_array();
        for (guint i = 0; i < now->len; i++)
                json_array_append_new(list, to_json(now->pdata[i], percent(before, now->pdata[i], us)));
        g_autofree char *line = jsontext_line(list);
        fputs(line, stdout);
        return 0;
}
