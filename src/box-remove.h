/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/fd.h"
#include "spec.h"

/* rm -rf of name below dirfd, with files of the caller's subordinate ids where spec (NULL: without) has them. 0, or an errno. */
int box_remove_part(FdLater *later, int dirfd, const char *name, const Spec *spec);

/* Remove box id below boxes_fd, upper/ last. 0, or an errno. */
int box_remove(FdLater *later, int boxes_fd, const char *id, const Spec *spec);
