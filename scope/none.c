/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instead of systemd.c where usbox was built without libsystemd: no systemd is ever found.
 *
 * Role: usbox-scope. Privileges: none. Threads: one. Order: as systemd.c.
 */
#include "base/error.h"
#include "scope/systemd.h"

Systemd *systemd_open(GError **error) {
        return NULL;
}

void systemd_free(Systemd *s) {
        g_assert(!s);
}

static bool without(GError **error) {
        return err_set(error, EOPNOTSUPP, "usbox was built without libsystemd");
}

char *systemd_cgroup(Systemd *s) {
        return NULL;
}

char *systemd_init_scope(const char *path) {
        return NULL;
}

bool systemd_is_users(const char *path) {
        return false;
}

Systemd *systemd_open_machine(GError **error) {
        without(error);
        return NULL;
}

bool systemd_start_scope(Systemd *s, const ScopeConfig *config, ScopeCgroup *ret, GError **error) {
        return without(error);
}

bool systemd_attach(Systemd *machine, const char *path, const pid_t *pids, size_t n, GError **error) {
        return without(error);
}

bool systemd_update(Systemd *s, const char *id, const GPtrArray *settings, const GPtrArray *properties, GError **error) {
        return without(error);
}
