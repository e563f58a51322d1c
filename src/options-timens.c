/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clocks of the box: --time-offset.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "spec.h"

/* Half of KTIME_SEC_MAX: the kernel refuses more with ERANGE (proc_timens_set_offset() in kernel/time/namespace.c). */
#define OFFSET_MAX G_GINT64_CONSTANT(4611686018)

static bool apply_time_offset(Spec *draft, const char *const *values, GError **error) {
        g_auto(GStrv) parts = g_strsplit(values[0], ",", -1);

        draft->time = (TimeSpec){ .given = true }; /* of an earlier one nothing stays, a profile's neither */
        for (char **part = parts; *part; part++) {
                gint64 *offset;
                const char *seconds;
                if (g_str_has_prefix(*part, "monotonic=")) {
                        offset = &draft->time.monotonic;
                        seconds = *part + strlen("monotonic=");
                } else if (g_str_has_prefix(*part, "boottime=")) {
                        offset = &draft->time.boottime;
                        seconds = *part + strlen("boottime=");
                } else {
                        g_autofree char *quoted = err_quote(*part);
                        return err_usage(error, "--time-offset: '%s' is not monotonic=SECONDS or boottime=SECONDS",
                                         quoted);
                }
                if (!option_i64("--time-offset", seconds, -OFFSET_MAX, OFFSET_MAX, offset, error))
                        return false;
        }
        return true;
}

const Option timens_options[] = {
        { .name = "time-offset",
          .arg = "monotonic=SEC,boottime=SEC",
          .group = OPTION_NAMESPACES,
          .help = "set the box's clocks since boot ahead, or with a minus back",
          .apply = apply_time_offset },
        { 0 },
};

static bool check_clock(clockid_t clock, const char *name, gint64 offset, GError **error) {
        struct timespec now;

        if (clock_gettime(clock, &now) < 0 || now.tv_sec + offset >= 0)
                return true;
        return err_usage(error,
                         "--time-offset: %s=%" G_GINT64_FORMAT
                         " would set the clock before zero: it stands at %lld seconds",
                         name, offset, (long long) now.tv_sec);
}

bool timens_check(Spec *draft, GError **error) {
        return check_clock(CLOCK_MONOTONIC, "monotonic", draft->time.monotonic, error) &&
               check_clock(CLOCK_BOOTTIME, "boottime", draft->time.boottime, error);
}
