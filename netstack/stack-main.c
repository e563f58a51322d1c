/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-net-stack: what serves the network of a box, or of the namespace that usbox-net was given. Never started by hand.
 *
 * Role: helper of usbox's launcher, or of the front. Privileges: the caller's. Threads: one. Order: first.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "netstack/helper.h"

/* --wire N [--verbose], as who starts it says. */
static bool parse(int argc, char **argv, int *wire, bool *verbose) {
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

        log_init("usbox-net", false);
        if (!parse(argc, argv, &wire, &verbose)) {
                log_note("this program is usbox's own; usbox-net --help says how to give a namespace a network");
                return EXIT_FAILURE;
        }
        helper_main(wire, getppid(), verbose);
}
