/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits by cgroup: their options.
 *
 * Each is a file of cgroup v2 and a value for it; usbox-scope has systemd set them, or writes them itself (scope/).
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "base/fd.h"
#include "scope/config.h"
#include "scope/property.h"
#include "spec.h"

#define CPU_PERIOD_US 100000
#define UNLIMITED "unlimited"
#define CGROUP_ROOT "/sys/fs/cgroup"
/* Of which names of resources and devices are. */
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

static bool put_number(Spec *draft, const char *file, guint64 n) {
        g_autofree char *text = n == G_MAXUINT64 ? g_strdup("max") : g_strdup_printf("%" G_GUINT64_FORMAT, n);

        scope_setting_put(draft->limits.settings, file, text);
        return true;
}

/* A size, or "unlimited". */
static bool size_or_unlimited(const char *option, const char *text, guint64 *ret, GError **error) {
        if (g_str_equal(text, UNLIMITED) || g_str_equal(text, "-1")) {
                *ret = G_MAXUINT64;
                return true;
        }
        return option_size(option, text, ret, error);
}

static bool apply_size(Spec *draft, const char *option, const char *file, const char *text, GError **error) {
        guint64 bytes;

        return size_or_unlimited(option, text, &bytes, error) && put_number(draft, file, bytes);
}

static bool apply_memory(Spec *draft, const char *const *values, GError **error) {
        guint64 bytes;

        if (!size_or_unlimited("--memory", values[0], &bytes, error))
                return false;
        /* Less than what the helpers and one shell need is a mistake of units. */
        if (bytes < 1024 * 1024) {
                err_usage(error, "--memory: %s is less than a box can start with", values[0]);
                return err_hint(error, "for example -m 512M");
        }
        return put_number(draft, "memory.max", bytes);
}

static bool apply_memory_high(Spec *draft, const char *const *values, GError **error) {
        return apply_size(draft, "--memory-high", "memory.high", values[0], error);
}

static bool apply_memory_low(Spec *draft, const char *const *values, GError **error) {
        return apply_size(draft, "--memory-low", "memory.low", values[0], error);
}

static bool apply_memory_min(Spec *draft, const char *const *values, GError **error) {
        return apply_size(draft, "--memory-min", "memory.min", values[0], error);
}

static bool apply_memory_swap(Spec *draft, const char *const *values, GError **error) {
        draft->limits.swap_given = true;
        return size_or_unlimited("--memory-swap", values[0], &draft->limits.memory_swap, error);
}

static bool apply_cpus(Spec *draft, const char *const *values, GError **error) {
        const char *text = values[0];
        char *end = NULL;
        double cpus = g_ascii_isdigit(*text) || *text == '.' ? g_ascii_strtod(text, &end) : -1;
        bool percent = end && *end == '%';

        if (percent) {
                cpus /= 100;
                end++;
        }
        /* The kernel takes no quota below a millisecond (cpu.max, kernel/sched/core.c). */
        if (!end || *end || !isfinite(cpus) || cpus * CPU_PERIOD_US < 1000 || cpus > 8192) {
                g_autofree char *quoted = err_quote(text);
                err_usage(error, "--cpus: '%s' is not a number of processors of at least 0.01", quoted);
                return err_hint(error, "for example --cpus 2.5, --cpus 0.5 or --cpus 50%%");
        }
        g_autofree char *value = g_strdup_printf("%d %d", (int) (cpus * CPU_PERIOD_US + 0.5), CPU_PERIOD_US);
        scope_setting_put(draft->limits.settings, "cpu.max", value);
        return true;
}

static bool apply_weight(Spec *draft, const char *option, const char *file, const char *text, GError **error) {
        guint64 n;

        if (!option_digits(text, 10000, &n) || n == 0) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "%s: '%s' is not a weight from 1 to 10000 (100 is everyone's)", option, quoted);
        }
        return put_number(draft, file, n);
}

static bool apply_cpu_weight(Spec *draft, const char *const *values, GError **error) {
        return apply_weight(draft, "--cpu-weight", "cpu.weight", values[0], error);
}

static bool apply_io_weight(Spec *draft, const char *const *values, GError **error) {
        return apply_weight(draft, "--io-weight", "io.weight", values[0], error);
}

/* "0-3,5": numbers and ranges, none backwards. */
static bool is_set(const char *text) {
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);

        for (char **part = parts; *part; part++) {
                char *dash = strchr(*part, '-');
                guint64 first, last;
                if (dash)
                        *dash = '\0';
                if (!option_digits(*part, 8191, &first) || !option_digits(dash ? dash + 1 : *part, 8191, &last) || first > last)
                        return false;
        }
        return parts[0] != NULL;
}

static bool apply_set(Spec *draft, const char *option, const char *file, const char *text, GError **error) {
        if (!is_set(text)) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "%s: '%s' is not a list such as 0-3,5", option, quoted);
        }
        scope_setting_put(draft->limits.settings, file, text);
        return true;
}

static bool apply_cpuset_cpus(Spec *draft, const char *const *values, GError **error) {
        return apply_set(draft, "--cpuset-cpus", "cpuset.cpus", values[0], error);
}

static bool apply_cpuset_mems(Spec *draft, const char *const *values, GError **error) {
        return apply_set(draft, "--cpuset-mems", "cpuset.mems", values[0], error);
}

static bool apply_pids_limit(Spec *draft, const char *const *values, GError **error) {
        guint64 n = G_MAXUINT64;

        if (!g_str_equal(values[0], UNLIMITED) && !g_str_equal(values[0], "-1") &&
            (!option_digits(values[0], 4194304, &n) || n == 0)) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--pids-limit: '%s' is not a number from 1 to 4194304, or " UNLIMITED, quoted);
        }
        return put_number(draft, "pids.max", n);
}

/* The number of a whole disk: limits are not had for a part of one (blkg_conf_prep(), block/blk-cgroup.c). */
static dev_t whole_disk(dev_t dev) {
        g_autofree char *link = g_strdup_printf("/sys/dev/block/%u:%u", major(dev), minor(dev));
        g_autofree char *part = g_strconcat(link, "/partition", NULL), *up = g_strconcat(link, "/../dev", NULL);
        g_autofree char *text = NULL;

        if (access(part, F_OK) < 0 || !fd_read_file(AT_FDCWD, up, 64, &text, NULL))
                return dev;
        const char *colon = strchr(text, ':');
        return colon ? makedev((unsigned) g_ascii_strtoull(text, NULL, 10), (unsigned) g_ascii_strtoull(colon + 1, NULL, 10)) : dev;
}

/* "MAJ:MIN" of the disk that path is, or lies on; the caller's. NULL with error. */
static char *disk_number(const Spec *draft, const char *path, GError **error) {
        g_autofree char *full = option_host_path(draft, path), *quoted = err_quote(path);
        struct stat st;

        if (stat(full, &st) < 0) {
                err_usage(error, "--io-max: %s: %s", quoted, err_text(errno));
                return NULL;
        }
        dev_t dev = whole_disk(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev);
        if (major(dev) == 0) {
                err_usage(error, "--io-max: %s is on no disk", quoted);
                err_hint(error, "name the disk itself: lsblk shows them");
                return NULL;
        }
        return g_strdup_printf("%u:%u", major(dev), minor(dev));
}

static bool io_key(GString *out, const char *item, GError **error) {
        static const char *const keys[] = { "rbps=", "wbps=", "riops=", "wiops=" };
        g_autofree char *quoted = err_quote(item);

        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                guint64 n;
                if (!g_str_has_prefix(item, keys[i]))
                        continue;
                const char *value = item + strlen(keys[i]);
                if (!(i < 2 ? size_or_unlimited("--io-max", value, &n, error) : option_u64("--io-max", value, G_MAXUINT32, &n, error)))
                        return false;
                if (n == 0)
                        return err_usage(error, "--io-max: '%s' would stop it for ever", quoted);
                if (n == G_MAXUINT64)
                        g_string_append_printf(out, " %smax", keys[i]);
                else
                        g_string_append_printf(out, " %s%" G_GUINT64_FORMAT, keys[i], n);
                return true;
        }
        err_usage(error, "--io-max: '%s' is none of rbps=, wbps= (bytes a second), riops=, wiops= (operations a second)", quoted);
        return err_hint(error, "for example --io-max /dev/sda:rbps=10M,wbps=5M");
}

static bool apply_io_max(Spec *draft, const char *const *values, GError **error) {
        const char *colon = strrchr(values[0], ':');
        g_autofree char *path = colon ? g_strndup(values[0], (gsize) (colon - values[0])) : NULL;
        g_auto(GStrv) items = g_strsplit(colon ? colon + 1 : "", ",", -1);

        if (!path || *path == '\0' || !items[0]) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--io-max: '%s' is not DEVICE:rbps=...,wbps=...,riops=...,wiops=...", quoted);
                return err_hint(error, "for example --io-max /dev/sda:rbps=10M,wbps=5M; a directory stands for its disk");
        }
        g_autofree char *disk = disk_number(draft, path, error);
        g_autoptr(GString) text = g_string_new(disk);
        for (char **item = items; disk && *item; item++)
                if (!io_key(text, *item, error))
                        return false;
        if (!disk)
                return false;
        /* One line for each disk, the last one for it in force. */
        for (guint i = 0; i < draft->limits.settings->len; i++) {
                const ScopeSetting *s = draft->limits.settings->pdata[i];
                if (g_str_equal(s->file, "io.max") && g_str_has_prefix(s->value, disk) && s->value[strlen(disk)] == ' ')
                        g_ptr_array_remove_index(draft->limits.settings, i--);
        }
        g_ptr_array_add(draft->limits.settings, scope_setting_new("io.max", text->str));
        return true;
}

static bool apply_hugetlb(Spec *draft, const char *const *values, GError **error) {
        const char *eq = strchr(values[0], '=');
        g_autofree char *size_text = eq ? g_strndup(values[0], (gsize) (eq - values[0])) : NULL;
        guint64 size, limit;

        if (!size_text || !option_size("--hugetlb", size_text, &size, NULL) || size < 1024 || (size & (size - 1))) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--hugetlb: '%s' is not PAGESIZE=LIMIT", quoted);
                return err_hint(error, "for example --hugetlb 2M=64M");
        }
        if (!option_size("--hugetlb", eq + 1, &limit, error))
                return false;
        /* As the kernel writes it (mem_fmt(), mm/hugetlb_cgroup.c). */
        g_autofree char *file = size >= 1 << 30   ? g_strdup_printf("hugetlb.%" G_GUINT64_FORMAT "GB.max", size >> 30)
                                : size >= 1 << 20 ? g_strdup_printf("hugetlb.%" G_GUINT64_FORMAT "MB.max", size >> 20)
                                                  : g_strdup_printf("hugetlb.%" G_GUINT64_FORMAT "KB.max", size >> 10);
        return put_number(draft, file, limit);
}

/* A resource of the misc controller ("sev", misc.capacity) and so many of it. */
static bool apply_misc(Spec *draft, const char *const *values, GError **error) {
        const char *eq = strchr(values[0], '=');
        guint64 n = G_MAXUINT64;

        if (!eq || eq == values[0] || strspn(values[0], NAME_CHARS) != (size_t) (eq - values[0]) ||
            (!g_str_equal(eq + 1, UNLIMITED) && !option_u64("--misc", eq + 1, G_MAXINT64, &n, NULL))) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--misc: '%s' is not RESOURCE=N", quoted);
                return err_hint(error, "for example --misc sev=4; cat " CGROUP_ROOT "/misc.capacity shows which there are");
        }
        g_autofree char *text = n == G_MAXUINT64 ? g_strdup_printf("%.*s max", (int) (eq - values[0]), values[0])
                                                 : g_strdup_printf("%.*s %" G_GUINT64_FORMAT, (int) (eq - values[0]), values[0], n);
        g_ptr_array_add(draft->limits.settings, scope_setting_new("misc.max", text));
        return true;
}

/* "mlx5_0:hca_handle=2,hca_object=2000" becomes "mlx5_0 hca_handle=2 hca_object=2000". */
static bool apply_rdma(Spec *draft, const char *const *values, GError **error) {
        static const char *const keys[] = { "hca_handle=", "hca_object=" };
        const char *colon = strchr(values[0], ':');
        g_auto(GStrv) items = g_strsplit(colon ? colon + 1 : "", ",", -1);
        bool ok = colon && colon > values[0] && strspn(values[0], NAME_CHARS) == (size_t) (colon - values[0]) && items[0];
        g_autoptr(GString) text = g_string_new_len(values[0], colon ? colon - values[0] : 0);

        for (char **item = items; ok && *item; item++) {
                const char *key = g_str_has_prefix(*item, keys[0]) ? keys[0] : g_str_has_prefix(*item, keys[1]) ? keys[1] : NULL;
                const char *value = key ? *item + strlen(key) : "";
                guint64 n;
                ok = key && (g_str_equal(value, UNLIMITED) || option_u64("--rdma", value, G_MAXINT32, &n, NULL));
                if (ok)
                        g_string_append_printf(text, " %s%s", key, g_str_equal(value, UNLIMITED) ? "max" : value);
        }
        if (!ok) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--rdma: '%s' is not DEVICE:hca_handle=N,hca_object=N", quoted);
                return err_hint(error, "for example --rdma mlx5_0:hca_handle=2; ls /sys/class/infiniband shows which there are");
        }
        g_ptr_array_add(draft->limits.settings, scope_setting_new("rdma.max", text->str));
        return true;
}

static bool apply_property(Spec *draft, const char *const *values, GError **error) {
        const char *eq = strchr(values[0], '=');
        g_autofree char *name = eq ? g_strndup(values[0], (gsize) (eq - values[0])) : NULL;
        g_autoptr(GPtrArray) parsed = g_ptr_array_new_with_free_func((GDestroyNotify) g_variant_unref);

        if (!name) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--property: '%s' is not NAME=VALUE", quoted);
                return err_hint(error, "for example --property MemoryHigh=400M");
        }
        if (!property_parse(name, eq + 1, parsed, error))
                return false;
        g_ptr_array_add(draft->limits.properties, scope_setting_new(name, eq + 1));
        return true;
}

const Option limits_options[] = {
        { .name = "memory",
          .short_name = 'm',
          .arg = "SIZE",
          .group = OPTION_LIMITS,
          .help = "at most so much memory (512M, 1.5G); beyond it the command is killed",
          .apply = apply_memory },
        { .name = "memory-high",
          .arg = "SIZE",
          .group = OPTION_LIMITS,
          .help = "beyond so much memory the box is slowed down and made to give some back",
          .apply = apply_memory_high },
        { .name = "memory-low",
          .arg = "SIZE",
          .group = OPTION_LIMITS,
          .help = "so much memory is taken away from it last",
          .apply = apply_memory_low },
        { .name = "memory-min",
          .arg = "SIZE",
          .group = OPTION_LIMITS,
          .help = "so much memory is never taken away from it",
          .apply = apply_memory_min },
        { .name = "memory-swap",
          .arg = "SIZE",
          .group = OPTION_LIMITS,
          .help = "memory and swap together (default: as --memory, no swap); 'unlimited'",
          .apply = apply_memory_swap },
        { .name = "cpus",
          .arg = "N",
          .group = OPTION_LIMITS,
          .help = "at most so many processors' time: 2.5, 0.5, 50%",
          .apply = apply_cpus },
        { .name = "cpu-weight",
          .arg = "N",
          .group = OPTION_LIMITS,
          .help = "share of the processors when they are short: 1 to 10000, others have 100",
          .apply = apply_cpu_weight },
        { .name = "cpuset-cpus",
          .arg = "LIST",
          .group = OPTION_LIMITS,
          .help = "these processors alone: 0-3,5",
          .apply = apply_cpuset_cpus },
        { .name = "cpuset-mems",
          .arg = "LIST",
          .group = OPTION_LIMITS,
          .help = "memory of these NUMA nodes alone",
          .apply = apply_cpuset_mems },
        { .name = "pids-limit",
          .arg = "N",
          .group = OPTION_LIMITS,
          .help = "at most so many processes and threads of the command's",
          .apply = apply_pids_limit },
        { .name = "io-weight",
          .arg = "N",
          .group = OPTION_LIMITS,
          .help = "share of the disks when they are busy, as far as their scheduler has such: 1 to 10000, others have 100",
          .apply = apply_io_weight },
        { .name = "io-max",
          .arg = "DEVICE:KEY=N[,...]",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .complete = COMPLETE_FILE,
          .help = "a disk's limits: rbps, wbps (bytes a second: 10M), riops, wiops; a directory stands for its disk",
          .apply = apply_io_max },
        { .name = "hugetlb",
          .arg = "PAGESIZE=SIZE",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .help = "at most so much memory in huge pages of that size: 2M=64M",
          .apply = apply_hugetlb },
        { .name = "misc",
          .arg = "RESOURCE=N",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .help = "at most so many of a resource of the kernel's misc controller: sev=4",
          .apply = apply_misc },
        { .name = "rdma",
          .arg = "DEVICE:KEY=N[,...]",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .help = "at most so many handles and objects of an RDMA device: hca_handle, hca_object",
          .apply = apply_rdma },
        { .name = "property",
          .arg = "NAME=VALUE",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .help = "a property of the box's systemd scope: systemd.resource-control(5)",
          .apply = apply_property },
        { 0 },
};

void limits_init(LimitsSpec *s) {
        s->settings = g_ptr_array_new_with_free_func((GDestroyNotify) scope_setting_free);
        s->properties = g_ptr_array_new_with_free_func((GDestroyNotify) scope_setting_free);
}

void limits_clear(LimitsSpec *s) {
        g_clear_pointer(&s->settings, g_ptr_array_unref);
        g_clear_pointer(&s->properties, g_ptr_array_unref);
}

bool limits_wanted(const LimitsSpec *s) {
        return s->settings->len > 0 || s->properties->len > 0;
}

bool limits_check(Spec *draft, GError **error) {
        LimitsSpec *s = &draft->limits;
        const char *max = scope_setting_get(s->settings, "memory.max");
        guint64 memory = G_MAXUINT64;

        if (max && !g_str_equal(max, "max"))
                memory = g_ascii_strtoull(max, NULL, 10);
        if (s->swap_given && memory == G_MAXUINT64 && s->memory_swap != G_MAXUINT64) {
                err_usage(error, "--memory-swap: it is memory and swap together, so it wants --memory");
                return err_hint(error, "-m 512M --memory-swap 1G allows 512M of swap");
        }
        if (s->swap_given && s->memory_swap < memory && memory != G_MAXUINT64)
                return err_usage(error, "--memory-swap: it is memory and swap together, and less than --memory");
        /* A limit that swap gets around is none. */
        if (s->swap_given)
                put_number(draft, "memory.swap.max", s->memory_swap == G_MAXUINT64 ? G_MAXUINT64 : s->memory_swap - memory);
        else if (memory != G_MAXUINT64)
                put_number(draft, "memory.swap.max", 0);
        return true;
}

char *limits_size_text(guint64 bytes) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
        double value = (double) bytes;
        size_t unit = 0;

        while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
                value /= 1024;
                unit++;
        }
        /* "512 MiB", but "511.8 MiB": what is whole is said so. */
        return value == (double) (guint64) value ? g_strdup_printf("%.0f %s", value, units[unit]) : g_strdup_printf("%.1f %s", value, units[unit]);
}
