/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The confinement of usbox-net, in its order.
 *
 * Role: usbox-net. Privileges: drops the caller's last ones. Threads: one. Order: when every socket that needs rights is
 * open, before the first byte from the box; the launcher is busy with the box's own namespaces meanwhile.
 *
 * usbox-net parses what a hostile box sends, with a library whose past is full of holes. What must hold when it is taken
 * over: no file of the user, no process of the user, no way to more. It stays in the host's network namespace, since
 * there its sockets have to be; that it does not talk to the host itself is the policy's to see to, and is lost with it.
 *
 * libslirp reads /etc/resolv.conf whenever a second has passed since the last question, so that file has to stay
 * readable, and a Landlock ruleset with nothing in it is no choice. The empty root holds a copy of it and nothing else;
 * Landlock, where there is any, allows reading that one file, and is what stands where namespaces are not to be had.
 */
#include <fcntl.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "net-seccomp.h" /* made from seccomp.json */
#include "netstack/confinement.h"

static const char *const keep_files[] = { "/etc/resolv.conf", NULL };

/* All of Landlock's ABI 1, which is what reading and writing files needs in any later one. */
#define LANDLOCK_ALL_FILES ((1ULL << 13) - 1)

static bool confine_files(GError **error) {
        struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ALL_FILES };
        _cleanup_close_ int ruleset = sys_landlock_create_ruleset(&attr, sizeof attr, 0);
        if (ruleset < 0) {
                if (errno == ENOSYS || errno == EOPNOTSUPP)
                        return true;
                return err_set(error, errno, "landlock_create_ruleset");
        }

        _cleanup_close_ int file = open(keep_files[0], O_PATH | O_CLOEXEC);
        if (file >= 0) {
                struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
                                                           .parent_fd = file };
                if (sys_landlock_add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule) < 0)
                        return err_set(error, errno, "landlock_add_rule %s", keep_files[0]);
        } else if (errno != ENOENT) {
                return err_set(error, errno, "open %s", keep_files[0]);
        }
        if (sys_landlock_restrict_self(ruleset) < 0)
                return err_set(error, errno, "landlock_restrict_self");
        return true;
}

static bool confine_namespaces(bool best_effort, GError **error) {
        g_autoptr(GError) why = NULL;

        if (confine_unshare(&why))
                return confine_empty_root(keep_files, error);
        if (best_effort) {
                log_note("going on without own namespaces: %s", why->message);
                return true;
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return err_hint(error, "`usbox doctor` says what forbids user namespaces; --best-effort=confine goes on without");
}

bool confinement_apply(pid_t parent, bool best_effort, GError **error) {
        return confine_namespaces(best_effort, error) &&
               confine_drop_caps(error) &&
               confine_die_with_parent(parent, error) &&
               confine_self(error) &&
               confine_files(error) &&
               confine_seccomp(net_seccomp, G_N_ELEMENTS(net_seccomp), error);
}
