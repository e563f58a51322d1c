/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox stats: what boxes use.
 *
 * Role: verb. Privileges: the caller's. Threads: one. It is read from the boxes' cgroups; of a box without one, from its processes. The launchers are
 * asked for what went through the network: TCP of the fast path passes no interface whose counters could be read. What goes by the second is the difference of
 * two readings.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "box-cgroup.h"
#include "box-processes.h"
#include "cmd-verbs.h"
#include "control-client.h"
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
        Cgroup *cgroup; /* NULL: it has none of its own, and what can be had comes from its processes */
        CgroupNumbers was, now;
        gint64 was_at, now_at;
        BoxInfo *pod; /* whose network it has; NULL: it is in none */
        guint64 received, sent, flows;
} Row;

static void row_free(gpointer data) {
        Row *row = data;

        cgroup_free(row->cgroup);
        g_clear_pointer(&row->pod, box_info_free);
        box_info_free(row->box);
        g_free(row);
}

static guint64 sum_of(const json_t *list, const char *key) {
        guint64 sum = 0;

        for (size_t i = 0; i < json_array_size(list); i++)
                sum += (guint64) json_integer_value(json_object_get(json_array_get(list, i), key));
        return sum;
}

/* From the launcher that has usbox-net: the flows of this moment, and the bytes of these and of all before. Unknown where there is no stack of its own. */
static void row_read_network(Row *row) {
        const BoxInfo *of = row->pod ? row->pod : row->box;
        g_autofree char *text = control_will_answer(of, NULL) ? control_text(of, WIRE_CTL_NET_FLOWS, NULL) : NULL;
        json_t *all = text ? json_loads(text, 0, NULL) : NULL, *flows = json_object_get(all, "flows"), *ended = json_object_get(all, "ended");
        bool known = json_is_array(flows) && json_is_array(ended);

        row->flows = known ? json_array_size(flows) : G_MAXUINT64;
        row->received = known ? sum_of(flows, "bytes_in") + sum_of(ended, "bytes_in") : G_MAXUINT64;
        row->sent = known ? sum_of(flows, "bytes_out") + sum_of(ended, "bytes_out") : G_MAXUINT64;
        json_decref(all);
}

static char *name_of(const Row *row) {
        const BoxInfo *box = row->box;
        return g_strconcat(box_info_called(box), box_info_is_pod(box) ? " (pod)" : "", NULL);
}

/* tree: of this moment; NULL where the row has a cgroup. */
static void row_read(Row *row, const ProcessTree *tree) {
        row->was = row->now;
        row->was_at = row->now_at;
        row->now_at = g_get_monotonic_time();
        if (row->cgroup)
                cgroup_read(row->cgroup, &row->now);
        else
                box_processes_sum(row->box, tree, &row->now);
        if (box_has_late_cgroup(row->box)) {
                row->now.memory = box_processes_memory(row->box, row->cgroup);
                row->now.memory_peak = G_MAXUINT64;
        }
        row_read_network(row);
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
        json_object_set_new(out, "kind", json_string(box_info_kind(row->box)));
        json_object_set_new(out, "paused", json_boolean(row->cgroup && cgroup_is_frozen(row->cgroup)));
        json_object_set_new(out, "source", json_string(row->cgroup ? "cgroup" : "processes"));
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
        set_known(out, "net_received", row->received);
        set_known(out, "net_sent", row->sent);
        set_known(out, "net_flows", row->flows);
        set_pressure(pressure, "cpu", n->pressure_cpu);
        set_pressure(pressure, "memory", n->pressure_memory);
        set_pressure(pressure, "io", n->pressure_io);
        json_object_set_new(out, "pressure", pressure);
        return out;
}

static char *size_or_dash(guint64 bytes) {
        return bytes == G_MAXUINT64 ? g_strdup("-") : limits_size_text(bytes);
}

/* "some/full" of a pressure, in percent. */
static char *pressure_text(CgroupPressure p) {
        return p.some < 0 ? g_strdup("-") : g_strdup_printf("%.0f/%.0f", p.some, MAX(p.full, 0));
}

static char *number_or_dash(guint64 n) {
        return n == G_MAXUINT64 ? g_strdup("-") : g_strdup_printf("%" G_GUINT64_FORMAT, n);
}

/* "3/40": so many of at most so many; "3" where there is no limit. */
static char *pids_text(const CgroupNumbers *n) {
        return n->pids_max == G_MAXUINT64 ? number_or_dash(n->pids) : g_strdup_printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, n->pids, n->pids_max);
}

static char *ops_text(const CgroupNumbers *n) {
        return n->reads == G_MAXUINT64 ? g_strdup("-") : g_strdup_printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, n->reads, n->writes);
}

static const char *const columns[] = { "BOX",    "CPU",     "WAITED", "MEMORY", "PEAK", "LIMIT",   "SWAP",    "READ",
                                       "WRITTEN", "R/W-OPS", "NET-IN", "NET-OUT", "FLOWS", "PIDS", "PSI-CPU", "PSI-MEM", "PSI-IO" };
#define N_COLUMNS G_N_ELEMENTS(columns)

static void row_to_cells(const Row *row, char *cells[static N_COLUMNS]) {
        const CgroupNumbers *n = &row->now;
        char *values[N_COLUMNS] = {
                name_of(row),
                g_strdup_printf("%.1f%%", rate(row, row->was.cpu_us, n->cpu_us)),
                row->cgroup ? g_strdup_printf("%.1f%%", throttled(row)) : g_strdup("-"),
                size_or_dash(n->memory),
                size_or_dash(n->memory_peak),
                size_or_dash(n->memory_max),
                size_or_dash(n->swap),
                size_or_dash(n->read_bytes),
                size_or_dash(n->write_bytes),
                ops_text(n),
                size_or_dash(row->received),
                size_or_dash(row->sent),
                number_or_dash(row->flows),
                pids_text(n),
                pressure_text(n->pressure_cpu),
                pressure_text(n->pressure_memory),
                pressure_text(n->pressure_io),
        };

        memcpy(cells, values, sizeof values);
}

/* As wide as what is in it; the first to the left, numbers to the right. */
static void print_line(char *const cells[static N_COLUMNS], const int widths[static N_COLUMNS]) {
        printf("%-*s", widths[0], cells[0]);
        for (size_t i = 1; i < N_COLUMNS; i++)
                printf("  %*s", widths[i], cells[i]);
        putchar('\n');
}

static void print_table(const GPtrArray *rows) {
        g_autofree char **cells = g_new0(char *, (rows->len + 1) * N_COLUMNS);
        int widths[N_COLUMNS] = { 0 };

        for (size_t i = 0; i < N_COLUMNS; i++)
                cells[i] = g_strdup(columns[i]);
        for (guint r = 0; r < rows->len; r++)
                row_to_cells(rows->pdata[r], cells + (r + 1) * N_COLUMNS);
        for (size_t i = 0; i < (rows->len + 1) * N_COLUMNS; i++)
                widths[i % N_COLUMNS] = MAX(widths[i % N_COLUMNS], (int) g_utf8_strlen(cells[i], -1));
        for (guint r = 0; r <= rows->len; r++)
                print_line(cells + r * N_COLUMNS, widths);
        for (size_t i = 0; i < (rows->len + 1) * N_COLUMNS; i++)
                g_free(cells[i]);
}

static void print_rows(const GPtrArray *rows, bool json) {
        if (!json) {
                print_table(rows);
                return;
        }
        json_t *list = json_array();
        for (guint i = 0; i < rows->len; i++)
                json_array_append_new(list, row_to_json(rows->pdata[i]));
        g_autofree char *line = jsontext_line(list);
        fputs(line, stdout);
}

static bool add_row(GPtrArray *rows, const Caller *caller, BoxInfo *box_take, GError **error) {
        const char *pod = json_string_value(json_object_get(box_take->facts, "pod_id"));
        Row *row = g_new0(Row, 1);

        row->box = box_take;
        row->pod = pod ? registry_find_running_pod(caller, pod, NULL) : NULL;
        /* A pod's own processes are none that anybody has started. */
        if ((box_has_cgroup(row->box) || box_info_is_pod(row->box)) && !(row->cgroup = box_cgroup_open(row->box, error))) {
                row_free(row);
                return false;
        }
        g_ptr_array_add(rows, row);
        return true;
}

/* Those that run and can be read. */
static void add_rows(GPtrArray *rows, const Caller *caller, GPtrArray *boxes) {
        while (boxes->len > 0) {
                g_autoptr(BoxInfo) box = g_ptr_array_steal_index(boxes, 0);
                if (box->state == BOX_RUNNING)
                        (void) add_row(rows, caller, g_steal_pointer(&box), NULL);
        }
}

/* The boxes and pods that were named; without names all that run, pods where they have limits. */
static bool find_rows(const Spec *spec, const VerbArgs *args, GPtrArray *rows, GError **error) {
        if (verb_args_n_words(args) > 0) {
                for (guint i = 0; i < verb_args_n_words(args); i++) {
                        BoxInfo *box = registry_find_running_any(&spec->caller, verb_args_word(args, i), error);
                        if (!box || !add_row(rows, &spec->caller, box, error))
                                return false;
                }
                return true;
        }
        g_autoptr(GPtrArray) boxes = registry_list(&spec->caller, error), pods = boxes ? registry_list_pods(&spec->caller, error) : NULL;
        if (!pods)
                return false;
        add_rows(rows, &spec->caller, boxes);
        add_rows(rows, &spec->caller, pods);
        return true;
}

/* Read all anew; those that are gone leave. */
static void read_rows(GPtrArray *rows) {
        g_autoptr(ProcessTree) tree = NULL;

        for (guint i = 0; i < rows->len; i++) {
                Row *row = rows->pdata[i];
                if (!row->cgroup && !tree)
                        tree = process_tree_read();
                row_read(row, tree);
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
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        if (!spec || !find_rows(spec, &args, rows, error))
                return -1;
        read_rows(rows);
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
