/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "doctor.h"

/* Between the files of doctor only. */

/* What a row says when its trial did not take place. */
#define NOT_TRIED "not tried: what it builds on is missing"

/* Not 0: AppArmor gives capabilities in user namespaces to those with a profile alone. */
#define DOCTOR_APPARMOR_RESTRICTS "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"

/* Why this process is not to be found in /proc, as what is said of /proc; NULL: it is. */
const char *doctor_proc_problem(void);

/* This process is in a box of usbox's. */
bool doctor_in_box(void);

/* Add a check; returns it, for doctor_means() and doctor_mend(). found is a format. */
DoctorCheck *doctor_add(GPtrArray *checks, const char *id, const char *title, DoctorState state, const char *found, ...)
        G_GNUC_PRINTF(5, 6);
void doctor_means(DoctorCheck *check, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void doctor_mend(DoctorCheck *check, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The file below host->root without white space at its end, at most 1 MiB; NULL where it cannot be read. */
char *doctor_read(const DoctorHost *host, const char *path);

/* A number in such a file, or fallback. */
gint64 doctor_read_number(const DoctorHost *host, const char *path, gint64 fallback);

/* Fedora, RHEL and what is made of them; everything else is spoken to as Debian and Ubuntu. */
bool doctor_is_fedora(const DoctorHost *host);

/* The command that installs a package, by the name it has in Debian or in Fedora. */
char *doctor_install_command(const DoctorHost *host, const char *debian, const char *fedora);

/* The command that sets a sysctl now and at every boot. */
char *doctor_sysctl_command(const char *key, const char *value);

/* text as one word of a shell command, safe to print. */
char *doctor_word(const char *text);

/* "docker", "podman", ... when the machine looks like a container; NULL. The caller's. */
char *doctor_container(const DoctorHost *host);

/* How such a container must be started for what a box needs; NULL where that is not known. */
const char *doctor_container_mend(const char *container);

/* The modules of checks, in the order of the report. The first says whether the trials of all others could be made. */
bool doctor_check_shell(const DoctorHost *host, GPtrArray *checks);
void doctor_check_kernel(const DoctorHost *host, GPtrArray *checks);
void doctor_check_userns(const DoctorHost *host, GPtrArray *checks);
void doctor_check_files(const DoctorHost *host, GPtrArray *checks);
void doctor_check_ids(const DoctorHost *host, GPtrArray *checks);
void doctor_check_network(const DoctorHost *host, GPtrArray *checks);
void doctor_check_limits(const DoctorHost *host, GPtrArray *checks);
