/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "child.h"

typedef struct {
        const ChildContext *child;
        int gate; /* init's bytes: 'O' and 'M' the maps of the outer and of the inner user namespace are written, 'R' the root stands;
                   * to init: NETNS, UNSHARED */
        int pty_slave; /* -1: none */
} PayloadContext;

/* The payload's process from its fork to its exec, which makes the box's network namespace and its own inner user namespace. Never returns. */
_Noreturn void payload_main(const PayloadContext *context);

/* Who is killed first when memory runs out; limited: the box has a cgroup of its own. As long as the process is dumpable: its file is not its
 * own any more afterwards. */
bool payload_set_oom_score(const Spec *spec, bool limited, GError **error);

/*
 * The same steps for `usbox exec`, which comes by another way. payload_give_up(): limits, keyring, ids of the box, capabilities,
 * no_new_privs, signals, umask, in this order; then the filter.
 */
bool payload_give_up(const Spec *spec, uid_t uid, gid_t gid, mode_t mask, GError **error);
bool payload_filter(const SeccompProgram *filter, GError **error);
bool payload_chdir(const char *dir, GError **error);

/* Remove from envp what --env-inherit took over and is the name of a directory that is not there in the box (PWD: is not the working directory).
 * After payload_chdir(), and before a filter that may be the user's. The strings stay whose they are. */
void payload_drop_lost_places(const Spec *spec, char **envp);

/* The caller could change the file that this process executes: then nothing of the box is to be executed by it, see stub/stub.c. Asked on the host. */
bool payload_needs_stub(void);

/* A sealed descriptor of the stub, or -1 with error. Before the filter. */
int payload_make_stub(GError **error);

/* Execute the command; with a stub (else -1) by that, which then says NOT_EXECUTED over the wire. Returns with error alone. */
void payload_exec(int stub, int wire, char *const *argv, char **envp, GError **error);

/* Why the command could not be executed: 126 or 127, as EXIT STATUS of usbox(1) has it. */
void payload_explain_exec(const char *command, int errnum, GError **error);
