/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * A probe is one attempt at something that a box is to refuse. run() gives 0 or more where it came through and says by reached() what it
 * got, else -1 with errno. What it aims at (the target) is given by the suite, which has put it there: `probe --with KEY=VALUE`. Whether
 * something was really reached the suite judges: by the secret in what the probe says, or by what has changed on the host.
 */
typedef struct {
        const char *name;
        long (*run)(void);
} Probe;

#define PROBE(id) { #id, probe_##id }

/* What this machine has no call for: one that is not there. */
#define PROBE_ABSENT(id)                \
        static long probe_##id(void) {  \
                errno = ENOSYS;         \
                return -1;              \
        }

/* Each ended by a row without a name; and all of them, ended by NULL. */
extern const Probe calls_probes[], files_probes[], writes_probes[], shapes_probes[], processes_probes[], spaces_probes[], sockets_probes[], ipc_probes[],
        kernel_probes[], rights_probes[];
extern const Probe *const probe_groups[];

/* NULL: there is none of that name. */
const Probe *probe_find(const char *name);
/* "ok", or the name of an errno; what it reached stands in reached_text(), as printable characters. */
const char *probe_attempt(const Probe *probe);

/* One target more, KEY=VALUE, borrowed for good; false where there are too many. */
bool target_add(const char *assignment);

/* A target's value; NULL and errno EDESTADDRREQ without one. Borrowed. */
const char *target(const char *key);
/* As a number; 0 and errno without one. */
unsigned long target_number(const char *key);
/* The target that is a directory, and a name in it; static, good until the next but three. NULL without the target. */
const char *target_path(const char *key, const char *name);

/* Note what was reached, for the suite to read; 0. */
long reached(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What has been noted so far, borrowed; and to begin anew. */
const char *reached_text(void);
void reached_forget(void);
/* Look for secrets in data and note them; their number, or -1 and ENODATA. */
long reached_secret(const void *data, size_t n);
/* The same for the next bytes that the descriptor has, waiting for a moment at most. */
long reached_secret_fd(int fd);
/* The same for a file's. */
long reached_secret_file(int dir, const char *path);

/* Calls f with each other process that /proc shows; 0 where it came through with one of them, or -1. */
long each_process(long (*f)(pid_t pid, void *data), void *data);

/* User, mount, network, ipc and uts namespaces of this process's own, in which it is root; the next child is pid 1 of a pid namespace. */
bool spaces_of_my_own(void);

/* What a victim does: processes.c. */
int victim_main(const char *what);
