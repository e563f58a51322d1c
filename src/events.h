/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <jansson.h>

/*
 * What happens to the user's boxes: a line of JSON each in the runtime directory's file events, appended by the launchers; the
 * older half is events.1. Both together are bounded.
 */
#define EVENTS_FILE "events"
#define EVENTS_OLD "events.1"

/* {"time":T,"event":NAME,"id":ID,"name":NAME|null, and what else fields has} below runtime_fd. Takes fields (NULL: none). What cannot be
 * written is lost: nobody's run depends on it. */
void events_append(int runtime_fd, const char *event, const char *id, const char *name, json_t *fields_take);
