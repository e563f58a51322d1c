/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: what the shell that started it has set, and where it stands.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost.
 */

#include "base/error.h"
#include "doctor-check.h"

/* A run has some forty open, in the launcher and in usbox-fs; what a box does opens more of those. */
#define FILES_WANTED 48u

static void check_workdir(const DoctorHost *host, GPtrArray *checks) {
        if (host->workdir_error == 0) {
                doctor_add(checks, "workdir", "working directory", DOCTOR_OK, "can be entered");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "workdir", "working directory", DOCTOR_MISSING, "%s", err_text(host->workdir_error));
        doctor_means(check, "a command has the same one in its box");
        doctor_mend(check, "cd, or usbox run from another directory, one that exists and that you may enter");
}

static void check_files(const DoctorHost *host, GPtrArray *checks) {
        if (host->open_files >= FILES_WANTED) {
                doctor_add(checks, "open-files", "open files", DOCTOR_OK, "enough of them are allowed");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "open-files", "open files", DOCTOR_MISSING, "no more than %" G_GUINT64_FORMAT " are allowed", host->open_files);
        doctor_means(check, "a box takes some forty, and a few more for each port");
        doctor_mend(check, "ulimit -n 1024, where the hard limit (ulimit -Hn) is that high; else in a new login, or: sudo prlimit --pid $$ --nofile=1024");
}

/* The launcher shares so much with a box's init, of which it uses a little. */
static void check_memory(const DoctorHost *host, GPtrArray *checks) {
        int result = host->trial[TRIAL_MEMORY];

        if (result == 0) {
                doctor_add(checks, "memory", "address space", DOCTOR_OK, "there is room to share");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "memory", "address space", DOCTOR_MISSING, "none to share with a box: %s", err_text(MAX(result, 0)));
        doctor_means(check, "a limit on it (ulimit -v) is too small, or the machine's memory is all promised (vm.overcommit_memory)");
        doctor_mend(check, "ulimit -v unlimited, where the hard limit (ulimit -Hv) is that high; else in a new login, or: "
                           "sudo prlimit --pid $$ --as=unlimited");
}

bool doctor_check_shell(const DoctorHost *host, GPtrArray *checks) {
        int result = host->trial[TRIAL_PROCESSES];

        check_workdir(host, checks);
        check_files(host, checks);
        check_memory(host, checks);
        if (result == 0) {
                doctor_add(checks, "processes", "processes", DOCTOR_OK, "as many as a box has can be started");
                return true;
        }
        DoctorCheck *check = doctor_add(checks, "processes", "processes", DOCTOR_MISSING, "cannot be started: %s", err_text(MAX(result, 0)));
        doctor_means(check, "a box has about ten of its own; nor can be tried what else it needs");
        doctor_mend(check, "end some processes of this user, or raise the limit on them (ulimit -u; of a session or container: pids.max); then "
                           "usbox doctor again");
        return false;
}
