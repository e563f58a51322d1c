/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-net, the command (alone.c). A box has no part in it: its launcher starts usbox-net-stack (stack-main.c).
 *
 * Role: the front. Privileges: the caller's. Threads: one. Order: first.
 */
#include "netstack/alone.h"

int main(int argc, char **argv) {
        return alone_main(argc, argv);
}
