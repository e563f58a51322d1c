/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * The first size bytes of one file into another that is empty, holes as holes; whole: that is all of it, and where the file system can, both are to
 * share their blocks. A file that became shorter meanwhile is copied as far as it goes, and extended to size. 0, or a negative errno.
 */
int copy_data(int from, int to, off_t size, bool whole);

/* The first size bytes of both files, or all where both are shorter, are the same: 1 or 0, or a negative errno. buffer: of COPY_COMPARE_SIZE bytes. */
#define COPY_COMPARE_SIZE (256u * 1024)
int copy_is_same(int a, int b, off_t size, char *buffer);

/*
 * What copy_data() does, of a file that others may write meanwhile: the copy has what that had at one moment. *st is what fstat(2) says of it, and in the
 * end has the times of what was copied. -ESTALE: it has become shorter than size; -EAGAIN: it was written again and again. What nobody can tell: a write(2)
 * that had begun before and goes on, and what is stored by a shared mapping into pages that were written to already, which changes no time.
 */
int copy_settled(int from, int to, off_t size, bool whole, struct stat *st);
