/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * The first size bytes of one file into another that is empty, holes as holes; whole: that is all of it, and where the file system can, both are to
 * share their blocks. A file that became shorter meanwhile is copied as far as it goes, and extended to size. 0, or a negative errno.
 */
int copy_data(int from, int to, off_t size, bool whole);
