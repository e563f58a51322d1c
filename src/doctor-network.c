/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: the TAP, the TCP fast path, ping, and usbox's own helper programs.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 */
#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "doctor-check.h"

static void check_tun(const DoctorHost *host, GPtrArray *checks) {
        static const char without[] = "usbox run --network=none";
        int opened = host->trial[TRIAL_TUN_OPEN], made = host->trial[TRIAL_TUN_TAP];
        g_autofree char *container = doctor_container(host);

        if (opened == TRIAL_NOT_RUN) {
                doctor_add(checks, "tun", "/dev/net/tun", DOCTOR_INFO, NOT_TRIED);
                return;
        }
        if (opened == 0 && made == 0) {
                doctor_add(checks, "tun", "/dev/net/tun", DOCTOR_OK, "makes a TAP");
                return;
        }
        DoctorCheck *check = doctor_add(checks, "tun", "/dev/net/tun", DOCTOR_MISSING, "%s%s", opened == 0 ? "makes no TAP: " : "",
                                        err_text(MAX(opened == 0 ? made : opened, 0)));
        doctor_means(check, "no network in a box (--network=user)");
        if (doctor_container_mend(container))
                doctor_mend(check, "%s; or %s", doctor_container_mend(container), without);
        else if (opened == EACCES || opened == EPERM)
                doctor_mend(check, "sudo chmod 0666 /dev/net/tun; or %s", without);
        else
                doctor_mend(check, "echo tun | sudo tee /etc/modules-load.d/usbox-tun.conf && sudo modprobe tun; or %s", without);
}

static void check_fast_path(const DoctorHost *host, GPtrArray *checks) {
        if (!host->fast_path_tried) {
                doctor_add(checks, "fast-path", "TCP fast path", DOCTOR_INFO, NOT_TRIED);
                return;
        }
        if (!host->fast_path_error) {
                doctor_add(checks, "fast-path", "TCP fast path", DOCTOR_OK, "nf_tables, TPROXY and policy routing work");
                return;
        }
        g_autofree char *container = doctor_container(host);
        DoctorCheck *check = doctor_add(checks, "fast-path", "TCP fast path", DOCTOR_DEGRADED, "%s", host->fast_path_error);
        doctor_means(check, "TCP of boxes goes by frames, which is slower, and --tls-names is refused");
        if (g_strcmp0(container, "usbox") == 0) /* whose filter has no raw sockets, not even for what is in it */
                doctor_mend(check, "usbox run --nested --seccomp off ..., around this");
        else
                doctor_mend(check, "printf 'nf_tables\\nnft_tproxy\\n' | sudo tee /etc/modules-load.d/usbox-tcp.conf && sudo modprobe -a nf_tables nft_tproxy");
}

static void check_ping(const DoctorHost *host, GPtrArray *checks) {
        g_autofree char *text = doctor_read(host, "/proc/sys/net/ipv4/ping_group_range");
        unsigned first, last;

        if (text && sscanf(text, "%u %u", &first, &last) == 2)
                for (guint i = 0; i < host->groups->len; i++) {
                        gid_t gid = g_array_index(host->groups, gid_t, i);
                        if (gid >= first && gid <= last) {
                                doctor_add(checks, "ping", "ping sockets", DOCTOR_OK, "allowed for groups %u to %u", first, last);
                                return;
                        }
                }
        DoctorCheck *check = doctor_add(checks, "ping", "ping sockets", DOCTOR_DEGRADED, "net.ipv4.ping_group_range leaves your groups out");
        g_autofree char *command = doctor_sysctl_command("net.ipv4.ping_group_range", "0 2147483647");
        doctor_means(check, "ping in a box gets no answer from outside");
        doctor_mend(check, "%s", command);
}

static void check_helpers(const DoctorHost *host, GPtrArray *checks) {
        if (!host->missing_helper) {
                doctor_add(checks, "helpers", "helper programs", DOCTOR_OK, "%s", host->helpers);
                return;
        }
        DoctorCheck *check = doctor_add(checks, "helpers", "helper programs", DOCTOR_MISSING, "%s", host->missing_helper);
        doctor_means(check, "the installation of usbox is not whole");
        doctor_mend(check, "meson install -C DIR, in the directory where usbox was built");
}

void doctor_check_network(const DoctorHost *host, GPtrArray *checks) {
        check_tun(host, checks);
        check_fast_path(host, checks);
        check_ping(host, checks);
        check_helpers(host, checks);
}
