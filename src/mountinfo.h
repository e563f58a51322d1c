/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The mount points in a text of /proc/PID/mountinfo's form (proc_pid_mountinfo(5)), octal escapes undone, in its order.
 * Lines that are not of that form are passed over. The array of char * is the caller's. */
GPtrArray *mountinfo_points(const char *text);

/* Those of file systems whose type is in types (NULL-terminated; NULL: any). */
GPtrArray *mountinfo_points_of(const char *text, const char *const *types);

/* path is dir itself / lies strictly below dir. Both absolute and normal; dir may be "/". */
bool path_is_below(const char *path, const char *dir);
bool path_is_at_or_below(const char *path, const char *dir);

/* realpath(3) as GLib's memory, the caller's; NULL with errno. */
char *path_real(const char *path);
