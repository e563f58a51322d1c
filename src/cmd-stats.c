/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox stats: what boxes use.
 *
 * Role: verb. Privileges: the caller's. Threads: one. All of it is read from the boxes' cgroups, without their launchers; what goes by the second
 * is the difference of two readings.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "box-cgroup.h"
#include "cmd-verbs.h"
#include "jsontext.h"
#include "limit.h"

#define SAMPLE_US 500000
#define WATCH_US 1000000

const VerbOption stats_options[] = {
        { .name = "watch", .short_name = 'w', .help = "go on, once a second, until no box is left" },
        { .name = "json", .help = "an array of objects, for programs; with --watch one a line" },
        { 0 },
};

/* A box, and two readings of it. */
typedef struct {
        BoxInfo *box;
        Cgroup *cgroup;
        CgroupNumbers was, now;
        gint64 was_at, now_at;
        bool network;
        guint64 received, sent;
} Row;

static void row_free(gpointer data) {
        Row *row = data;

        cgroup_free(row->cgroup);
        box_info_free(row->box);
        g_free(row);
}

static void row_read(Row *row) {
        json_int_t pid = json_integer_value(json_object_get(row->box->facts, "pid"));

        row->was = row->now;
        row->was_at = row->now_at;
        row->now_at = g_get_monotonic_time();
        cgroup_read(row->cgroup, &row->now);
        row->network = pid > 0 && box_network_bytes((pid_t) pid, &row->received, &row->sent);
}

/* Of one processor, in percent. */
static double rate(const Row *row, guint64 was, guint64 now) {
        gint64 us = row->now_at - row->was_at;

        return row->was_at && us > 0 && now > was && now != G_MAXUINT64 ? 100.0 * (double) (now - was) / (double) us : 0;
}

/* Of the quota's periods, those in which the box had to wait. */
static double throttled(const Row *row) {
        guint64 periods = row->now.periods - row->was.periods;

        return row->was_at && periods > 0 ? 100.0 * (double) (row->now.throttled - row->was.throttled) / (double) periods : 0;
}

static void set_known(json_t *object, const char *key, guint64 n) {
        json_object_set_new(object, key, n == G_MAXUINT64 ? json_null() : json_integer((json_int_t) n));
}

static void set_pressure(json_t *object, const char *key, CgroupPressure p) {
        json_object_set_new(object, key, p.some < 0 ? json_null() : json_pack("{s:f, s:f}", "some", p.some, "full", p.full < 0 ? 0 : p.full));
}

static json_t *row_to_json(const Row *row) {
        const CgroupNumbers *n = &row->now;
        json_t *out = json_object(), *pressure = json_object();

        json_object_set_new(out, "id", json_string(row->box->id));
        json_object_set_new(out, "name", row->box->name ? json_string(row->box->name) : json_null());
        json_object_set_new(out, "paused", json_boolean(cgroup_is_frozen(row->cgroup)));
        json_object_set_new(out, "cpu_percent", json_real(rate(row, row->was.cpu_us, n->cpu_us)));
        json_object_set_new(out, "throttled_percent", json_real(throttled(row)));
        set_known(out, "cpu_us", n->cpu_us);
        set_known(out, "throttled_us", n->throttled_us);
        set_known(out, "memory", n->memory);
        set_known(out, "memory_peak", n->memory_peak);
        set_known(out, "memory_max", n->memory_max);
        set_known(out, "swap", n->swap);
        set_known(out, "oom_kills", n->oom_kills);
        set_known(out, "pids", n->pids);
        set_known(out, "pids_max", n->pids_max);
        set_known(out, "pids_refused", n->pids_refused);
        set_known(out, "read_bytes", n->read_bytes);
        set_known(out, "write_bytes", n->write_bytes);
        set_known(out, "reads", n->reads);
        set_known(out, "writes", n->writes);
        set_known(out, "net_received", row->network ? row->received : G_MAXUINT64);
        set_known(out, "net_sent", row->network ? row->sent : G_MAXUINT64);
        set_pressure(pressure, "cpu", n->pressure_cpu);
        set_pressure(pressure, "memory", n->pressure_memory);
        set_pressure(pressure, "io", n->pressure_io);
        json_object_set_new(out, "pressure", pressure);
        return out;
}

static char *size_or_dash(guint64 bytes) {
        return bytes == G_MAXUINT64 ? g_strdup("-") : limits_size_text(bytes);
}

static void print_row(const Row *row) {
        const CgroupNumbers *n = &row->now;
        g_autofree char *memory = size_or_dash(n->memory), *peak = size_or_dash(n->memory_peak), *max = size_or_dash(n->memory_max);
        g_autofree char *swap = size_or_dash(n->swap), *in = size_or_dash(n->read_bytes), *out = size_or_dash(n->write_bytes);
        g_autofree char *received = size_or_dash(row->network ? row->received : G_MAXUINT64);
        g_autofree char *sent = size_or_dash(row->network ? row->sent : G_MAXUINT64);
        g_autofree char *pids = n->pids_max == G_MAXUINT64 ? g_strdup_printf("%" G_GUINT64_FORMAT, n->pids)
                                                           : g_strdup_printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, n->pids, n->pids_max);
        g_autofree char *pressure = g_strdup_printf("%.0f/%.0f/%.0f", MAX(n->pressure_cpu.some, 0), MAX(n->pressure_memory.some, 0),
                                                    MAX(n->pressure_io.some, 0));

        printf("%-16s  %6.1f%%  %6.1f%%  %10s  %10s  %10s  %9s  %9s  %9s  %9s  %9s  %9s  %s\n", row->box->name ? row->box->name : row->box->id,
               rate(row, row->was.cpu_us, n->cpu_us), throttled(row), memory, peak, max, swap, in, out, received, sent, pids, pressure);
}

static void print_rows(const GPtrArray *rows, bool json) {
        if (json) {
                json_t *list = json_array();
                for (guint i = 0; i < rows->len; i++)
                        json_array_append_new(list, row_to_json(rows->pdata[i]));
                g_autofree char *line = jsontext_line(list);
                fputs(line, stdout);
                return;
        }
        printf("%-16s  %7s  %7s  %10s  %10s  %10s  %9s  %9s  %9s  %9s  %9s  %9s  %s\n", "BOX", "CPU", "WAITED", "MEMORY", "PEAK", "LIMIT", "SWAP", "READ",
               "WRITTEN", "NET-IN", "NET-OUT", "PIDS", "PRESSURE");
        for (guint i = 0; i < rows->len; i++)
                print_row(rows->pdata[i]);
}

static bool add_row(GPtrArray *rows, BoxInfo *box_take, GError **error) {
        Row *row = g_new0(Row, 1);

        row->box = box_take;
        row->cgroup = box_cgroup_open(row->box, error);
        if (row->cgroup) {
                row_read(row);
                g_ptr_array_add(rows, row);
                return true;
        }
        row_free(row);
        return false;
}

/* The boxes that were named; without names all that run and have numbers. */
static bool find_rows(const Spec *spec, const VerbArgs *args, GPtrArray *rows, GError **error) {
        if (verb_args_n_words(args) > 0) {
                for (guint i = 0; i < verb_args_n_words(args); i++) {
                        BoxInfo *box = registry_find_running(&spec->caller, verb_args_word(args, i), error);
                        if (!box || !add_row(rows, box, error))
                                return false;
                }
                return true;
        }
        g_autoptr(GPtrArray) boxes = registry_list(&spec->caller, error);
        if (!boxes)
                return false;
        for (guint i = 0; i < boxes->len; i++) {
                BoxInfo *box = boxes->pdata[i];
                if (box->state == BOX_RUNNING && json_object_get(box->facts, "cgroup")) {
                        g_autoptr(BoxInfo) again = registry_find(&spec->caller, box->id, NULL);
                        if (again)
                                (void) add_row(rows, g_steal_pointer(&again), NULL);
                }
        }
        return true;
}

/* Read all anew; those that are gone leave. */
static void read_rows(GPtrArray *rows) {
        for (guint i = 0; i < rows->len; i++) {
                Row *row = rows->pdata[i];
                row_read(row);
                if (row->now.cpu_us == G_MAXUINT64)
                        g_ptr_array_remove_index(rows, i--);
        }
}

int cmd_stats(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);

        if (!verb_args_parse(&args, "stats", stats_options, VERB_MIXED, argc, argv, error))
                return -1;
        bool watch = verb_args_has(&args, "watch"), json = verb_args_has(&args, "json"), clear = watch && !json && isatty(STDOUT_FILENO);
        g_autoptr(Spec) spec = spec_new(error);
        if (!spec || !find_rows(spec, &args, rows, error))
                return -1;
        do {
                if (rows->len > 0)
                        g_usleep(watch ? WATCH_US : SAMPLE_US);
                read_rows(rows);
                if (clear)
                        fputs("\033[H\033[2J", stdout);
                if (!watch || rows->len > 0)
                        print_rows(rows, json);
                if (fflush(stdout) != 0)
                        break; /* main() says so */
        } while (watch && rows->len > 0);
        return 0;
}
