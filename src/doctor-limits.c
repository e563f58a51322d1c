/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: cgroups, their delegation to the user, and the user's systemd.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "doctor-check.h"

static const char lost[] = "no limits of memory, processors and processes for a box";

/* A row of /proc/PID/cgroup is HIERARCHY:CONTROLLERS:PATH; version 2 is "0::PATH" (cgroups(7)). */
typedef struct {
        bool v1, v2;
        char *path; /* ours in version 2 */
} OwnCgroup;

static void own_cgroup_clear(OwnCgroup *c) {
        g_free(c->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OwnCgroup, own_cgroup_clear)

static void read_own_cgroup(const DoctorHost *host, OwnCgroup *ret) {
        g_autofree char *text = doctor_read(host, "/proc/self/cgroup");
        g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

        for (char **line = lines; *line; line++) {
                if (g_str_has_prefix(*line, "0::/")) {
                        ret->v2 = true;
                        g_free(ret->path);
                        ret->path = g_strdup(*line + strlen("0::"));
                } else if (strchr(*line, ':'))
                        ret->v1 = true;
        }
}

/* The machine is booted elsewhere, and its systemd is not at hand. */
static bool is_container_without_systemd(const DoctorHost *host) {
        g_autofree char *container = doctor_container(host), *systemd = g_strconcat(host->root, "/run/systemd/system", NULL);

        return container && !g_file_test(systemd, G_FILE_TEST_IS_DIR);
}

/* In such a one nothing that is done inside mends it. */
static void mend(const DoctorHost *host, DoctorCheck *check, const char *elsewhere) {
        static const char container[] = "limit the container as a whole where it is started: docker run or podman run --memory, --cpus, --pids-limit";

        doctor_mend(check, "%s", is_container_without_systemd(host) ? container : elsewhere);
}

static void check_version(const DoctorHost *host, GPtrArray *checks, const OwnCgroup *own) {
        if (own->v2 && !own->v1) {
                doctor_add(checks, "cgroup", "cgroups", DOCTOR_OK, "version 2");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "cgroup", "cgroups", DOCTOR_DEGRADED, "%s",
                                        own->v2 ? "hybrid: the controllers are in version 1" : own->v1 ? "version 1" : "none");
        doctor_means(check, "%s: version 1 cannot be given to a user", lost);
        mend(host, check,
             doctor_is_fedora(host) ? "sudo grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1 && sudo reboot"
                                    : "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && "
                                      "sudo update-grub && sudo reboot");
}

/* No systemd for the user, but a cgroup that he may write, as in a container: its controllers; the caller's. NULL: it is not his. */
static char *own_controllers(const DoctorHost *host, const OwnCgroup *own) {
        g_autofree char *procs = g_strconcat(host->root, "/sys/fs/cgroup", own->path, "/cgroup.procs", NULL);
        g_autofree char *path = g_strconcat("/sys/fs/cgroup", own->path, "/cgroup.controllers", NULL);

        return access(procs, W_OK) == 0 ? doctor_read(host, path) : NULL;
}

/* What the user's systemd may hand on: the controllers of its own cgroup. */
static void check_delegation(const DoctorHost *host, GPtrArray *checks, const OwnCgroup *own) {
        static const char *const wanted[] = { "cpu", "cpuset", "io", "memory", "pids" };
        g_autofree char *path = g_strdup_printf("/sys/fs/cgroup/user.slice/user-%u.slice/user@%u.service/cgroup.controllers",
                                                (unsigned) host->uid, (unsigned) host->uid);
        g_autofree char *text = doctor_read(host, path);
        g_auto(GStrv) have = g_strsplit(text ? text : "", " ", -1);
        g_autoptr(GString) absent = g_string_new(NULL);
        g_autofree char *of_own = text ? NULL : own_controllers(host, own);

        if (of_own) {
                doctor_add(checks, "delegation", "cgroup delegation", DOCTOR_OK, "no systemd runs for this user, but the cgroup %s is his: %s", own->path,
                           of_own);
                return;
        }
        if (!text) {
                DoctorCheck *check = doctor_add(checks, "delegation", "cgroup delegation", DOCTOR_DEGRADED, "no systemd runs for this user");
                g_autofree char *quoted = doctor_word(host->name);
                g_autofree char *linger = g_strdup_printf("sudo loginctl enable-linger %s (where systemd runs the machine)", quoted);
                doctor_means(check, "%s", lost);
                mend(host, check, linger);
                return;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++)
                if (!g_strv_contains((const char *const *) have, wanted[i]))
                        g_string_append_printf(absent, "%s%s", absent->len > 0 ? ", " : "", wanted[i]);
        if (absent->len == 0) {
                doctor_add(checks, "delegation", "cgroup delegation", DOCTOR_OK, "cpu, cpuset, io, memory, pids");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "delegation", "cgroup delegation", DOCTOR_DEGRADED, "not delegated: %s", absent->str);
        doctor_means(check, "no limits by these controllers");
        doctor_mend(check, "sudo mkdir -p /etc/systemd/system/user@.service.d && "
                           "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
                           "sudo tee /etc/systemd/system/user@.service.d/usbox-delegate.conf && sudo systemctl daemon-reload, "
                           "then log out and in");
}

static void check_runtime_dir(const DoctorHost *host, GPtrArray *checks) {
        g_autofree char *dir = err_quote(host->runtime_dir), *quoted = doctor_word(host->name);

        if (!host->runtime_dir_ok) {
                DoctorCheck *check = doctor_add(checks, "runtime-dir", "runtime directory", DOCTOR_DEGRADED, "%s is not there or not yours", dir);
                doctor_means(check, "no user bus, no desktop sockets for --profile desktop");
                if (is_container_without_systemd(host))
                        doctor_mend(check, "export XDG_RUNTIME_DIR=$(mktemp -d)");
                else
                        doctor_mend(check, "log in anew (by su or sudo there is none: sudo machinectl shell %s@)", quoted);
        } else
                doctor_add(checks, "runtime-dir", "runtime directory", DOCTOR_OK, "%s", dir);

        int result = host->trial[TRIAL_BUS];
        if (result == 0) {
                doctor_add(checks, "bus", "systemd user bus", DOCTOR_OK, "%s/bus", dir);
                return;
        }
        g_autofree char *command = doctor_install_command(host, "dbus-user-session", "dbus-daemon");
        g_autofree char *anew = g_strconcat(command, ", then log in anew", NULL);
        DoctorCheck *check = doctor_add(checks, "bus", "systemd user bus", DOCTOR_DEGRADED, "%s/bus: %s", dir, err_text(MAX(result, 0)));
        doctor_means(check, "%s: the user's systemd makes the cgroups", lost);
        mend(host, check, anew);
}

void doctor_check_limits(const DoctorHost *host, GPtrArray *checks) {
        g_auto(OwnCgroup) own = { 0 };

        read_own_cgroup(host, &own);
        check_version(host, checks, &own);
        if (own.v2 && !own.v1)
                check_delegation(host, checks, &own);
        check_runtime_dir(host, checks);
}
