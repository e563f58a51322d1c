/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "scope/leaves.h"

typedef struct Systemd Systemd;

/* The connection to this user's systemd; NULL without error where there is none, or where usbox was built without. */
Systemd *systemd_open(GError **error);
void systemd_free(Systemd *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Systemd, systemd_free)

/* The cgroup of who is at the other end: the user's systemd, or the bus that leads to it. NULL: not known; the caller's. */
char *systemd_cgroup(Systemd *s);

/* Whether a cgroup is in the tree that the machine's systemd has given to the user's. */
bool systemd_is_users(const char *path);
/* The user's systemd's own of the tree that path is in; the caller's. */
char *systemd_init_scope(const char *path);

/* The connection to the machine's systemd; NULL with error. */
Systemd *systemd_open_machine(GError **error);

/* Make the box's scope with this process in it, and wait until it is. */
bool systemd_start_scope(Systemd *s, const ScopeConfig *config, ScopeCgroup *ret, GError **error);

/* Have the machine's systemd move processes into the cgroup path, all at once; the user's would ask it for each. */
bool systemd_attach(Systemd *machine, const char *path, const pid_t *pids, size_t n, GError **error);

/* Other limits for a scope that runs: what systemd knows of settings, and properties. */
bool systemd_update(Systemd *s, const char *id, const GPtrArray *settings, const GPtrArray *properties, GError **error);
