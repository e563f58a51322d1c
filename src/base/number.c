/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Numbers and times as people type them, for usbox's options and for those of helpers that run by themselves.
 *
 * Role: any. Privileges: none. Threads: any. Order: none.
 */
#include <string.h>

#include "base/number.h"

bool number_scan(const char **p, double *ret) {
        const char *start = *p, *q = start;
        bool digits = false;

        for (; g_ascii_isdigit(*q); q++)
                digits = true;
        if (*q == '.')
                for (q++; g_ascii_isdigit(*q); q++)
                        digits = true;
        if (!digits || q - start > 20)
                return false;

        g_autofree char *number = g_strndup(start, (size_t) (q - start));
        *ret = g_ascii_strtod(number, NULL);
        *p = q;
        return true;
}

bool number_duration(const char *text, guint64 *ret_ns) {
        static const struct {
                const char *unit;
                double ns;
        } units[] = { { "ms", 1e6 }, { "us", 1e3 },   { "ns", 1 },     { "s", 1e9 },
                      { "m", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 } };
        double total = 0, value;
        const char *p = text;

        do {
                if (!number_scan(&p, &value))
                        return false;
                if (*p == '\0' && !strpbrk(text, "smhdun")) {
                        total = value * 1e9;
                        break;
                }
                size_t i = 0;
                while (i < G_N_ELEMENTS(units) && !g_str_has_prefix(p, units[i].unit))
                        i++;
                if (i == G_N_ELEMENTS(units))
                        return false;
                total += value * units[i].ns;
                p += strlen(units[i].unit);
        } while (*p);

        /* Half of what a timespec of 64 bits holds in nanoseconds: 146 years. */
        if (total > (double) (G_MAXINT64 / 2))
                return false;
        *ret_ns = (guint64) total;
        return true;
}

const char *number_plural(guint64 n) {
        return n == 1 ? "" : "s";
}
