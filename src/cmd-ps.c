/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox ps: which boxes there are.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Asks no launcher: what they wrote down and the locks that they hold are enough;
 * whether it is paused, its cgroup says.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "box-cgroup.h"
#include "box-usage.h"
#include "cmd-verbs.h"
#include "jsontext.h"
#include "registry.h"

#define COMMAND_MAX 40
#define LAST_COLUMN "COMMAND"
#define NAME_WIDTH 16 /* at least */
#define POD_WIDTH 12

const VerbOption ps_options[] = {
        { .name = "all", .short_name = 'a', .help = "those that have ended, too, with the space that each takes on disk" },
        { .name = "json", .help = "an array of objects, for programs" },
        { .name = "quiet", .short_name = 'q', .help = "names alone (ids where there is none), one a line" },
        { 0 },
};

static char *command_text(const BoxInfo *box) {
        g_autoptr(GString) text = g_string_new(NULL);
        json_t *command = json_object_get(box->facts, "command");

        for (size_t i = 0; i < json_array_size(command) && text->len < 4 * COMMAND_MAX; i++) {
                const char *word = json_string_value(json_array_get(command, i));
                g_autofree char *quoted = err_quote(word ? word : "?");
                g_string_append_printf(text, "%s%s", i > 0 ? " " : "", quoted);
        }
        glong n = g_utf8_strlen(text->str, -1);
        if (n <= COMMAND_MAX)
                return g_strdup(text->str);
        g_autofree char *head = g_utf8_substring(text->str, 0, COMMAND_MAX - 3);
        return g_strconcat(head, "...", NULL);
}

/* "3 minutes", of what is written down as UTC. */
static char *age_text(const BoxInfo *box) {
        const char *created = json_string_value(json_object_get(box->facts, "created"));
        g_autoptr(GDateTime) then = created ? g_date_time_new_from_iso8601(created, NULL) : NULL;
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();

        if (!then)
                return g_strdup("?");
        gint64 s = MAX(g_date_time_difference(now, then) / G_USEC_PER_SEC, 0);
        return s < 60 ? g_strdup_printf("%" G_GINT64_FORMAT "s", s)
               : s < 3600 ? g_strdup_printf("%" G_GINT64_FORMAT "m", s / 60)
               : s < 48 * 3600 ? g_strdup_printf("%" G_GINT64_FORMAT "h", s / 3600)
                               : g_strdup_printf("%" G_GINT64_FORMAT "d", s / 86400);
}

static char *state_text(const BoxInfo *box) {
        json_t *status = json_object_get(box->facts, "status");

        if (box->state == BOX_EXITED && json_is_integer(status))
                return g_strdup_printf("exited (%d)", (int) json_integer_value(status));
        return g_strdup(box_is_paused(box) ? "paused" : box_state_name(box->state));
}

static const char *name_of(const BoxInfo *box) {
        return box->name ? box->name : "-";
}

/* As a box's launcher wrote it down: of what is no name, nothing. NULL: it is in none. */
static const char *pod_of(const BoxInfo *box) {
        const char *pod = json_string_value(json_object_get(box->facts, "pod"));
        return !pod || registry_name_ok(pod) ? pod : "-";
}

/* How wide the columns of names and pods are; that of pods is there only where a box is in one: 0. */
static void measure(const GPtrArray *boxes, int *ret_names, int *ret_pods) {
        *ret_names = NAME_WIDTH;
        *ret_pods = 0;
        for (guint i = 0; i < boxes->len; i++) {
                const BoxInfo *box = g_ptr_array_index(boxes, i);
                *ret_names = MAX(*ret_names, (int) strlen(name_of(box)));
                if (pod_of(box))
                        *ret_pods = MAX(MAX(*ret_pods, POD_WIDTH), (int) strlen(pod_of(box)));
        }
}

static void print_pod(int width, const char *pod) {
        if (width > 0)
                printf("  %-*s", width, pod ? pod : "-");
}

static void print_table(const GPtrArray *boxes, bool all) {
        int names, pods;

        measure(boxes, &names, &pods);
        printf("%-12s  %-*s  %-12s  %5s%s", "ID", names, "NAME", "STATE", "AGE", all ? "        DISK" : "");
        print_pod(pods, "POD");
        puts("  " LAST_COLUMN);
        for (guint i = 0; i < boxes->len; i++) {
                const BoxInfo *box = g_ptr_array_index(boxes, i);
                g_autofree char *command = command_text(box), *age = age_text(box), *state = state_text(box);
                g_autofree char *disk = all ? g_format_size_full(box_usage(box->dir), G_FORMAT_SIZE_IEC_UNITS) : NULL;
                printf("%-12s  %-*s  %-12s  %5s", box->id, names, name_of(box), state, age);
                if (all)
                        printf("  %10s", disk);
                print_pod(pods, pod_of(box));
                printf("  %s\n", command);
        }
}

static void print_json(const GPtrArray *boxes, bool all) {
        json_t *list = json_array();

        for (guint i = 0; i < boxes->len; i++) {
                const BoxInfo *box = g_ptr_array_index(boxes, i);
                json_t *object = box_info_to_json(box);
                json_object_set_new(object, "paused", json_boolean(box_is_paused(box)));
                if (all)
                        json_object_set_new(object, "disk", json_integer((json_int_t) box_usage(box->dir)));
                json_array_append_new(list, object);
        }
        g_autofree char *line = jsontext_line(list);
        fputs(line, stdout);
}

int cmd_ps(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "ps", ps_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "ps", 0, 0, error))
                return -1;
        bool all = verb_args_has(&args, "all");
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(GPtrArray) boxes = spec ? registry_list(&spec->caller, error) : NULL;
        if (!boxes)
                return -1;
        for (guint i = boxes->len; !all && i-- > 0;)
                if (((BoxInfo *) g_ptr_array_index(boxes, i))->state != BOX_RUNNING)
                        g_ptr_array_remove_index(boxes, i);
        if (verb_args_has(&args, "json")) {
                print_json(boxes, all);
        } else if (!verb_args_has(&args, "quiet")) {
                print_table(boxes, all);
        } else {
                for (guint i = 0; i < boxes->len; i++) {
                        const BoxInfo *box = g_ptr_array_index(boxes, i);
                        puts(box_info_called(box));
                }
        }
        return 0;
}
