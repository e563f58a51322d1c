/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <jansson.h>

#include "state.h"
#include "status.h"
#include "supervise.h"

/*
 * state.json: what is known of a box, for ps and inspect. An object:
 *   id name created(ISO 8601, UTC) launcher(pid) pid(the command's) command cwd user network overlay rootfs detached rm ports cgroup(its directory)
 *   and, when it has ended: ended status signal timeout oom limits error log_lost(bytes) changed removed bytes
 */

/* What is known when it starts; the caller's. */
json_t *record_new(const Sandbox *s);

/* A cgroup that the box has not had from its start on. */
void record_set_late_cgroup(json_t *record, const char *path);

/* The published ports as they came out, an array of objects; the caller's. */
json_t *record_ports(const Sandbox *s);

/* How it ended. how or failure (the other is NULL); count: what it changed, or NULL. */
void record_end(json_t *record, const StatusExit *how, const GError *failure);
void record_count(json_t *record, const UpperCount *count);

/* record as the text of state.json; the caller's. */
char *record_text(json_t *record);
