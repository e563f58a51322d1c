/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: user namespaces, all other namespaces, and who forbids them.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 *
 * Whether user namespaces work is what the trial says. Several parties may have said no, and each has another remedy: a
 * sysctl of Debian's or the kernel's own quota, here or in a user namespace around this one, a /proc that is read-only,
 * Ubuntu's AppArmor (which lets the namespace be made, but without its capabilities), the seccomp filter of a container
 * around us, or the kernel's configuration.
 */
#include <errno.h>

#include "base/error.h"
#include "doctor-check.h"
#include "user.h"

/* RHEL's documentation and rootless podman's use it where the distribution has 0. */
#define NAMESPACES_WANTED "15000"

static const struct {
        DoctorTrial trial;
        const char *name;
        const char *sysctl; /* its quota (namespaces(7)) */
        const char *config;
} namespaces[] = {
        { TRIAL_NS_MOUNT, "mount", "user.max_mnt_namespaces", "CONFIG_NAMESPACES" },
        { TRIAL_NS_PID, "pid", "user.max_pid_namespaces", "CONFIG_PID_NS" },
        { TRIAL_NS_NET, "network", "user.max_net_namespaces", "CONFIG_NET_NS" },
        { TRIAL_NS_IPC, "ipc", "user.max_ipc_namespaces", "CONFIG_IPC_NS" },
        { TRIAL_NS_UTS, "uts", "user.max_uts_namespaces", "CONFIG_UTS_NS" },
        { TRIAL_NS_CGROUP, "cgroup", "user.max_cgroup_namespaces", "CONFIG_CGROUPS" },
        { TRIAL_NS_TIME, "time", "user.max_time_namespaces", "CONFIG_TIME_NS" },
};

/* The steps of a user namespace's life: the errno of the first that failed, TRIAL_NOT_RUN where none failed but not all could be
 * tried, else 0. */
static int first_failure(const DoctorHost *host, const char **ret_step) {
        static const struct {
                DoctorTrial trial;
                const char *step;
        } steps[] = {
                { TRIAL_USERNS, "cannot be made" },
                { TRIAL_USERNS_MAP, "its id maps cannot be written" },
                { TRIAL_USERNS_CAPS, "it gives no capabilities" },
                { TRIAL_USERNS_INNER, "no second one inside it" },
        };
        int mount_ns = host->trial[TRIAL_NS_MOUNT];
        int result = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
                *ret_step = steps[i].step;
                /* Its quota may be used up, but what has CAP_SYS_ADMIN may make one. */
                if (steps[i].trial == TRIAL_USERNS_CAPS && (mount_ns == EPERM || mount_ns == EACCES))
                        return mount_ns;
                if (host->trial[steps[i].trial] > 0)
                        return host->trial[steps[i].trial];
                if (host->trial[steps[i].trial] == TRIAL_NOT_RUN)
                        result = TRIAL_NOT_RUN;
        }
        return result;
}

static void mend_by_sysctl(DoctorCheck *check, const char *key, const char *value) {
        g_autofree char *command = doctor_sysctl_command(key, value);
        doctor_mend(check, "%s", command);
}

static void blame_apparmor(const DoctorHost *host, DoctorCheck *check) {
        doctor_means(check, "AppArmor gives capabilities in user namespaces only to programs with a profile that says so "
                            "(kernel.apparmor_restrict_unprivileged_userns)");
        if (!host->apparmor_profile) {
                mend_by_sysctl(check, "kernel.apparmor_restrict_unprivileged_userns", "0");
                return;
        }
        g_autofree char *quoted = doctor_word(host->apparmor_profile);
        doctor_mend(check, "sudo install -m 644 %s /etc/apparmor.d/usbox && sudo apparmor_parser -r /etc/apparmor.d/usbox", quoted);
}

/* A quota holds for all that is made below it, too, and is seen only where it was set. */
static void blame_quota(const DoctorHost *host, DoctorCheck *check) {
        gint64 limit = doctor_read_number(host, "/proc/sys/user/max_user_namespaces", 0);

        if (limit < g_ascii_strtoll(NAMESPACES_WANTED, NULL, 10)) {
                doctor_means(check, "the number of user namespaces is limited to %" G_GINT64_FORMAT " (user.max_user_namespaces)", limit);
                mend_by_sysctl(check, "user.max_user_namespaces", NAMESPACES_WANTED);
                return;
        }
        doctor_means(check, "no more may be made: the limit is %" G_GINT64_FORMAT " here (user.max_user_namespaces), a user namespace around this "
                            "may have one of its own, and no more than 32 go one within another", limit);
        doctor_mend(check, "start what is around this without such a limit (bubblewrap: without --disable-userns)");
}

/* Why the kernel said no, from the most to the least certain sign. */
static void explain(const DoctorHost *host, DoctorCheck *check, int errnum) {
        g_autofree char *container = doctor_container(host);
        bool denied = errnum == EPERM || errnum == EACCES;

        if (denied && doctor_read_number(host, "/proc/sys/kernel/unprivileged_userns_clone", 1) == 0) {
                doctor_means(check, "only root may make user namespaces (kernel.unprivileged_userns_clone is 0)");
                mend_by_sysctl(check, "kernel.unprivileged_userns_clone", "1");
        } else if (errnum == ENOSPC || doctor_read_number(host, "/proc/sys/user/max_user_namespaces", 1) == 0) {
                blame_quota(host, check);
        } else if (errnum == EROFS) {
                doctor_means(check, "/proc is read-only here, and id maps are written there");
                doctor_mend(check, "give the container around this a /proc that can be written (bubblewrap: --proc /proc)");
        } else if (errnum == EPERM && host->uid == 0 && host->trial[TRIAL_USERNS_MAP] == EPERM) {
                doctor_means(check, "root without capabilities, as in a container that drops them, may map no ids");
                doctor_mend(check, USER_GIVE_ROOT);
        } else if (denied && doctor_read_number(host, DOCTOR_APPARMOR_RESTRICTS, 0) != 0) {
                blame_apparmor(host, check);
        } else if (denied && container) {
                doctor_means(check, "the container around this (%s) forbids them", container);
                if (doctor_container_mend(container))
                        doctor_mend(check, "%s", doctor_container_mend(container));
        } else if (denied && doctor_read_number(host, "/sys/fs/selinux/enforce", 0) == 1) {
                doctor_means(check, "SELinux is enforcing and may be what forbids them");
                doctor_mend(check, "sudo ausearch -m avc -ts recent -c usbox, which shows the rule that is wanted");
        } else if (errnum == EINVAL || errnum == ENOSYS) {
                doctor_means(check, "the kernel is built without them");
                doctor_mend(check, "boot a kernel with CONFIG_USER_NS=y, as those of Debian, Ubuntu and Fedora are");
        } else
                doctor_means(check, "a seccomp filter, a security module or a chroot around this shell forbids them");
}

static void check_user_namespace(const DoctorHost *host, GPtrArray *checks) {
        const char *step;
        int errnum = first_failure(host, &step);

        if (errnum == 0) {
                doctor_add(checks, "userns", "user namespaces", DOCTOR_OK, "work, one inside another");
                return;
        }
        if (errnum == TRIAL_NOT_RUN) {
                if (host->trial[TRIAL_USERNS_MAP] == 0)
                        doctor_add(checks, "userns", "user namespaces", DOCTOR_OK, "can be made");
                else
                        doctor_add(checks, "userns", "user namespaces", DOCTOR_MISSING, "could not be tried: no new process can be made");
                return;
        }
        explain(host, doctor_add(checks, "userns", "user namespaces", DOCTOR_MISSING, "%s: %s", step, err_text(errnum)), errnum);
}

static void check_other_namespaces(const DoctorHost *host, GPtrArray *checks) {
        g_autoptr(GString) bad = g_string_new(NULL), mend = g_string_new(NULL);
        bool tried = false;

        for (size_t i = 0; i < G_N_ELEMENTS(namespaces); i++) {
                int result = host->trial[namespaces[i].trial];
                tried = tried || result != TRIAL_NOT_RUN;
                if (result <= 0)
                        continue;
                g_string_append_printf(bad, "%s%s (%s)", bad->len > 0 ? ", " : "", namespaces[i].name, err_text(result));
                g_autofree char *command = NULL;
                if (result == ENOSPC)
                        command = doctor_sysctl_command(namespaces[i].sysctl, NAMESPACES_WANTED);
                else if (result == EINVAL)
                        command = g_strdup_printf("boot a kernel with %s=y", namespaces[i].config);
                if (command)
                        g_string_append_printf(mend, "%s%s", mend->len > 0 ? "; " : "", command);
        }
        if (!tried) {
                doctor_add(checks, "namespaces", "other namespaces", DOCTOR_INFO, NOT_TRIED);
                return;
        }
        if (bad->len == 0) {
                doctor_add(checks, "namespaces", "other namespaces", DOCTOR_OK, "mount, pid, network, ipc, uts, cgroup, time");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "namespaces", "other namespaces", DOCTOR_MISSING, "refused: %s", bad->str);
        doctor_means(check, "a box has one of each of its own");
        if (mend->len > 0)
                doctor_mend(check, "%s", mend->str);
}

/* Who else has a say here; rows only where there is somebody. */
static void check_guards(const DoctorHost *host, GPtrArray *checks) {
        gint64 restricted = doctor_read_number(host, DOCTOR_APPARMOR_RESTRICTS, -1);
        gint64 enforcing = doctor_read_number(host, "/sys/fs/selinux/enforce", -1);
        g_autofree char *container = doctor_container(host);

        if (restricted >= 0) {
                g_autofree char *label = doctor_read(host, "/proc/self/attr/apparmor/current");
                g_autofree char *shown = err_quote(label ? label : "unconfined");
                doctor_add(checks, "apparmor", "AppArmor", DOCTOR_INFO, "user namespaces are %s; usbox runs as %s",
                           restricted == 0 ? "not restricted" : "for programs with a profile", shown);
        }
        if (enforcing >= 0) {
                g_autofree char *label = doctor_read(host, "/proc/self/attr/current");
                g_autofree char *shown = err_quote(label ? label : "unknown");
                doctor_add(checks, "selinux", "SELinux", DOCTOR_INFO, "%s; usbox runs as %s", enforcing ? "enforcing" : "permissive", shown);
        }
        if (container)
                doctor_add(checks, "container", "container", DOCTOR_INFO, "this looks like a container of %s", container);
}

void doctor_check_userns(const DoctorHost *host, GPtrArray *checks) {
        check_guards(host, checks);
        check_user_namespace(host, checks);
        check_other_namespaces(host, checks);
}
