/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a directory finds its files by other spellings: one look for a name with the case of one letter changed.
 *
 * Role: usbox-fs, for rules about names; launcher, for whiteouts of the kernel's overlay. Privileges: the caller's. Threads: any.
 */
#include "fsoverlay/spelling.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>

#include "base/fd.h"

Spelling spelling_of(int dir, const char *name, const struct stat *st, char **ret_other) {
        char *other = g_strdup(name), *letter = other;
        struct stat same;

        while (*letter && !g_ascii_isalpha(*letter))
                letter++;
        *ret_other = other;
        if (!*letter)
                return SPELLING_UNKNOWN;
        *letter ^= 'a' ^ 'A';
        if (fstatat(dir, other, &same, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
                return errno == ENOENT ? SPELLING_COUNTS : SPELLING_IGNORED;
        return same.st_dev == st->st_dev && same.st_ino == st->st_ino ? SPELLING_IGNORED : SPELLING_COUNTS;
}

bool spelling_is_listed(int dir, const char *name) {
        DIR *list = fd_open_dir(dir, ".");
        bool found = false;

        if (!list)
                return false;
        for (const struct dirent *entry; !found && (entry = readdir(list));)
                found = g_str_equal(entry->d_name, name);
        closedir(list);
        return found;
}
