/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

typedef struct {
        int wire; /* to the launcher; its end is our end */
        int pty;  /* the pty's master, only to give the payload the foreground again; -1: none */
        pid_t payload;
        bool foreign_pids; /* no pid namespace of our own: what is left is killed one by one */
} InitContext;

/* Reap, forward signals, end when the payload ends. Never returns. */
_Noreturn void init_main(const InitContext *context);
