/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What GLib complains of is a finding: in every fuzz target.
 *
 * Role: tests only. Privileges: none. Threads: one. G_DEBUG=fatal-criticals would end by SIGTRAP, of which libFuzzer keeps no input.
 */
#include <glib.h>
#include <stdlib.h>

static void complained(const char *domain, GLogLevelFlags level, const char *message, void *data) {
        g_log_default_handler(domain, level, message, data);
        if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
                abort();
}

__attribute__((constructor)) static void watch(void) {
        g_log_set_default_handler(complained, NULL);
}
