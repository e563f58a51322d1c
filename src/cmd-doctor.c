/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor [--json]
 *
 * Role: verb. Privileges: the caller's. Threads: one. Exit status 1 where `usbox run` with its defaults would fail.
 */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "cmd-verbs.h"
#include "doctor.h"

int cmd_doctor(int argc, char **argv, GError **error) {
        bool json = false;

        for (int i = 0; i < argc; i++) {
                if (strcmp(argv[i], "--json") == 0) {
                        json = true;
                        continue;
                }
                g_autofree char *shown = err_quote(argv[i]);
                err_usage(error, "doctor: unknown argument '%s'", shown);
                err_hint(error, "usbox doctor [--json]");
                return -1;
        }
        g_autoptr(DoctorHost) host = doctor_host_new();
        g_autoptr(GPtrArray) checks = doctor_examine(host);
        const char *no_colour = g_getenv("NO_COLOR");
        bool colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
        g_autofree char *report = json ? doctor_json(checks) : doctor_text(checks, colour);
        if (!fd_write_all(STDOUT_FILENO, report, strlen(report))) {
                err_set(error, errno, "write the report");
                return -1;
        }
        return doctor_can_run(checks) ? 0 : 1;
}
