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

/* Make the box's scope with this process in it, and wait until it is. */
bool systemd_start_scope(Systemd *s, const ScopeConfig *config, ScopeCgroup *ret, GError **error);

/*
 * Have systemd move processes into the cgroup path, where the kernel does not let us: from a login's session the way leads past what is the user's.
 * That is the machine's systemd, asked at once for all of them; the user's would ask it for each.
 */
bool systemd_attach(const char *path, const pid_t *pids, size_t n, GError **error);

/* Other limits for a scope that runs: what systemd knows of settings, and properties. */
bool systemd_update(Systemd *s, const char *id, const GPtrArray *settings, const GPtrArray *properties, GError **error);
