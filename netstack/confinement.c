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
 * It needs no file: the launcher reads the host's resolv.conf for it. The empty root has nothing in it; a Landlock ruleset without a rule
 * is what stands where namespaces are not to be had.
 */
#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "net-seccomp.h" /* made from seccomp.json */
#include "netstack/confinement.h"

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

        if (sys_landlock_restrict_self(ruleset) < 0)
                return err_set(error, errno, "landlock_restrict_self");
        return true;
}

static bool confine_namespaces(bool best_effort, GError **error) {
        g_autoptr(GError) why = NULL;

        if (confine_unshare(&why))
                return confine_empty_root(NULL, error);
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
