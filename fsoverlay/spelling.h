/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File systems that find a file by more spellings than the one that they list: another case (vfat, ntfs, cifs, directories of ext4 with +F).
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

typedef enum {
        SPELLING_UNKNOWN, /* there is no letter in the name to try it with */
        SPELLING_COUNTS,  /* by another case there is another file, or none */
        SPELLING_IGNORED, /* there is the same file: so it is with a hard link of that name, too */
} Spelling;

/* How dir takes a name of it in another case. st is what it has by the name. *ret_other: the name in that case, to be freed. */
Spelling spelling_of(int dir, const char *name, const struct stat *st, char **ret_other);

/* dir lists this name, letter by letter. Where it cannot be listed, not. */
bool spelling_is_listed(int dir, const char *name);
