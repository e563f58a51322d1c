/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox port: where a box's published ports are.
 *
 * Role: verb. Privileges: the caller's. Threads: one.
 */
#include <stdio.h>
#include <string.h>

#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"

const VerbOption port_options[] = {
        { .name = "json", .help = "an array of objects, for programs" },
        { 0 },
};

static void print_port(json_t *port) {
        const char *protocol, *host, *box;
        int host_port, box_port;

        if (json_unpack(port, "{s:s, s:s, s:i, s:s, s:i}", "protocol", &protocol, "host_address", &host, "host_port", &host_port, "box_address", &box,
                        "box_port", &box_port) < 0)
                return;
        bool v6 = strchr(host, ':') != NULL;
        printf("%d/%s -> %s%s%s:%d\n", box_port, protocol, v6 ? "[" : "", *host ? host : "0.0.0.0", v6 ? "]" : "", host_port);
}

int cmd_port(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "port", port_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "port", 1, 1, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(BoxInfo) box = spec ? registry_find_network(&spec->caller, verb_args_word(&args, 0), "port", error) : NULL;
        g_autofree char *text = box ? control_text(box, WIRE_CTL_INSPECT, error) : NULL;
        if (!text)
                return -1;
        json_t *all = json_loads(text, 0, NULL), *ports = json_object_get(all, "ports"), *port;
        size_t i;
        if (verb_args_has(&args, "json")) {
                g_autofree char *line = jsontext_line(json_incref(ports));
                fputs(line, stdout);
        } else {
                json_array_foreach(ports, i, port)
                        print_port(port);
        }
        json_decref(all);
        return 0;
}
