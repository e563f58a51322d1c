/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: the kernel, its namespaces, and who forbids them.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 */
#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "doctor-check.h"

/* mount_setattr(2) is the youngest thing that a box needs. */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 12

#define LANDLOCK_ABI_USED 2 /* before it, renames between directories were refused as a side effect */

static void check_version(const DoctorHost *host, GPtrArray *checks) {
        unsigned major = 0, minor = 0;
        g_autofree char *shown = err_quote(host->kernel);

        bool read = sscanf(host->kernel, "%u.%u", &major, &minor) == 2;
        bool enough = read && (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR));
        DoctorCheck *check = doctor_add(checks, "kernel", "kernel version", enough ? DOCTOR_OK : DOCTOR_MISSING, "Linux %s", shown);
        if (enough)
                return;
        doctor_means(check, "usbox needs Linux %d.%d: mounts are changed by mount_setattr", KERNEL_MAJOR, KERNEL_MINOR);
        doctor_mend(check, "%s", doctor_is_fedora(host) ? "sudo dnf upgrade kernel && sudo reboot"
                                                        : "sudo apt-get install linux-image-amd64 (Ubuntu: linux-generic; another "
                                                          "architecture: its own), from a release with that kernel: Debian 12, Ubuntu "
                                                          "22.04; then sudo reboot");
}

/* Who may have set one, and what to do about it. */
static void blame_filter(const DoctorHost *host, DoctorCheck *check, const char *what, const char *effect) {
        g_autofree char *container = doctor_container(host);
        const char *mend = doctor_container_mend(container);

        doctor_means(check, "%s seccomp filter%s%s %s", what, container ? " of " : " around this shell", container ? container : "", effect);
        doctor_mend(check, "%s", mend ? mend : "start usbox from where no filter is (grep Seccomp: /proc/self/status says 2 under one); that of a systemd "
                                               "service is SystemCallFilter= in its unit: systemctl cat NAME");
}

static void check_calls(const DoctorHost *host, GPtrArray *checks) {
        g_autoptr(GString) good = g_string_new(NULL), bad = g_string_new(NULL);

        for (const DoctorCall *call = doctor_calls; call->name; call++) {
                int result = host->trial[call->trial];
                GString *list = result == 0 ? good : bad;
                g_string_append_printf(list, "%s%s", list->len > 0 ? ", " : "", call->name);
                if (result > 0)
                        g_string_append_printf(list, " (%s)", err_text(result));
        }
        if (bad->len == 0) {
                doctor_add(checks, "syscalls", "system calls", DOCTOR_OK, "%s", good->str);
                return;
        }
        DoctorCheck *check = doctor_add(checks, "syscalls", "system calls", DOCTOR_MISSING, "refused: %s", bad->str);
        blame_filter(host, check, "the kernel is too old or a", "forbids them");
}

static void check_seccomp(const DoctorHost *host, GPtrArray *checks) {
        int result = host->trial[TRIAL_SECCOMP];
        if (result == 0) {
                doctor_add(checks, "seccomp", "seccomp filters", DOCTOR_OK, "accepted");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "seccomp", "seccomp filters", DOCTOR_MISSING, "refused: %s", err_text(MAX(result, 0)));
        if (result != EINVAL) { /* what a kernel without them says */
                blame_filter(host, check, "a", "forbids more of them: what runs in the box could make every system call");
                return;
        }
        doctor_means(check, "what runs in the box could make every system call");
        doctor_mend(check, "boot a kernel with CONFIG_SECCOMP_FILTER=y, as those of Debian, Ubuntu and Fedora are");
}

static void check_landlock(const DoctorHost *host, GPtrArray *checks) {
        int refused = host->trial[TRIAL_LANDLOCK];
        if (refused > 0) {
                DoctorCheck *check = doctor_add(checks, "landlock", "Landlock", DOCTOR_MISSING, "refused: %s", err_text(refused));
                blame_filter(host, check, "a", "forbids some of its calls: usbox-net and usbox-fs do not confine themselves by half of it");
                return;
        }
        if (host->landlock_abi >= LANDLOCK_ABI_USED) {
                doctor_add(checks, "landlock", "Landlock", DOCTOR_OK, "ABI %d", host->landlock_abi);
                return;
        }
        g_autofree char *lsm = doctor_read(host, "/sys/kernel/security/lsm");
        g_autofree char *shown = lsm ? err_quote(lsm) : NULL, *container = doctor_container(host);
        DoctorCheck *check = doctor_add(checks, "landlock", "Landlock", DOCTOR_DEGRADED, host->landlock_abi > 0 ? "ABI %d" : "not active",
                                        host->landlock_abi);
        doctor_means(check, "usbox-net and usbox-fs have one wall less");
        if (host->landlock_abi > 0)
                doctor_mend(check, "boot Linux 5.19 or newer");
        else if (container)
                doctor_mend(check, "on the machine that runs the container (%s): usbox doctor there says how to boot it with Landlock", container);
        else if (!lsm)
                doctor_mend(check, "boot a kernel with CONFIG_SECURITY_LANDLOCK=y and landlock in its lsm= list");
        else if (doctor_is_fedora(host))
                doctor_mend(check, "sudo grubby --update-kernel=ALL --args=lsm=landlock,%s && sudo reboot", shown);
        else
                doctor_mend(check, "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&lsm=landlock,%s /' /etc/default/grub && sudo update-grub && "
                                   "sudo reboot", shown);
}

static void check_keyring(const DoctorHost *host, GPtrArray *checks) {
        int result = host->trial[TRIAL_KEYRING];
        if (result == 0) {
                doctor_add(checks, "keyring", "session keyring", DOCTOR_OK, "can be replaced");
                return;
        }
        if (result == ENOSYS) {
                doctor_add(checks, "keyring", "session keyring", DOCTOR_OK, "this kernel has no keys to hide");
                return;
        }
        g_autofree char *container = doctor_container(host);
        const char *mend = doctor_container_mend(container);
        DoctorCheck *check = doctor_add(checks, "keyring", "session keyring", DOCTOR_MISSING, "%s", err_text(MAX(result, 0)));
        doctor_means(check, "the box would see your keys (Kerberos, fscrypt)");
        if (result == EDQUOT)
                doctor_mend(check, "you have too many keys: see /proc/key-users, then: keyctl list @us; or usbox run --best-effort=keyring");
        else
                doctor_mend(check, "%s%susbox run --best-effort=keyring", mend ? mend : "", mend ? "; or " : "");
}

void doctor_check_kernel(const DoctorHost *host, GPtrArray *checks) {
        check_version(host, checks);
        check_calls(host, checks);
        check_seccomp(host, checks);
        check_landlock(host, checks);
        check_keyring(host, checks);
}
