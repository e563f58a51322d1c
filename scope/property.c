/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits in systemd's words.
 *
 * Role: launcher (checks --property) and usbox-scope. Privileges: none needed. Threads: any. Pure.
 */
#include <string.h>

#include "base/error.h"
#include "scope/config.h"
#include "scope/property.h"

#define PERIOD_US 100000 /* the kernel's own for cpu.max */

typedef enum {
        KIND_SIZE,    /* bytes or "infinity": t */
        KIND_COUNT,   /* a number or "infinity": t */
        KIND_WEIGHT,  /* 1 to 10000: t */
        KIND_PERCENT, /* of one processor: t, microseconds a second */
        KIND_TIME,    /* "5s", "100ms": t, microseconds */
        KIND_BOOL,
        KIND_STRING,
        KIND_SET,     /* "0-3,5": ay, a bit for each */
        KIND_DEV_SIZE, /* "/dev/sda 1M": a(st) */
        KIND_DEV_COUNT,
        KIND_DEV_TIME,
} Kind;

static const struct {
        const char *name, *bus; /* bus: the property's name where it is another */
        Kind kind;
} table[] = {
        { "AllowedCPUs", NULL, KIND_SET },
        { "AllowedMemoryNodes", NULL, KIND_SET },
        { "CPUAccounting", NULL, KIND_BOOL },
        { "CPUQuota", "CPUQuotaPerSecUSec", KIND_PERCENT },
        { "CPUQuotaPeriodSec", "CPUQuotaPeriodUSec", KIND_TIME },
        { "CPUWeight", NULL, KIND_WEIGHT },
        { "Description", NULL, KIND_STRING },
        { "IOAccounting", NULL, KIND_BOOL },
        { "IODeviceLatencyTargetSec", "IODeviceLatencyTargetUSec", KIND_DEV_TIME },
        { "IODeviceWeight", NULL, KIND_DEV_COUNT },
        { "IOReadBandwidthMax", NULL, KIND_DEV_SIZE },
        { "IOReadIOPSMax", NULL, KIND_DEV_COUNT },
        { "IOWeight", NULL, KIND_WEIGHT },
        { "IOWriteBandwidthMax", NULL, KIND_DEV_SIZE },
        { "IOWriteIOPSMax", NULL, KIND_DEV_COUNT },
        { "ManagedOOMMemoryPressure", NULL, KIND_STRING },
        { "ManagedOOMPreference", NULL, KIND_STRING },
        { "ManagedOOMSwap", NULL, KIND_STRING },
        { "MemoryAccounting", NULL, KIND_BOOL },
        { "MemoryHigh", NULL, KIND_SIZE },
        { "MemoryLow", NULL, KIND_SIZE },
        { "MemoryMax", NULL, KIND_SIZE },
        { "MemoryMin", NULL, KIND_SIZE },
        { "MemorySwapMax", NULL, KIND_SIZE },
        { "RuntimeMaxSec", "RuntimeMaxUSec", KIND_TIME },
        { "TasksAccounting", NULL, KIND_BOOL },
        { "TasksMax", NULL, KIND_COUNT },
        { "TimeoutStopSec", "TimeoutStopUSec", KIND_TIME },
};

static bool parse_number(const char *text, guint64 *ret) {
        return g_ascii_isdigit(*text) && g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, ret, NULL);
}

/* "512M", "1.5G" in systemd's units, which are binary; "infinity". */
static bool parse_size(const char *text, guint64 *ret) {
        static const char letters[] = "KMGTP";
        char *end;

        if (g_str_equal(text, "infinity") || g_str_equal(text, "max")) {
                *ret = G_MAXUINT64;
                return true;
        }
        if (!g_ascii_isdigit(*text))
                return false;
        double value = g_ascii_strtod(text, &end);
        const char *letter = *end ? strchr(letters, *end) : NULL;
        for (const char *l = letters; letter && l <= letter; l++)
                value *= 1024;
        if (letter)
                end++;
        if (*end == 'B')
                end++;
        if (*end || value > (double) G_MAXINT64)
                return false;
        *ret = (guint64) value;
        return true;
}

static bool parse_count(const char *text, guint64 *ret) {
        if (!g_str_equal(text, "infinity") && !g_str_equal(text, "max"))
                return parse_number(text, ret);
        *ret = G_MAXUINT64;
        return true;
}

static bool parse_time(const char *text, guint64 *ret_us) {
        static const struct {
                const char *unit;
                double us;
        } units[] = { { "", 1e6 }, { "us", 1 }, { "ms", 1e3 }, { "s", 1e6 }, { "sec", 1e6 }, { "min", 60e6 }, { "h", 3600e6 } };
        char *end;

        if (g_str_equal(text, "infinity")) {
                *ret_us = G_MAXUINT64;
                return true;
        }
        if (!g_ascii_isdigit(*text))
                return false;
        double value = g_ascii_strtod(text, &end);
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
                if (g_str_equal(end, units[i].unit)) {
                        *ret_us = (guint64) (value * units[i].us);
                        return value * units[i].us < (double) G_MAXINT64;
                }
        return false;
}

/* "0-3,5" or "0-3 5" as bits. */
static GVariant *parse_set(const char *text) {
        g_auto(GStrv) parts = g_strsplit_set(text, ", ", -1);
        guint8 bits[1024] = { 0 };
        gsize n = 0;

        for (char **part = parts; *part; part++) {
                char *dash = strchr(*part, '-');
                guint64 first, last;
                if (**part == '\0')
                        continue;
                if (dash)
                        *dash = '\0';
                if (!parse_number(*part, &first) || !parse_number(dash ? dash + 1 : *part, &last) || first > last || last >= 8 * sizeof bits)
                        return NULL;
                for (guint64 i = first; i <= last; i++)
                        bits[i / 8] |= (guint8) (1u << (i % 8));
                n = MAX(n, (gsize) (last / 8 + 1));
        }
        return n == 0 ? NULL : g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bits, n, 1);
}

static GVariant *parse_device(Kind kind, const char *text) {
        const char *space = strrchr(text, ' ');
        g_autofree char *device = space ? g_strstrip(g_strndup(text, (gsize) (space - text))) : NULL;
        guint64 value;

        if (!device || *device != '/')
                return NULL;
        if (!(kind == KIND_DEV_SIZE ? parse_size : kind == KIND_DEV_TIME ? parse_time : parse_count)(space + 1, &value))
                return NULL;
        GVariant *pair = g_variant_new("(st)", device, value);
        return g_variant_new_array(G_VARIANT_TYPE("(st)"), &pair, 1);
}

static bool parse_bool(const char *text, bool *ret) {
        static const char *const yes[] = { "yes", "true", "on", "1", NULL }, *const no[] = { "no", "false", "off", "0", NULL };

        *ret = g_strv_contains(yes, text);
        return *ret || g_strv_contains(no, text);
}

/* The value as systemd takes it on the bus, floating; NULL where it is not of its kind. */
static GVariant *parse_value(Kind kind, const char *text) {
        g_autofree char *number = NULL;
        guint64 value;
        bool on;

        switch (kind) {
        case KIND_SIZE:
                return parse_size(text, &value) ? g_variant_new_uint64(value) : NULL;
        case KIND_COUNT:
                return parse_count(text, &value) ? g_variant_new_uint64(value) : NULL;
        case KIND_WEIGHT:
                return parse_number(text, &value) && value >= 1 && value <= 10000 ? g_variant_new_uint64(value) : NULL;
        case KIND_PERCENT:
                if (!g_str_has_suffix(text, "%"))
                        return NULL;
                number = g_strndup(text, strlen(text) - 1);
                return parse_number(number, &value) && value > 0 && value < 1000000 ? g_variant_new_uint64(value * 10000) : NULL;
        case KIND_TIME:
                return parse_time(text, &value) ? g_variant_new_uint64(value) : NULL;
        case KIND_BOOL:
                return parse_bool(text, &on) ? g_variant_new_boolean(on) : NULL;
        case KIND_STRING:
                return g_variant_new_string(text);
        case KIND_SET:
                return parse_set(text);
        case KIND_DEV_SIZE:
        case KIND_DEV_COUNT:
        case KIND_DEV_TIME:
                return parse_device(kind, text);
        }
        return NULL;
}

static void add(GPtrArray *ret, const char *name, GVariant *value) {
        g_ptr_array_add(ret, g_variant_ref_sink(g_variant_new("(sv)", name, value)));
}

bool property_parse(const char *name, const char *value, GPtrArray *ret, GError **error) {
        g_autofree char *shown_name = err_quote(name), *shown = err_quote(value);

        for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
                if (!g_str_equal(table[i].name, name))
                        continue;
                GVariant *parsed = parse_value(table[i].kind, value);
                if (!parsed)
                        return err_usage(error, "--property: '%s' is no value of %s", shown, name);
                add(ret, table[i].bus ? table[i].bus : name, parsed);
                return true;
        }
        g_autoptr(GString) known = g_string_new(NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
                g_string_append_printf(known, "%s%s", i ? ", " : "", table[i].name);
        err_usage(error, "--property: '%s' is no property of a box's scope", shown_name);
        return err_hint(error, "systemd.resource-control(5); usbox passes on %s", known->str);
}

const char *property_controller(const char *name) {
        static const struct {
                const char *prefix, *controller;
        } prefixes[] = { { "AllowedCPUs", "cpuset" }, { "AllowedMemoryNodes", "cpuset" }, { "CPU", "cpu" }, { "IO", "io" }, { "Memory", "memory" },
                         { "Tasks", "pids" } };

        for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++)
                if (g_str_has_prefix(name, prefixes[i].prefix))
                        return prefixes[i].controller;
        return NULL;
}

/* cpu.max: "QUOTA PERIOD" or "max PERIOD", in microseconds. */
static bool cpu_max(const char *value, GPtrArray *ret) {
        g_auto(GStrv) parts = g_strsplit(value, " ", 2);
        guint64 quota = G_MAXUINT64, period = PERIOD_US;

        if (!parts[0] || (!g_str_equal(parts[0], "max") && !parse_number(parts[0], &quota)) ||
            (parts[1] && (!parse_number(parts[1], &period) || period == 0)))
                return false;
        add(ret, "CPUQuotaPerSecUSec", g_variant_new_uint64(quota == G_MAXUINT64 ? quota : quota * G_USEC_PER_SEC / period));
        add(ret, "CPUQuotaPeriodUSec", g_variant_new_uint64(period == PERIOD_US ? G_MAXUINT64 : period));
        return true;
}

/* io.max: "MAJ:MIN rbps=N wbps=N riops=N wiops=N". systemd wants a path, and takes this one, which udev makes for each device. */
static bool io_max(const char *value, GPtrArray *ret) {
        static const struct {
                const char *key, *property;
        } keys[] = { { "rbps=", "IOReadBandwidthMax" }, { "wbps=", "IOWriteBandwidthMax" },
                     { "riops=", "IOReadIOPSMax" },     { "wiops=", "IOWriteIOPSMax" } };
        g_auto(GStrv) parts = g_strsplit(value, " ", -1);

        if (!parts[0])
                return false;
        g_autofree char *device = g_strconcat("/dev/block/", parts[0], NULL);
        for (char **part = parts + 1; *part; part++) {
                size_t i = 0;
                guint64 n;
                while (i < G_N_ELEMENTS(keys) && !g_str_has_prefix(*part, keys[i].key))
                        i++;
                if (i == G_N_ELEMENTS(keys) || !parse_count(*part + strlen(keys[i].key), &n))
                        return false;
                GVariant *pair = g_variant_new("(st)", device, n);
                add(ret, keys[i].property, g_variant_new_array(G_VARIANT_TYPE("(st)"), &pair, 1));
        }
        return true;
}

bool property_from_settings(const GPtrArray *settings, GPtrArray *ret, GPtrArray *ret_rest, GError **error) {
        static const struct {
                const char *file, *property;
                Kind kind;
        } files[] = {
                { "memory.max", "MemoryMax", KIND_SIZE },   { "memory.high", "MemoryHigh", KIND_SIZE },
                { "memory.low", "MemoryLow", KIND_SIZE },   { "memory.min", "MemoryMin", KIND_SIZE },
                { "memory.swap.max", "MemorySwapMax", KIND_SIZE }, { "cpu.weight", "CPUWeight", KIND_WEIGHT },
                { "io.weight", "IOWeight", KIND_WEIGHT },   { "cpuset.cpus", "AllowedCPUs", KIND_SET },
                { "cpuset.mems", "AllowedMemoryNodes", KIND_SET },
        };

        for (guint i = 0; i < settings->len; i++) {
                ScopeSetting *s = settings->pdata[i];
                GVariant *value = NULL;
                size_t k = 0;
                bool ok = true;

                while (k < G_N_ELEMENTS(files) && !g_str_equal(files[k].file, s->file))
                        k++;
                if (k < G_N_ELEMENTS(files)) {
                        ok = (value = parse_value(files[k].kind, s->value)) != NULL;
                        if (ok)
                                add(ret, files[k].property, value);
                } else if (g_str_equal(s->file, "cpu.max"))
                        ok = cpu_max(s->value, ret);
                else if (g_str_has_prefix(s->file, "io.max"))
                        ok = io_max(s->value, ret);
                else
                        g_ptr_array_add(ret_rest, s);
                if (!ok) {
                        g_autofree char *shown = err_quote(s->value);
                        return err_set(error, EINVAL, "%s: '%s'", s->file, shown);
                }
        }
        return true;
}
