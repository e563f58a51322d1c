/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The confinement of usbox-fs, in its order.
 *
 * Role: usbox-fs. Privileges: drops the caller's. Threads: one yet. Order: when everything is open and the agent is forked, before the first
 * request.
 *
 * What it must go on doing is to read all that the box may see of the host, as the caller, and to write the box's own directory. So a
 * usbox-fs that is taken over reads what the caller may read; what must hold is that it changes nothing outside of that
 * directory, starts nothing, and speaks to nobody. Files: Landlock allows to read below the lowers and to change below the box's directory
 * and nothing else (the lower's mounts are read-only besides: the child has seen to that). It stays in the host's user namespace, where
 * owners are what they are, and so cannot have an empty root of its own.
 */
#include <errno.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "fs-seccomp.h" /* made from seccomp.json */
#include "fsoverlay/confinement.h"

/* Landlock's ABI 3 (Linux 6.2); earlier ones know fewer rights. ABI 1 forbids every rename to another directory and is not used. */
#define ACCESS_REFER (1ULL << 13)
#define ACCESS_TRUNCATE (1ULL << 14)
#define ACCESS_FILES ((1ULL << 13) - 1)
#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

static bool allow(int ruleset, int dir, uint64_t access, GError **error) {
        struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = dir };
        if (sys_landlock_add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule) < 0)
                return err_set(error, errno, "landlock_add_rule");
        return true;
}

bool confinement_files(const Confinement *c, GError **error) {
        int abi = sys_landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        if (abi < 2) {
                log_step("no Landlock here: what usbox-fs opens is bounded by its own code");
                return true;
        }
        uint64_t all = ACCESS_FILES | ACCESS_REFER | (abi >= 3 ? ACCESS_TRUNCATE : 0);
        struct landlock_ruleset_attr attr = { .handled_access_fs = all };
        _cleanup_close_ int ruleset = sys_landlock_create_ruleset(&attr, sizeof attr, 0);
        if (ruleset < 0)
                return err_set(error, errno, "landlock_create_ruleset");
        for (unsigned i = 0; i < c->n_lowers; i++)
                if (!allow(ruleset, c->lowers[i], ACCESS_READ, error))
                        return false;
        if (c->box >= 0 && !allow(ruleset, c->box, all & ~(uint64_t) LANDLOCK_ACCESS_FS_EXECUTE, error))
                return false;
        if (sys_landlock_restrict_self(ruleset) < 0)
                return err_set(error, errno, "landlock_restrict_self");
        return true;
}

bool confinement_apply(const Confinement *c, GError **error) {
        return confine_self(error) && confinement_files(c, error) && confine_seccomp(fs_seccomp, G_N_ELEMENTS(fs_seccomp), error);
}
