/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: subordinate ids and the programs that map them.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 */
#include "base/error.h"
#include "doctor-check.h"
#include "subid.h"

#define RANGE_WANTED 65536u

static const char lost[] = "no --user root, no --userns=subids, no ids but your own in a box: what belongs to root or anyone else shows as nobody's";

static const char mend_in_box[] = "usbox run --user root ..., of the box around this";

static guint64 count_ids(const GArray *ranges) {
        guint64 count = 0;
        for (guint i = 0; i < ranges->len; i++)
                count += g_array_index(ranges, SubidRange, i).count;
        return count;
}

/* In a container's user namespace the files may name ids that it does not have: nobody can map those. False: *ret is one such range. */
static bool has_ids(const DoctorHost *host, const char *map, const GArray *ranges, SubidRange *ret) {
        g_autofree char *text = doctor_read(host, map);
        g_autoptr(GArray) own = text ? subid_parse_map(text) : NULL;

        for (guint i = 0; own && i < ranges->len; i++) {
                *ret = g_array_index(ranges, SubidRange, i);
                if (!subid_contains(own, ret->start, ret->count))
                        return false;
        }
        return true;
}

/* shadow's files, by the reader that `run` uses. Ranges can also come from a name service (subid: in nsswitch.conf), which
 * only newuidmap can ask. */
static void check_ranges(const DoctorHost *host, GPtrArray *checks) {
        g_autofree char *uid_text = doctor_read(host, "/etc/subuid"), *gid_text = doctor_read(host, "/etc/subgid");
        g_autoptr(GArray) uids = subid_parse(uid_text ? uid_text : "", host->name, host->uid);
        g_autoptr(GArray) gids = subid_parse(gid_text ? gid_text : "", host->name, host->uid);
        g_autofree char *name = err_quote(host->name);
        guint64 n_uids = count_ids(uids), n_gids = count_ids(gids);

        if (host->uid == 0) {
                doctor_add(checks, "subids", "subordinate ids", DOCTOR_OK, "not needed by root");
                return;
        }
        if (host->served == ACCOUNT_NONE) {
                g_autofree char *account = account_mend(host->uid);
                DoctorCheck *check = doctor_add(checks, "subids", "subordinate ids", DOCTOR_DEGRADED, "the uid %s has no account", name);
                doctor_means(check, "%s: newuidmap serves nobody without one", lost);
                doctor_mend(check, "%s", account);
                return;
        }
        SubidRange foreign;
        if (!has_ids(host, "/proc/self/uid_map", uids, &foreign) || !has_ids(host, "/proc/self/gid_map", gids, &foreign)) {
                DoctorCheck *check = doctor_add(checks, "subids", "subordinate ids", DOCTOR_DEGRADED,
                                                "the range %" G_GUINT32_FORMAT ":%" G_GUINT32_FORMAT " of %s is not in the user namespace around this",
                                                foreign.start, foreign.count, name);
                doctor_means(check, "%s", lost);
                if (host->in_box)
                        doctor_mend(check, "%s", mend_in_box);
                else
                        doctor_mend(check, "give the container more ids where it is started, or %s a range in /etc/subuid and /etc/subgid of those that "
                                           "it has: cat /proc/self/uid_map", name);
                return;
        }
        if (n_uids >= RANGE_WANTED && n_gids >= RANGE_WANTED) {
                doctor_add(checks, "subids", "subordinate ids", DOCTOR_OK,
                           "%" G_GUINT64_FORMAT " uids and %" G_GUINT64_FORMAT " gids for %s", n_uids, n_gids, name);
                return;
        }
        guint32 start = subid_propose(uid_text ? uid_text : "", gid_text ? gid_text : "");
        DoctorCheck *check;
        if (n_uids == 0 || n_gids == 0) {
                check = doctor_add(checks, "subids", "subordinate ids", DOCTOR_DEGRADED, "%s has no range in %s", name,
                                   n_uids > 0 ? "/etc/subgid" : n_gids > 0 ? "/etc/subuid" : "/etc/subuid and /etc/subgid");
                doctor_means(check, "%s", lost);
        } else {
                check = doctor_add(checks, "subids", "subordinate ids", DOCTOR_DEGRADED,
                                   "%" G_GUINT64_FORMAT " uids and %" G_GUINT64_FORMAT " gids for %s", n_uids, n_gids, name);
                doctor_means(check, "with less than %u of each, programs that use other ids fail in a box (apt, for one)", RANGE_WANTED);
        }
        if (start > 0) {
                g_autofree char *quoted = doctor_word(host->name);
                guint32 end = start + RANGE_WANTED - 1;
                g_autoptr(GString) command = g_string_new("sudo usermod");
                if (n_uids < RANGE_WANTED)
                        g_string_append_printf(command, " --add-subuids %u-%u", start, end);
                if (n_gids < RANGE_WANTED)
                        g_string_append_printf(command, " --add-subgids %u-%u", start, end);
                doctor_mend(check, "%s %s", command->str, quoted);
        }
}

static void check_program(const DoctorHost *host, GPtrArray *checks, const char *id, const DoctorProgram *program, const char *capability) {
        if (host->uid == 0) {
                doctor_add(checks, id, id, DOCTOR_OK, "not needed by root");
                return;
        }
        if (!program->path) {
                g_autofree char *command = doctor_install_command(host, "uidmap", "shadow-utils");
                DoctorCheck *check = doctor_add(checks, id, id, DOCTOR_DEGRADED, "not in PATH");
                doctor_means(check, "%s", lost);
                doctor_mend(check, "%s", command);
                return;
        }
        g_autofree char *shown = err_quote(program->path);
        if ((program->privileged || program->foreign) && host->no_new_privs) {
                DoctorCheck *check = doctor_add(checks, id, id, DOCTOR_DEGRADED, "%s gains no rights here: no_new_privs is set", shown);
                doctor_means(check, "%s", lost);
                doctor_mend(check, "%s", host->in_box ? mend_in_box
                                                : "unset what set it (systemd: NoNewPrivileges=no; docker: no-new-privileges; Kubernetes: "
                                                  "allowPrivilegeEscalation; bubblewrap sets it always)");
                return;
        }
        if (program->privileged && host->served == ACCOUNT_OTHER_GROUP) {
                DoctorCheck *check = doctor_add(checks, id, id, DOCTOR_DEGRADED, "%s serves a caller in the group of their account alone, and %u is another",
                                                shown, (unsigned) host->gid);
                doctor_means(check, "%s", lost);
                doctor_mend(check, "leave the shell that newgrp or sg has started");
                return;
        }
        if (program->foreign) {
                DoctorCheck *check = doctor_add(checks, id, id, DOCTOR_DEGRADED, "%s gains no rights here: the user namespace around this has no root", shown);
                doctor_means(check, "%s", lost);
                doctor_mend(check, "start the container around this with ids for root and for your ranges");
                return;
        }
        if (program->privileged && !program->nosuid) {
                doctor_add(checks, id, id, DOCTOR_OK, "%s", shown);
                return;
        }
        g_autofree char *quoted = doctor_word(program->path);
        DoctorCheck *check = doctor_add(checks, id, id, DOCTOR_DEGRADED, "%s has no privilege%s", shown,
                                        program->privileged ? ": its file system is mounted nosuid" : "");
        doctor_means(check, "%s", lost);
        if (program->privileged)
                doctor_mend(check, "sudo mount -o remount,suid \"$(findmnt -no TARGET -T %s)\"", quoted);
        else if (doctor_is_fedora(host))
                doctor_mend(check, "sudo setcap %s=ep %s", capability, quoted);
        else
                doctor_mend(check, "sudo chown root: %s && sudo chmod u+s %s", quoted, quoted);
}

void doctor_check_ids(const DoctorHost *host, GPtrArray *checks) {
        check_ranges(host, checks);
        check_program(host, checks, "newuidmap", &host->newuidmap, "cap_setuid");
        check_program(host, checks, "newgidmap", &host->newgidmap, "cap_setgid");
}
