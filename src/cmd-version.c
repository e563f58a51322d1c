/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox version.
 *
 * Role: launcher. Privileges: none needed. Threads: one.
 */
#include <stdio.h>

#include "base/error.h"
#include "cmd-verbs.h"
#include "jsontext.h"

int cmd_version(int argc, char **argv, GError **error) {
        if (argc == 1 && g_str_equal(argv[0], "--json")) {
                g_autofree char *line = jsontext_line(json_pack("{s:s}", "version", USBOX_VERSION));
                fputs(line, stdout);
                return 0;
        }
        if (argc > 0) {
                g_autofree char *quoted = err_quote(argv[0]);
                err_usage(error, "version: unknown argument '%s'", quoted);
                err_step(error, "options");
                return -1;
        }
        puts("usbox " USBOX_VERSION);
        return 0;
}
