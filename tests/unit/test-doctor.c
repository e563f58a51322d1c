/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of doctor: the checks over machines that are made up (trees with proc, sys and etc, and results of trials), and one
 * run over the real one that must leave nothing behind.
 *
 * Role: test program. Privileges: none. Threads: one.
 */
#include <errno.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "doctor.h"
#include "mount.h"

typedef struct {
        DoctorHost *host;
        GPtrArray *checks;
} Fixture;

static void put(const Fixture *f, const char *path, const char *text) {
        g_autofree char *full = g_strconcat(f->host->root, path, NULL), *dir = g_path_get_dirname(full);
        g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
        g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

/* A Debian 12 on which everything works; each test breaks one thing. */
static void set_up(Fixture *f, gconstpointer unused) {
        DoctorHost *host = f->host = g_new0(DoctorHost, 1);
        gid_t gid = 1000;

        host->root = g_dir_make_tmp("usbox-doctor-test-XXXXXX", NULL);
        host->uid = host->gid = 1000;
        host->groups = g_array_new(FALSE, TRUE, sizeof(gid_t));
        g_array_append_val(host->groups, gid);
        host->name = g_strdup("anna");
        host->kernel = g_strdup("6.1.0-18-amd64");
        host->exe = g_strdup("/usr/bin/usbox");
        host->helpers = g_strdup("usbox-fs, usbox-net");
        host->landlock_abi = 2;
        host->open_files = 1024;
        host->fast_path_tried = true;
        host->newuidmap = (DoctorProgram){ .path = g_strdup("/usr/bin/newuidmap"), .privileged = true };
        host->newgidmap = (DoctorProgram){ .path = g_strdup("/usr/bin/newgidmap"), .privileged = true };
        host->data_dir = g_strdup("/home/anna/.local/share/usbox/boxes");
        host->data_free = G_GUINT64_CONSTANT(100) << 30;
        host->runtime_dir = g_strdup("/run/user/1000");
        host->runtime_dir_ok = true;
        host->boxes_runtime = g_strdup("/run/user/1000/usbox");
        put(f, "/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        put(f, "/etc/subuid", "anna:100000:65536\n");
        put(f, "/etc/subgid", "anna:100000:65536\n");
        put(f, "/proc/sys/user/max_user_namespaces", "63000\n");
        put(f, "/proc/sys/kernel/unprivileged_userns_clone", "1\n");
        put(f, "/proc/sys/net/ipv4/ping_group_range", "0\t2147483647\n");
        put(f, "/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n");
        put(f, "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers", "cpuset cpu io memory pids\n");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
        return remove(path);
}

static void tear_down(Fixture *f, gconstpointer unused) {
        g_assert_cmpint(nftw(f->host->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), ==, 0);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        doctor_host_free(f->host);
}

/* A trial that failed, and those that then were not tried. */
static void fail(Fixture *f, DoctorTrial trial, int errnum) {
        f->host->trial[trial] = errnum;
        if (trial == TRIAL_USERNS || trial == TRIAL_USERNS_MAP)
                for (int i = trial + 1; i < TRIAL_MAX; i++)
                        f->host->trial[i] = TRIAL_NOT_RUN;
}

static const DoctorCheck *check(Fixture *f, const char *id) {
        if (!f->checks)
                f->checks = doctor_examine(f->host);
        const DoctorCheck *found = NULL;
        for (guint i = 0; i < f->checks->len; i++) {
                const DoctorCheck *c = g_ptr_array_index(f->checks, i);
                if (strcmp(c->id, id) == 0) {
                        g_assert_null(found);
                        found = c;
                }
        }
        return found;
}

static void assert_state(Fixture *f, const char *id, DoctorState state) {
        const DoctorCheck *c = check(f, id);
        g_assert_nonnull(c);
        g_assert_cmpint(c->state, ==, state);
}

/* Exactly these are missing, and the verdict and both reports say so. */
static void assert_missing(Fixture *f, const char *ids) {
        g_autoptr(GString) missing = g_string_new(NULL);
        (void) check(f, "");
        for (guint i = 0; i < f->checks->len; i++) {
                const DoctorCheck *c = g_ptr_array_index(f->checks, i);
                if (c->state == DOCTOR_MISSING)
                        g_string_append_printf(missing, "%s%s", missing->len > 0 ? " " : "", c->id);
        }
        g_assert_cmpstr(missing->str, ==, ids);
        g_assert_cmpint(doctor_can_run(f->checks), ==, *ids == '\0');
        g_autofree char *text = doctor_text(f->checks, false);
        g_assert_cmpint(strstr(text, "does not work here") == NULL, ==, *ids == '\0');
}

static void assert_mend(Fixture *f, const char *id, const char *part) {
        const DoctorCheck *c = check(f, id);
        g_assert_nonnull(c);
        g_assert_nonnull(c->mend);
        if (!strstr(c->mend, part))
                g_error("%s: '%s' is not in '%s'", id, part, c->mend);
}

static void test_all_well(Fixture *f, gconstpointer unused) {
        assert_missing(f, "");
        for (guint i = 0; i < f->checks->len; i++) {
                const DoctorCheck *c = g_ptr_array_index(f->checks, i);
                g_assert_cmpint(c->state, ==, DOCTOR_OK);
                g_assert_null(c->mend);
                g_assert_null(c->means);
        }
        g_autofree char *text = doctor_text(f->checks, false);
        g_assert_true(g_str_has_suffix(text, "\n`usbox run` works here\n"));
}

static void test_old_kernel(Fixture *f, gconstpointer unused) {
        g_free(f->host->kernel);
        f->host->kernel = g_strdup("5.10.0-28-amd64");
        fail(f, TRIAL_MOUNT_SETATTR, ENOSYS);
        assert_missing(f, "kernel syscalls");
}

static void test_kernel_numbers(Fixture *f, gconstpointer unused) {
        static const struct {
                const char *release;
                bool enough;
        } kernels[] = { { "5.11.99", false }, { "5.12.0", true }, { "5.12-rc1", true }, { "6.0.0", true },
                        { "10.1", true },     { "4.19.0", false }, { "", false },        { "linux", false } };

        for (size_t i = 0; i < G_N_ELEMENTS(kernels); i++) {
                g_free(f->host->kernel);
                f->host->kernel = g_strdup(kernels[i].release);
                assert_state(f, "kernel", kernels[i].enough ? DOCTOR_OK : DOCTOR_MISSING);
                g_clear_pointer(&f->checks, g_ptr_array_unref);
        }
}

static void test_ubuntu_apparmor(Fixture *f, gconstpointer unused) {
        put(f, "/etc/os-release", "ID=ubuntu\nID_LIKE=debian\n");
        put(f, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        put(f, "/proc/self/attr/apparmor/current", "unconfined\n");
        f->host->apparmor_profile = g_strdup("/usr/share/usbox/apparmor/usbox");
        fail(f, TRIAL_USERNS_MAP, EPERM);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "sudo install -m 644 /usr/share/usbox/apparmor/usbox /etc/apparmor.d/usbox && "
                                 "sudo apparmor_parser -r /etc/apparmor.d/usbox");
        assert_state(f, "apparmor", DOCTOR_INFO);
}

static void test_ubuntu_apparmor_at_mount(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        for (int i = TRIAL_NS_MOUNT; i <= TRIAL_NS_PID; i++)
                f->host->trial[i] = EPERM;
        for (int i = TRIAL_USERNS_CAPS; i < TRIAL_MAX; i++)
                f->host->trial[i] = TRIAL_NOT_RUN;
        assert_missing(f, "userns namespaces");
        assert_mend(f, "userns", "kernel.apparmor_restrict_unprivileged_userns = 0"); /* no profile is installed */
}

/* With the profile in force the restriction is only worth a line. */
static void test_ubuntu_with_profile(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        put(f, "/proc/self/attr/apparmor/current", "usbox (unconfined)\n");
        assert_missing(f, "");
        g_assert_nonnull(strstr(check(f, "apparmor")->found, "usbox (unconfined)"));
}

static void test_debian_sysctl(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/kernel/unprivileged_userns_clone", "0\n");
        fail(f, TRIAL_USERNS, EPERM);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "kernel.unprivileged_userns_clone = 1");
}

static void test_no_quota(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/user/max_user_namespaces", "0\n");
        fail(f, TRIAL_USERNS, ENOSPC);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "user.max_user_namespaces = 15000");
}

/* Set by the parent of the user namespace that this is in: what is read here says nothing of it. */
static void test_quota_around(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/user/max_user_namespaces", "2147483647\n");
        fail(f, TRIAL_USERNS, ENOSPC);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "--disable-userns");
        g_assert_null(strstr(check(f, "userns")->mend, "sysctl"));
}

static void test_proc_of_others(Fixture *f, gconstpointer unused) {
        f->host->proc_problem = "is that of another pid namespace";
        assert_missing(f, "proc");
        assert_mend(f, "proc", "mount -t proc");
}

static void test_proc_read_only(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_USERNS_MAP, EROFS);
        assert_missing(f, "userns");
        g_assert_nonnull(strstr(check(f, "userns")->means, "/proc is read-only"));
        assert_mend(f, "userns", "--proc /proc");
}

static void test_net_quota(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_NS_NET, ENOSPC);
        fail(f, TRIAL_NS_TIME, EINVAL);
        for (int i = TRIAL_USERNS_CAPS; i < TRIAL_MAX; i++)
                f->host->trial[i] = TRIAL_NOT_RUN;
        assert_missing(f, "namespaces");
        assert_mend(f, "namespaces", "user.max_net_namespaces = 15000");
        assert_mend(f, "namespaces", "CONFIG_TIME_NS=y");
}

static void test_no_config(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_USERNS, EINVAL);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "CONFIG_USER_NS=y");
}

/* Where no process can be started nothing was tried, and nothing is blamed for that but the limit. */
static void test_no_processes(Fixture *f, gconstpointer unused) {
        for (int i = 0; i < TRIAL_MAX; i++)
                f->host->trial[i] = TRIAL_NOT_RUN;
        f->host->trial[TRIAL_MEMORY] = 0;
        f->host->trial[TRIAL_PROCESSES] = EAGAIN;
        assert_missing(f, "processes");
        assert_mend(f, "processes", "ulimit -u");
}

static void test_shell(Fixture *f, gconstpointer unused) {
        f->host->open_files = 20;
        f->host->workdir_error = EACCES;
        f->host->trial[TRIAL_MEMORY] = ENOMEM;
        assert_missing(f, "workdir open-files memory");
        assert_mend(f, "open-files", "ulimit -n");
        assert_mend(f, "memory", "ulimit -v");
}

static void test_nothing_tried(Fixture *f, gconstpointer unused) {
        for (int i = 0; i < TRIAL_MAX; i++)
                f->host->trial[i] = TRIAL_NOT_RUN;
        f->host->trial[TRIAL_PROCESSES] = f->host->trial[TRIAL_MEMORY] = 0;
        (void) check(f, "");
        g_assert_false(doctor_can_run(f->checks));
        assert_state(f, "userns", DOCTOR_MISSING);
}

static void test_docker(Fixture *f, gconstpointer unused) {
        put(f, "/.dockerenv", "");
        put(f, "/proc/self/mountinfo", "1 0 0:1 / /proc rw - proc proc rw\n2 1 0:2 / /proc/acpi ro - tmpfs tmpfs ro\n");
        fail(f, TRIAL_PROC, EPERM);
        fail(f, TRIAL_TUN_OPEN, ENOENT);
        assert_missing(f, "proc tun");
        g_assert_nonnull(strstr(check(f, "proc")->means, "/proc/acpi"));
        assert_mend(f, "proc", "docker run --security-opt seccomp=unconfined");
        assert_mend(f, "tun", "--device /dev/net/tun");
        assert_state(f, "container", DOCTOR_INFO);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_FUSE, ENOENT);
        f->host->trial[TRIAL_FUSE_MOUNT] = TRIAL_NOT_RUN;
        assert_mend(f, "fuse", "--device /dev/fuse");
}

/* A box shows the files of what it runs in. */
static void test_in_a_box(Fixture *f, gconstpointer unused) {
        put(f, "/.dockerenv", "");
        f->host->in_box = true;
        f->host->fast_path_tried = true;
        f->host->fast_path_error = g_strdup("raw socket");
        fail(f, TRIAL_TUN_OPEN, ENOENT);
        assert_mend(f, "tun", "usbox run --nested --device /dev/fuse --device /dev/net/tun");
        assert_mend(f, "fast-path", "usbox run --nested --seccomp off");
}

/* What boots the machine, and its systemd, are not the container's to change. */
static void test_docker_does_not_boot(Fixture *f, gconstpointer unused) {
        put(f, "/.dockerenv", "");
        put(f, "/proc/self/cgroup", "3:memory:/x\n0::/x\n");
        put(f, "/sys/kernel/security/lsm", "capability,yama");
        f->host->landlock_abi = 0;
        f->host->runtime_dir_ok = false;
        fail(f, TRIAL_BUS, ENOENT);
        assert_mend(f, "cgroup", "docker run or podman run --memory");
        assert_mend(f, "landlock", "usbox doctor there");
        assert_mend(f, "bus", "docker run or podman run --memory");
        assert_mend(f, "runtime-dir", "export XDG_RUNTIME_DIR");
        for (guint i = 0; i < f->checks->len; i++) {
                const DoctorCheck *c = f->checks->pdata[i];
                g_assert_false(c->mend && (strstr(c->mend, "grub") || strstr(c->mend, "reboot") || strstr(c->mend, "machinectl")));
        }
}

static void test_podman(Fixture *f, gconstpointer unused) {
        put(f, "/run/.containerenv", "");
        fail(f, TRIAL_USERNS, EPERM);
        assert_missing(f, "userns");
        assert_mend(f, "userns", "unmask=ALL");
}

static void test_no_ranges(Fixture *f, gconstpointer unused) {
        put(f, "/etc/subuid", "berta:100000:65536\n");
        put(f, "/etc/subgid", "berta:100000:65536\n");
        assert_missing(f, "");
        assert_state(f, "subids", DOCTOR_DEGRADED);
        g_assert_cmpstr(check(f, "subids")->mend, ==, "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 anna");
}

static void test_no_gid_range(Fixture *f, gconstpointer unused) {
        put(f, "/etc/subgid", "# nothing\n");
        assert_state(f, "subids", DOCTOR_DEGRADED);
        g_assert_nonnull(strstr(check(f, "subids")->found, "/etc/subgid"));
        g_assert_null(strstr(check(f, "subids")->mend, "--add-subuids"));
}

static void test_newuidmap(Fixture *f, gconstpointer unused) {
        g_clear_pointer(&f->host->newuidmap.path, g_free);
        f->host->newgidmap.privileged = false;
        assert_missing(f, "");
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        g_assert_cmpstr(check(f, "newuidmap")->mend, ==, "sudo apt-get install uidmap");
        g_assert_cmpstr(check(f, "newgidmap")->mend, ==, "sudo chown root: /usr/bin/newgidmap && sudo chmod u+s /usr/bin/newgidmap");
}

static void test_newuidmap_nosuid(Fixture *f, gconstpointer unused) {
        f->host->newuidmap.nosuid = true;
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        assert_mend(f, "newuidmap", "remount,suid");
}

static void test_newuidmap_no_new_privs(Fixture *f, gconstpointer unused) {
        f->host->no_new_privs = true;
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        assert_state(f, "newgidmap", DOCTOR_DEGRADED);
        assert_mend(f, "newuidmap", "NoNewPrivileges=no");
}

/* As in a shell of newgrp: it is not the machine that lacks something, nor the ranges. */
static void test_newuidmap_other_group(Fixture *f, gconstpointer unused) {
        f->host->served = ACCOUNT_OTHER_GROUP;
        assert_state(f, "subids", DOCTOR_OK);
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        assert_state(f, "newgidmap", DOCTOR_DEGRADED);
        assert_mend(f, "newuidmap", "newgrp");
}

/* usermod knows no such user, and a range for the number alone would be of no use. */
static void test_no_account(Fixture *f, gconstpointer unused) {
        f->host->served = ACCOUNT_NONE;
        assert_state(f, "subids", DOCTOR_DEGRADED);
        g_assert_cmpstr(check(f, "subids")->mend, ==, "sudo useradd --no-create-home --uid 1000 u1000");
}

static void test_newuidmap_in_a_box(Fixture *f, gconstpointer unused) {
        f->host->no_new_privs = f->host->in_box = f->host->newuidmap.nosuid = true;
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        assert_mend(f, "newuidmap", "usbox run --user root");
}

/* A container with few ids: its root is none of them. */
static void test_newuidmap_foreign(Fixture *f, gconstpointer unused) {
        f->host->newuidmap.privileged = false;
        f->host->newuidmap.foreign = true;
        assert_state(f, "newuidmap", DOCTOR_DEGRADED);
        assert_mend(f, "newuidmap", "start the container");
        g_assert_null(strstr(check(f, "newuidmap")->mend, "chown"));
}

static void test_ranges_foreign(Fixture *f, gconstpointer unused) {
        put(f, "/proc/self/uid_map", "         0       1000          1\n         1     100000      65536\n");
        put(f, "/proc/self/gid_map", "         0       1000          1\n         1     100000      65536\n");
        assert_state(f, "subids", DOCTOR_DEGRADED);
        assert_mend(f, "subids", "cat /proc/self/uid_map");
}

static void test_ranges_there(Fixture *f, gconstpointer unused) {
        put(f, "/proc/self/uid_map", "         0          0 4294967295\n");
        put(f, "/proc/self/gid_map", "         0          0     100000\n    100000     500000      65536\n");
        assert_state(f, "subids", DOCTOR_OK);
}

static void test_fedora(Fixture *f, gconstpointer unused) {
        put(f, "/etc/os-release", "NAME=\"AlmaLinux\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\n");
        put(f, "/sys/fs/selinux/enforce", "1");
        put(f, "/proc/self/attr/current", "unconfined_u:unconfined_r:unconfined_t:s0");
        g_clear_pointer(&f->host->newuidmap.path, g_free);
        f->host->newgidmap.privileged = false;
        put(f, "/proc/self/cgroup", "3:memory:/x\n0::/x\n");
        g_assert_cmpstr(check(f, "newuidmap")->mend, ==, "sudo dnf install shadow-utils");
        g_assert_cmpstr(check(f, "newgidmap")->mend, ==, "sudo setcap cap_setgid=ep /usr/bin/newgidmap");
        assert_mend(f, "cgroup", "grubby");
        assert_state(f, "selinux", DOCTOR_INFO);
}

static void test_root(Fixture *f, gconstpointer unused) {
        f->host->uid = 0;
        put(f, "/etc/subuid", "");
        put(f, "/etc/subgid", "");
        g_clear_pointer(&f->host->newuidmap.path, g_free);
        assert_state(f, "subids", DOCTOR_OK);
        assert_state(f, "newuidmap", DOCTOR_OK);
}

static void test_cgroups(Fixture *f, gconstpointer unused) {
        static const struct {
                const char *text, *found;
                DoctorState state;
                bool delegation;
        } cases[] = {
                { "0::/x\n", "version 2", DOCTOR_OK, true },
                { "4:memory:/x\n1:name=systemd:/x\n0::/x\n", "hybrid", DOCTOR_DEGRADED, false },
                { "4:memory:/x\n1:name=systemd:/x\n", "version 1", DOCTOR_DEGRADED, false },
                { "", "none", DOCTOR_DEGRADED, false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                put(f, "/proc/self/cgroup", cases[i].text);
                assert_missing(f, "");
                assert_state(f, "cgroup", cases[i].state);
                g_assert_true(g_str_has_prefix(check(f, "cgroup")->found, cases[i].found));
                g_assert_cmpint(check(f, "delegation") != NULL, ==, cases[i].delegation);
                g_clear_pointer(&f->checks, g_ptr_array_unref);
        }
}

static void test_delegation(Fixture *f, gconstpointer unused) {
        put(f, "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers", "memory pids\n");
        assert_missing(f, "");
        assert_state(f, "delegation", DOCTOR_DEGRADED);
        g_assert_cmpstr(check(f, "delegation")->found, ==, "not delegated: cpu, cpuset, io");
        assert_mend(f, "delegation", "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n'");
}

/* No systemd of the user's, but a cgroup that is. */
static void test_own_cgroup(Fixture *f, gconstpointer unused) {
        g_autofree char *theirs = g_strconcat(f->host->root, "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers", NULL);

        g_assert_cmpint(g_remove(theirs), ==, 0);
        put(f, "/proc/self/cgroup", "0::/box\n");
        assert_missing(f, "");
        assert_state(f, "delegation", DOCTOR_DEGRADED);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        put(f, "/sys/fs/cgroup/box/cgroup.procs", "1\n");
        put(f, "/sys/fs/cgroup/box/cgroup.controllers", "memory pids\n");
        assert_missing(f, "");
        assert_state(f, "delegation", DOCTOR_OK);
        g_assert_cmpstr(check(f, "delegation")->found, ==, "no systemd runs for this user, but the cgroup /box is his: memory pids");
}

static void test_data(Fixture *f, gconstpointer unused) {
        f->host->data_free = 1 << 20;
        assert_missing(f, "");
        assert_state(f, "data", DOCTOR_DEGRADED);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        f->host->data_foreign = true;
        assert_missing(f, "data");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_DATA, EROFS);
        f->host->trial[TRIAL_XATTR] = f->host->trial[TRIAL_OVERLAY] = f->host->trial[TRIAL_OVERLAY_EDIT] = TRIAL_NOT_RUN;
        assert_missing(f, "data");
}

static void test_overlay(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_OVERLAY, ENODEV);
        f->host->trial[TRIAL_OVERLAY_EDIT] = TRIAL_NOT_RUN;
        assert_missing(f, OVERLAY_DEFAULT == OVERLAY_KERNEL ? "overlay" : "");
        assert_state(f, "overlay", OVERLAY_DEFAULT == OVERLAY_KERNEL ? DOCTOR_MISSING : DOCTOR_DEGRADED);
        assert_mend(f, "overlay", "modprobe overlay");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        f->host->trial[TRIAL_OVERLAY] = f->host->trial[TRIAL_OVERLAY_EDIT] = 0;
        fail(f, TRIAL_XATTR, EOPNOTSUPP);
        assert_missing(f, "overlay");
        assert_mend(f, "overlay", "XDG_DATA_HOME");
}

static void test_network(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/net/ipv4/ping_group_range", "1\t0\n");
        fail(f, TRIAL_TUN_OPEN, EACCES);
        f->host->missing_helper = g_strdup("helper program /x/usbox-net: No such file or directory");
        assert_missing(f, "tun helpers");
        assert_state(f, "ping", DOCTOR_DEGRADED);
        assert_mend(f, "ping", "net.ipv4.ping_group_range = 0 2147483647");
        assert_mend(f, "tun", "chmod 0666 /dev/net/tun");
}

static void test_fast_path(Fixture *f, gconstpointer unused) {
        f->host->fast_path_tried = false;
        assert_missing(f, "");
        assert_state(f, "fast-path", DOCTOR_INFO);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        f->host->fast_path_tried = true;
        f->host->fast_path_error = g_strdup("make the rules: Operation not supported");
        assert_missing(f, "");
        assert_state(f, "fast-path", DOCTOR_DEGRADED);
        assert_mend(f, "fast-path", "modprobe -a nf_tables nft_tproxy");
}

static void test_filters(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_PIVOT_ROOT, EPERM);
        fail(f, TRIAL_SECCOMP, EPERM);
        fail(f, TRIAL_LANDLOCK, EPERM);
        f->host->landlock_abi = 0;
        assert_missing(f, "syscalls seccomp landlock");
        for (const char *const *id = (const char *const[]){ "syscalls", "seccomp", "landlock", NULL }; *id; id++) {
                g_assert_nonnull(strstr(check(f, *id)->means, "filter around this shell"));
                assert_mend(f, *id, "SystemCallFilter=");
        }
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        put(f, "/.dockerenv", "");
        assert_mend(f, "landlock", "seccomp=unconfined");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_SECCOMP, EINVAL);
        assert_mend(f, "seccomp", "CONFIG_SECCOMP_FILTER=y");
}

/* Why a box did not come to be, as the hint of its error. */
static void test_reasons(Fixture *f, gconstpointer unused) {
        g_assert_null(doctor_reason(f->host, EPERM, true));
        fail(f, TRIAL_CLOSE_RANGE, ENOSYS);
        g_autofree char *kernel = doctor_reason(f->host, ENOSYS, false), *filter = doctor_reason(f->host, EPIPE, true);
        g_assert_cmpstr(kernel, ==, "this kernel has no close_range: usbox needs Linux 5.12 or newer");
        g_assert_true(g_str_has_prefix(filter, "a seccomp filter around this refuses close_range, "));
        fail(f, TRIAL_CLONE3, EPERM);
        g_autofree char *module = doctor_reason(f->host, 0, false);
        g_assert_true(g_str_has_prefix(module, "a security module of this machine refuses clone3, close_range, "));
        g_assert_null(doctor_reason(f->host, ENOSPC, true));
        put(f, "/.dockerenv", "");
        g_autofree char *docker = doctor_reason(f->host, EPERM, true);
        g_assert_nonnull(strstr(docker, "(docker) refuses clone3, close_range, "));
        g_assert_nonnull(strstr(docker, "docker run --security-opt seccomp=unconfined "));
}

static void test_reason_apparmor(Fixture *f, gconstpointer unused) {
        put(f, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        g_assert_null(doctor_reason(f->host, EPIPE, false));
        g_autofree char *hint = doctor_reason(f->host, EACCES, false);
        g_assert_true(g_str_has_prefix(hint, "AppArmor gives capabilities"));
}

static void test_soft_losses(Fixture *f, gconstpointer unused) {
        f->host->landlock_abi = 0;
        f->host->runtime_dir_ok = false;
        f->host->boxes_runtime_tmp = true;
        fail(f, TRIAL_BUS, ECONNREFUSED);
        put(f, "/sys/kernel/security/lsm", "lockdown,yama,apparmor\n");
        assert_missing(f, "");
        assert_mend(f, "landlock", "lsm=landlock,lockdown,yama,apparmor");
        assert_state(f, "bus", DOCTOR_DEGRADED);
        assert_state(f, "runtime-dir", DOCTOR_DEGRADED);
        assert_state(f, "boxes-runtime", DOCTOR_INFO);
}

/* What the default root needs is missing without it, what an option needs is degraded. */
static void test_fuse(Fixture *f, gconstpointer unused) {
        const DoctorState lost = OVERLAY_DEFAULT == OVERLAY_FUSE ? DOCTOR_MISSING : DOCTOR_DEGRADED;
        const char *missing = OVERLAY_DEFAULT == OVERLAY_FUSE ? "fuse" : "";

        assert_missing(f, "");
        assert_state(f, "fuse", DOCTOR_OK);
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_FUSE_MOUNT, EPERM);
        assert_missing(f, missing);
        assert_state(f, "fuse", lost);
        assert_mend(f, "fuse", "usbox run --overlay=kernel");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_FUSE, EACCES);
        f->host->trial[TRIAL_FUSE_MOUNT] = TRIAL_NOT_RUN;
        assert_missing(f, missing);
        assert_mend(f, "fuse", "sudo chmod 0666 /dev/fuse");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        fail(f, TRIAL_FUSE, ENOENT);
        assert_missing(f, missing);
        assert_mend(f, "fuse", "modprobe fuse");
        g_clear_pointer(&f->checks, g_ptr_array_unref);
        f->host->trial[TRIAL_FUSE] = 0; /* it opens, but the namespaces to try the mount in are not to be had */
        assert_missing(f, "");
        assert_state(f, "fuse", DOCTOR_INFO);
}

/* Names from outside reach neither the terminal nor a shell as they are. */
static void test_hostile_names(Fixture *f, gconstpointer unused) {
        g_free(f->host->name);
        f->host->name = g_strdup("a'; rm -rf ~\x1b[31m");
        g_free(f->host->kernel);
        f->host->kernel = g_strdup("6.1\x1b[2J");
        put(f, "/run/systemd/container", "lxc\x1b[2J\n");
        (void) check(f, "");
        g_autofree char *text = doctor_text(f->checks, false);
        g_assert_null(strchr(text, '\x1b'));
        assert_mend(f, "subids", "'a'");
}

static void test_reports(Fixture *f, gconstpointer unused) {
        fail(f, TRIAL_FUSE, ENOENT);
        (void) check(f, "");
        g_autofree char *json = doctor_json(f->checks), *colour = doctor_text(f->checks, true);
        json_t *array = json_loads(json, 0, NULL);
        g_assert_true(json_is_array(array));
        g_assert_cmpuint(json_array_size(array), ==, f->checks->len);
        for (guint i = 0; i < f->checks->len; i++) {
                const DoctorCheck *c = g_ptr_array_index(f->checks, i);
                json_t *object = json_array_get(array, i);
                g_assert_cmpstr(json_string_value(json_object_get(object, "id")), ==, c->id);
                g_assert_cmpstr(json_string_value(json_object_get(object, "found")), ==, c->found);
                g_assert_cmpstr(json_string_value(json_object_get(object, "mend")), ==, c->mend);
        }
        json_decref(array);
        g_assert_nonnull(strstr(colour, "\x1b[32mok"));
}

/* The real machine: whatever it has, every trial comes back, and the place for boxes is as before. */
static void test_real(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-doctor-test-XXXXXX", NULL);
        g_assert_true(g_setenv("XDG_DATA_HOME", dir, TRUE));
        g_autoptr(DoctorHost) host = doctor_host_new();
        for (unsigned i = 0; i < TRIAL_MAX; i++)
                g_assert_cmpint(host->trial[i], >=, TRIAL_NOT_RUN);
        g_assert_cmpint(host->trial[TRIAL_DATA], ==, 0);
        g_assert_cmpint(host->trial[TRIAL_CLOSE_RANGE], ==, 0);
        g_assert_cmpint(host->trial[TRIAL_USERNS], !=, TRIAL_NOT_RUN);
        g_assert_cmpint(g_rmdir(dir), ==, 0);
        g_autoptr(GPtrArray) checks = doctor_examine(host);
        g_assert_cmpuint(checks->len, >, 15);
}

#define ADD(name, function) g_test_add("/doctor/" name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        ADD("all-well", test_all_well);
        ADD("old-kernel", test_old_kernel);
        ADD("kernel-numbers", test_kernel_numbers);
        ADD("ubuntu-apparmor", test_ubuntu_apparmor);
        ADD("ubuntu-apparmor-at-mount", test_ubuntu_apparmor_at_mount);
        ADD("ubuntu-with-profile", test_ubuntu_with_profile);
        ADD("debian-sysctl", test_debian_sysctl);
        ADD("no-quota", test_no_quota);
        ADD("net-quota", test_net_quota);
        ADD("no-config", test_no_config);
        ADD("no-processes", test_no_processes);
        ADD("shell", test_shell);
        ADD("nothing-tried", test_nothing_tried);
        ADD("docker", test_docker);
        ADD("in-a-box", test_in_a_box);
        ADD("docker-does-not-boot", test_docker_does_not_boot);
        ADD("podman", test_podman);
        ADD("no-ranges", test_no_ranges);
        ADD("no-gid-range", test_no_gid_range);
        ADD("newuidmap", test_newuidmap);
        ADD("newuidmap-nosuid", test_newuidmap_nosuid);
        ADD("newuidmap-no-new-privs", test_newuidmap_no_new_privs);
        ADD("newuidmap-other-group", test_newuidmap_other_group);
        ADD("no-account", test_no_account);
        ADD("newuidmap-in-a-box", test_newuidmap_in_a_box);
        ADD("newuidmap-foreign", test_newuidmap_foreign);
        ADD("ranges-foreign", test_ranges_foreign);
        ADD("ranges-there", test_ranges_there);
        ADD("quota-around", test_quota_around);
        ADD("proc-read-only", test_proc_read_only);
        ADD("proc-of-others", test_proc_of_others);
        ADD("fedora", test_fedora);
        ADD("root", test_root);
        ADD("cgroups", test_cgroups);
        ADD("delegation", test_delegation);
        ADD("own-cgroup", test_own_cgroup);
        ADD("data", test_data);
        ADD("overlay", test_overlay);
        ADD("fuse", test_fuse);
        ADD("network", test_network);
        ADD("fast-path", test_fast_path);
        ADD("filters", test_filters);
        ADD("reasons", test_reasons);
        ADD("reason-apparmor", test_reason_apparmor);
        ADD("soft-losses", test_soft_losses);
        ADD("hostile-names", test_hostile_names);
        ADD("reports", test_reports);
        g_test_add_func("/doctor/real", test_real);
        return g_test_run();
}
