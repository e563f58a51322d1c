/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits: options to settings, settings to systemd's properties, and the lines at the end. */
#include <glib.h>

#include "base/error.h"
#include "cgroup.h"
#include "draft.h"
#include "scope/config.h"
#include "scope/property.h"

static void assert_setting(const char *const *words, const char *file, const char *value) {
        g_autoptr(Spec) draft = draft_of(words);
        g_autoptr(GError) error = NULL;

        g_assert_true(limits_check(draft, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(scope_setting_get(draft->limits.settings, file), ==, value);
        g_assert_true(limits_wanted(&draft->limits));
}

static void assert_bad(const char *const *words, const char *needle) {
        g_autoptr(Spec) draft = draft_new();
        g_autoptr(GError) error = NULL;

        if (draft_parse(draft, words, &error) >= 0)
                g_assert_false(limits_check(draft, &error));
        assert_usage(error, needle, NULL);
}

static void test_options(void) {
        assert_setting(WORDS("-m", "512M", "c"), "memory.max", "536870912");
        assert_setting(WORDS("-m", "512M", "c"), "memory.swap.max", "0");
        assert_setting(WORDS("-m", "1.5G", "--memory", "unlimited", "c"), "memory.max", "max");
        assert_setting(WORDS("-m", "1.5G", "--memory", "unlimited", "c"), "memory.swap.max", NULL);
        assert_setting(WORDS("--memory-swap", "1G", "-m", "256M", "c"), "memory.swap.max", "805306368");
        assert_setting(WORDS("--memory-swap", "unlimited", "-m", "256M", "c"), "memory.swap.max", "max");
        assert_setting(WORDS("--memory-high", "1M", "c"), "memory.high", "1048576");
        assert_setting(WORDS("--memory-low", "1M", "c"), "memory.low", "1048576");
        assert_setting(WORDS("--memory-min", "1M", "c"), "memory.min", "1048576");
        assert_setting(WORDS("--cpus", "2.5", "c"), "cpu.max", "250000 100000");
        assert_setting(WORDS("--cpus", "50%", "c"), "cpu.max", "50000 100000");
        assert_setting(WORDS("--cpus=.01", "c"), "cpu.max", "1000 100000");
        assert_setting(WORDS("--cpu-weight", "300", "c"), "cpu.weight", "300");
        assert_setting(WORDS("--cpuset-cpus", "0-3,5", "c"), "cpuset.cpus", "0-3,5");
        assert_setting(WORDS("--cpuset-mems", "0", "c"), "cpuset.mems", "0");
        assert_setting(WORDS("--pids-limit", "100", "--pids-limit", "7", "c"), "pids.max", "7");
        assert_setting(WORDS("--pids-limit", "unlimited", "c"), "pids.max", "max");
        assert_setting(WORDS("--io-weight", "10000", "c"), "io.weight", "10000");
        assert_setting(WORDS("--hugetlb", "2M=64M", "c"), "hugetlb.2MB.max", "67108864");
        assert_setting(WORDS("--hugetlb", "1G=2G", "c"), "hugetlb.1GB.max", "2147483648");
        assert_setting(WORDS("--misc", "sev_es=4", "c"), "misc.max", "sev_es 4");
        assert_setting(WORDS("--misc", "sev=unlimited", "c"), "misc.max", "sev max");
        assert_setting(WORDS("--rdma", "mlx5_0:hca_handle=2,hca_object=unlimited", "c"), "rdma.max", "mlx5_0 hca_handle=2 hca_object=max");
        g_autoptr(Spec) none = draft_of(WORDS("--oom-score-adj", "5", "c"));
        g_assert_false(limits_wanted(&none->limits));
}

static void test_bad_options(void) {
        assert_bad(WORDS("-m", "4k", "c"), "less than a box can start with");
        assert_bad(WORDS("-m", "lots", "c"), "--memory: 'lots' is not a size");
        assert_bad(WORDS("--memory-swap", "1G", "c"), "it wants --memory");
        assert_bad(WORDS("-m", "1G", "--memory-swap", "1M", "c"), "less than --memory");
        for (const char *const *cpus = WORDS("0", "0.001", "-1", "1e9", "1x", "nan", "inf", "", "%"); *cpus; cpus++)
                assert_bad(WORDS("--cpus", *cpus, "c"), "--cpus: ");
        for (const char *const *weight = WORDS("0", "10001", "1.5", "x"); *weight; weight++) {
                assert_bad(WORDS("--cpu-weight", *weight, "c"), "is not a weight");
                assert_bad(WORDS("--io-weight", *weight, "c"), "is not a weight");
        }
        for (const char *const *set = WORDS("3-1", "a", "1,,2", "-1", "1-", "99999"); *set; set++)
                assert_bad(WORDS("--cpuset-cpus", *set, "c"), "is not a list");
        assert_bad(WORDS("--pids-limit", "0", "c"), "--pids-limit: '0'");
        assert_bad(WORDS("--io-max", "/dev/null", "c"), "is not DEVICE:");
        assert_bad(WORDS("--io-max", "/proc:rbps=1M", "c"), "is on no disk");
        assert_bad(WORDS("--io-max", "/no/such\n:rbps=1M", "c"), "/no/such\\n: No such file");
        assert_bad(WORDS("--hugetlb", "3M=1M", "c"), "--hugetlb: '3M=1M'");
        for (const char *const *misc = WORDS("sev", "=1", "sev=", "sev=-1", "s v=1", "sev=1x"); *misc; misc++)
                assert_bad(WORDS("--misc", *misc, "c"), "is not RESOURCE=N");
        for (const char *const *rdma = WORDS("mlx5_0", ":hca_handle=1", "m:hca_handle", "m:x=1", "m:", "m n:hca_handle=1", "m:hca_object=-1"); *rdma; rdma++)
                assert_bad(WORDS("--rdma", *rdma, "c"), "is not DEVICE:hca_handle=N,hca_object=N");
        assert_bad(WORDS("--property", "MemoryHigh", "c"), "is not NAME=VALUE");
        assert_bad(WORDS("--property", "ExecStart=/x", "c"), "'ExecStart' is no property");
        assert_bad(WORDS("--property", "MemoryHigh=-1", "c"), "'-1' is no value of MemoryHigh");
        assert_bad(WORDS("--property", "CPUQuota=50", "c"), "'50' is no value");
        assert_bad(WORDS("--property", "AllowedCPUs=5-2", "c"), "'5-2' is no value");
        assert_bad(WORDS("--property", "IOReadBandwidthMax=1M", "c"), "'1M' is no value");
}

/* A property as text, "MemoryMax=<uint64 5>". */
static char *print(GVariant *property) {
        const char *name;
        g_autoptr(GVariant) value = NULL;

        g_variant_get(property, "(&sv)", &name, &value);
        g_autofree char *text = g_variant_print(value, FALSE);
        return g_strconcat(name, "=", text, NULL);
}

static void assert_properties(const GPtrArray *list, const char *const *wanted) {
        for (guint i = 0; i < list->len; i++) {
                g_autofree char *text = print(list->pdata[i]);
                g_assert_cmpstr(text, ==, wanted[i]);
        }
        g_assert_null(wanted[list->len]);
}

static GPtrArray *properties_new(void) {
        return g_ptr_array_new_with_free_func((GDestroyNotify) g_variant_unref);
}

static void test_properties(void) {
        static const struct {
                const char *name, *value, *bus;
        } rows[] = {
                { "MemoryHigh", "1.5G", "MemoryHigh=1610612736" },
                { "MemoryMax", "infinity", "MemoryMax=18446744073709551615" },
                { "CPUQuota", "150%", "CPUQuotaPerSecUSec=1500000" },
                { "CPUQuotaPeriodSec", "20ms", "CPUQuotaPeriodUSec=20000" },
                { "TasksMax", "12", "TasksMax=12" },
                { "AllowedCPUs", "0-1,9", "AllowedCPUs=[0x03, 0x02]" },
                { "IOReadBandwidthMax", "/dev/sda 1M", "IOReadBandwidthMax=[('/dev/sda', 1048576)]" },
                { "IODeviceLatencyTargetSec", "/dev/sda 25ms", "IODeviceLatencyTargetUSec=[('/dev/sda', 25000)]" },
                { "IOAccounting", "yes", "IOAccounting=true" },
                { "Description", "mine", "Description='mine'" },
        };

        g_assert_cmpstr(property_controller("AllowedCPUs"), ==, "cpuset");
        g_assert_cmpstr(property_controller("CPUQuotaPeriodSec"), ==, "cpu");
        g_assert_cmpstr(property_controller("IODeviceLatencyTargetSec"), ==, "io");
        g_assert_cmpstr(property_controller("MemoryHigh"), ==, "memory");
        g_assert_cmpstr(property_controller("TasksMax"), ==, "pids");
        g_assert_null(property_controller("Description"));
        g_assert_null(property_controller("ManagedOOMSwap"));
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(GPtrArray) list = properties_new();
                g_autoptr(GError) error = NULL;
                g_assert_true(property_parse(rows[i].name, rows[i].value, list, &error));
                assert_properties(list, WORDS(rows[i].bus));
        }
}

static void test_from_settings(void) {
        g_autoptr(ScopeConfig) c = scope_config_new();
        g_autoptr(GPtrArray) list = properties_new(), rest = g_ptr_array_new();
        g_autoptr(GError) error = NULL;

        scope_setting_put(c->settings, "memory.max", "5");
        scope_setting_put(c->settings, "memory.max", "7");
        scope_setting_put(c->settings, "memory.swap.max", "max");
        scope_setting_put(c->settings, "cpu.max", "50000 100000");
        scope_setting_put(c->settings, "io.max", "8:0 rbps=9 wiops=max");
        scope_setting_put(c->settings, "pids.max", "3");
        g_assert_true(property_from_settings(c->settings, list, rest, &error));
        assert_properties(list, WORDS("MemoryMax=7", "MemorySwapMax=18446744073709551615", "CPUQuotaPerSecUSec=500000",
                                      "CPUQuotaPeriodUSec=18446744073709551615", "IOReadBandwidthMax=[('/dev/block/8:0', 9)]",
                                      "IOWriteIOPSMax=[('/dev/block/8:0', 18446744073709551615)]"));
        g_assert_cmpuint(rest->len, ==, 1);
        g_assert_cmpstr(((ScopeSetting *) rest->pdata[0])->file, ==, "pids.max");
        scope_setting_put(c->settings, "cpu.weight", "0");
        g_assert_false(property_from_settings(c->settings, list, rest, &error));
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_FAILED);
}

static void test_config(void) {
        ScopeConfig sent = { .id = (char *) "0a1", .runtime_dir = (char *) "/run/x", .pod = (char *) "/sys/fs/cgroup/p", .is_pod = true, .late = true };
        g_autoptr(ScopeConfig) lists = scope_config_new();
        g_autoptr(GError) error = NULL;

        scope_setting_put(lists->settings, "memory.max", "5");
        g_ptr_array_add(lists->properties, scope_setting_new("MemoryHigh", "1M"));
        sent.settings = lists->settings;
        sent.properties = lists->properties;
        g_autoptr(GVariant) body = g_variant_ref_sink(scope_config_pack(&sent));
        g_assert_cmpstr(g_variant_get_type_string(body), ==, SCOPE_CONFIG_SIGNATURE);
        g_autoptr(ScopeConfig) got = scope_config_parse(body, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(got->id, ==, "0a1");
        g_assert_cmpstr(got->runtime_dir, ==, "/run/x");
        g_assert_cmpstr(scope_setting_get(got->settings, "memory.max"), ==, "5");
        g_assert_cmpstr(scope_setting_get(got->properties, "MemoryHigh"), ==, "1M");
        g_assert_cmpstr(got->pod, ==, "/sys/fs/cgroup/p");
        g_assert_true(got->is_pod);
        g_assert_true(got->late);
        g_assert_false(got->verbose);

        /* What could lead elsewhere is not taken. */
        static const char *const bad[] = { "../x", "a/b", "", ".max", "a b" };
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) failure = NULL;
                g_autoptr(GPtrArray) settings = g_ptr_array_new_with_free_func((GDestroyNotify) scope_setting_free);
                g_ptr_array_add(settings, scope_setting_new(bad[i], "1"));
                g_autoptr(GVariant) update = g_variant_ref_sink(scope_update_pack(settings, lists->properties));
                g_assert_null(scope_update_parse(update, &failure));
                g_assert_nonnull(failure);
        }
        sent.id = (char *) "../a";
        g_autoptr(GVariant) other = g_variant_ref_sink(scope_config_pack(&sent));
        g_assert_null(scope_config_parse(other, &error));
}

static void assert_outcome(CgroupNumbers n, const char *line) {
        g_autoptr(GPtrArray) lines = cgroup_outcome(&n);

        g_assert_cmpuint(lines->len, ==, line ? 1 : 0);
        if (line)
                g_assert_cmpstr(lines->pdata[0], ==, line);
}

static void test_outcome(void) {
        assert_outcome((CgroupNumbers){ .memory_max = 512 << 20, .memory_peak = 536660000, .cpu_quota_us = G_MAXUINT64, .oom_kills = 1 },
                       "out of memory: 512 MiB limit, peak 511.8 MiB, 1 kill");
        assert_outcome((CgroupNumbers){ .memory_max = G_MAXUINT64, .memory_peak = G_MAXUINT64, .cpu_quota_us = G_MAXUINT64, .oom_kills = 2 },
                       "out of memory: no limit, 2 kills");
        assert_outcome((CgroupNumbers){ .memory_max = 512 << 20, .pod_memory_max = 64 << 20, .oom_by_pod = true, .memory_peak = 32 << 20,
                                        .cpu_quota_us = G_MAXUINT64, .oom_kills = 1 },
                       "out of memory: the pod's 64 MiB limit, peak 32 MiB, 1 kill");
        assert_outcome((CgroupNumbers){ .pids_max = 20, .pod_pids_max = G_MAXUINT64, .pids_refused = 3, .cpu_quota_us = G_MAXUINT64 },
                       "out of processes: limit 20, refused 3 times");
        assert_outcome((CgroupNumbers){ .pids_max = G_MAXUINT64, .pod_pids_max = 50, .pids_refused = 1, .cpu_quota_us = G_MAXUINT64 },
                       "out of processes: the pod's limit 50, refused 1 time");
        assert_outcome((CgroupNumbers){ .pids_max = 20, .pod_pids_max = 50, .pids_refused = 2, .cpu_quota_us = G_MAXUINT64 },
                       "out of processes: limit 20 or the pod's limit 50, refused 2 times");
        assert_outcome((CgroupNumbers){ .cpu_quota_us = 50000, .cpu_period_us = 100000, .periods = 10, .throttled = 9, .throttled_us = 450000 },
                       "throttled: limit 0.5 CPUs, in 9 of 10 periods, waited 0.5 s");
        assert_outcome((CgroupNumbers){ .cpu_quota_us = 50000, .cpu_period_us = 100000, .periods = 10, .throttled = 1, .throttled_us = 400 }, NULL);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/limits/options", test_options);
        g_test_add_func("/limits/bad-options", test_bad_options);
        g_test_add_func("/limits/properties", test_properties);
        g_test_add_func("/limits/from-settings", test_from_settings);
        g_test_add_func("/limits/config", test_config);
        g_test_add_func("/limits/outcome", test_outcome);
        return g_test_run();
}
