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

/* Where error is that of a namespace for which there is no room: which limit it is, and how to raise it. Returns false. */
bool namespaces_hint_limit(GError **error);

/* Fills hostname. */
bool namespaces_check(Spec *draft, GError **error);
