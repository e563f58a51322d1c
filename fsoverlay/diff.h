/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fsoverlay/changes.h"

/*
 * What an upper changes, without a mount: usbox-fs diff -o lowerdir=A[:B…],upperdir=U. A line of JSON for each change, in the order of a
 * walk with the names of each directory sorted by their bytes, a directory before what is in it:
 *
 *   {"path":"/a\nb","change":"M","type":"file","mode":"0644","size":9,"lower":{"type":"file","mode":"0644","size":7}}
 *
 *   path      bytes that are no UTF-8 are \udcXX (jsonbytes.h)
 *   change    A: was not there; M: is something else now, of the same type; T: is of another type; D: is gone, with all below it
 *   type      file, dir, symlink, fifo, socket, char, block; not with D, and neither are mode and size
 *   mode      octal, four digits
 *   size      bytes; 0 for what has none
 *   lower     what is there below the upper; not with A
 *   opaque    true: a directory that is new, and nothing of the lower one of that name is in it. What is gone of that is said line by line
 *   redirect  a directory that was renamed: it was this one of the lower. What the lines after it say is in comparison with that, and what they
 *             do not name came with it
 *
 * A directory is changed if its mode is or its extended attributes are, a file if its bytes, mode, attributes or times are, a symlink if
 * its target is. Owners are not compared: who serves the box decides what stands on the disk for them. The upper's own root is not an
 * entry. What cannot be read or has a path beyond PATH_MAX is named on stderr, the rest comes out, and the end is false.
 */

/* One change as above, but for the brace at its end: more members may follow. */
void diff_append(GString *out, const Change *change);

/* argv[0] is "diff". Writes to out_fd. False with error, after all that could be said was. */
bool diff_run(int argc, char **argv, int out_fd, GError **error);

/* diff_run() to stdout; prints the error; returns the exit status: 0, or 1. */
int diff_main(int argc, char **argv);
