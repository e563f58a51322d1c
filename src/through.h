/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/*
 * False, with error, where a symlink on the way of path (absolute), which option gave and which lies in one of trees (of char *, real paths), leads out of
 * that tree. follow_last: what the last name is counts, too. *ret_real, where it is asked for: what path leads to, if the way goes through one of them; else
 * NULL. The caller's.
 */
bool through_stays(const char *option, const GPtrArray *trees, const char *path, bool follow_last, char **ret_real, GError **error);

/* What usbox itself reads or writes for the box, by a name that may lie in such trees: its files, and the directory of --rootfs. */
bool through_check(const Spec *draft, GError **error);
