/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What is in files of project hooks, for file systems on which the time of change (ctime) does not tell of every one. */
#define HOOK_CONTENT_ALL (8 * 1024 * 1024) /* bytes that are read of all */
#define HOOK_CONTENT_ONE (256 * 1024)      /* of each: scripts and settings are smaller */

typedef struct {
        bool known; /* of a regular file that could be read */
        uint8_t sum[32];
} HookContent;

/* Whether that is one, of which fd is a directory. */
bool hook_content_counts(int fd);

/* What is in the regular file name in dir now. *left: bytes that may still be read, which becomes less. False: there were too few. */
bool hook_content_note(int dir, const char *name, gsize *left, HookContent *ret);

/* The same is in it as then, or nobody knows what that was. */
bool hook_content_is_same(int dir, const char *name, const HookContent *then);
