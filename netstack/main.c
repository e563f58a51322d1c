/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-net, the program: a helper of usbox's launcher (helper.c), or a command of its own (alone.c).
 *
 * Role: both. Privileges: the caller's. Threads: one. Order: first.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "netstack/alone.h"
#include "netstack/helper.h"

/* --wire N [--verbose], as who starts it says. */
static bool parse_helper(int argc, char **argv, int *wire, bool *verbose) {
        for (int i = 1; i < argc; i++) {
                guint64 fd;
                if (g_str_equal(argv[i], "--verbose"))
                        *verbose = true;
                else if (g_str_equal(argv[i], "--wire") && i + 1 < argc && g_ascii_string_to_unsigned(argv[++i], 10, 3, 1024, &fd, NULL))
                        *wire = (int) fd;
                else
                        return false;
        }
        return *wire >= 0;
}

int main(int argc, char **argv) {
        bool verbose = false;
        int wire = -1;

        if (argc < 2 || !g_str_equal(argv[1], "--wire"))
                return alone_main(argc, argv);
        log_init("usbox-net", false);
        if (!parse_helper(argc, argv, &wire, &verbose)) {
                log_note("this form is usbox's own; usbox-net --help says how to run it by itself");
                return EXIT_FAILURE;
        }
        helper_main(wire, getppid(), NULL, verbose);
}
