/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

typedef struct {
        char *hostname;                      /* --hostname; after check never NULL */
        bool ipc_host, uts_host, pid_host, cgroup_host;
} NamespaceSpec;

extern const Option namespaces_options[];

/* Free what it owns. */
void namespaces_clear(NamespaceSpec *s);

/* Fills hostname. */
bool namespaces_check(Spec *draft, GError **error);
