/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /etc/shadow and /etc/gshadow of a box whose payload is root.
 *
 * Role: launcher, before the clone. Privileges: the caller's. Threads: one. Order: with the other files of /etc, after the plan is made.
 *
 * The host's are closed to the caller, and so to the box's root: but useradd(8) and its kin, which packages call when they are installed, must read
 * them. The box gets files of its own with all accounts of /etc/passwd and /etc/group, each of them locked: what a system has that nobody ever logged in to.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "base/fd.h"
#include "root-accounts.h"
#include "user.h"

#define ACCOUNTS_MAX (8 * 1024 * 1024)

static void add_file(RootPlan *plan, const Spec *spec, const char *name, const char *accounts, char *(*locked)(const char *)) {
        const char *root = spec->root.rootfs ? spec->root.rootfs : "";
        g_autofree char *path = g_strconcat(root, "/", name, NULL), *from = g_strconcat(root, "/", accounts, NULL), *text = NULL;
        struct stat st;
        guint32 host;

        if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, R_OK) == 0 || errno != EACCES)
                return;
        if (!fd_read_file(AT_FDCWD, from, ACCOUNTS_MAX, &text, NULL))
                return;
        g_autofree char *data = locked(text);
        LayerEntry *entry = root_plan_add_file(plan, name, data, st.st_mode & 0777);
        if (user_map_to_host(spec->user.gidmap, st.st_gid, &host))
                entry->gid = st.st_gid;
}

void root_accounts_add(RootPlan *plan, const Spec *spec) {
        if (spec->user.uid != 0)
                return;
        add_file(plan, spec, "etc/shadow", "etc/passwd", account_shadow);
        add_file(plan, spec, "etc/gshadow", "etc/group", account_gshadow);
}
