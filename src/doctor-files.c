/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: /proc, /sys, the overlay, and where boxes are kept.
 *
 * Role: verb. Privileges: none needed. Threads: one. Pure functions over DoctorHost and files below its root.
 */
#include <errno.h>

#include "base/error.h"
#include "doctor-check.h"
#include "mount.h"
#include "mountinfo.h"

#define SPACE_LOW (G_GUINT64_CONSTANT(1) << 30)

/* A mount point at or below dir that is not the file system itself: it covers something of it. NULL where there is none. */
static char *covered_by(const DoctorHost *host, const char *dir) {
        g_autofree char *text = doctor_read(host, "/proc/self/mountinfo");
        g_autoptr(GPtrArray) points = mountinfo_points(text ? text : "");

        for (guint i = 0; i < points->len; i++) {
                const char *point = g_ptr_array_index(points, i);
                /* An automount on an empty directory of the kernel's own covers nothing. */
                if (path_is_below(point, dir) && !g_str_equal(point, "/proc/sys/fs/binfmt_misc") && !g_str_has_prefix(point, "/sys/fs/") &&
                    !g_str_has_prefix(point, "/sys/kernel/"))
                        return err_quote(point);
        }
        return NULL;
}

static void check_pseudo(const DoctorHost *host, GPtrArray *checks, const char *id, const char *dir, DoctorTrial trial, const char *otherwise) {
        int result = host->trial[trial];

        if (result == TRIAL_NOT_RUN) {
                doctor_add(checks, id, dir, DOCTOR_INFO, NOT_TRIED);
                return;
        }
        if (result == 0) {
                doctor_add(checks, id, dir, DOCTOR_OK, "can be mounted anew");
                return;
        }
        g_autofree char *cover = covered_by(host, dir), *container = doctor_container(host);
        DoctorCheck *check = doctor_add(checks, id, dir, DOCTOR_MISSING, "cannot be mounted anew: %s", err_text(result));
        if (cover)
                doctor_means(check, "the kernel gives no second %s where mounts (%s, ...) cover parts of the first", dir, cover);
        else
                doctor_means(check, "the box has its own %s", dir);
        const char *mend = doctor_container_mend(container);
        if (mend)
                doctor_mend(check, "%s%s%s", mend, otherwise ? "; or " : "", otherwise ? otherwise : "");
        else if (cover)
                doctor_mend(check, "sudo umount %s, and what else is mounted below %s%s%s", cover, dir, otherwise ? "; or " : "",
                            otherwise ? otherwise : "");
        else if (otherwise)
                doctor_mend(check, "%s", otherwise);
}

static void check_data(const DoctorHost *host, GPtrArray *checks) {
        int result = host->trial[TRIAL_DATA];
        g_autofree char *dir = err_quote(host->data_dir), *quoted = doctor_word(host->data_dir);
        static const char move[] = "export XDG_DATA_HOME=DIR, a directory of your own on a local disk";

        if (result != 0) {
                DoctorCheck *check = doctor_add(checks, "data", "place for boxes", DOCTOR_MISSING, "%s: %s", dir, err_text(MAX(result, 0)));
                doctor_means(check, "what boxes change is kept there");
                doctor_mend(check, "%s", result == ENOSPC || result == EDQUOT ? "free some space there, or: export XDG_DATA_HOME=DIR elsewhere" : move);
                return;
        }
        if (host->data_foreign) {
                DoctorCheck *check =
                        doctor_add(checks, "data", "place for boxes", DOCTOR_MISSING, "%s is another user's, or others may write to it", dir);
                doctor_mend(check, "chmod go-w %s; if it is another user's: %s", quoted, move);
                return;
        }
        if (host->data_free < SPACE_LOW) {
                DoctorCheck *check = doctor_add(checks, "data", "place for boxes", DOCTOR_DEGRADED,
                                                "%s has %" G_GUINT64_FORMAT " MiB left", dir, host->data_free >> 20);
                doctor_means(check, "programs in boxes will soon find the disk full");
                doctor_mend(check, "free some space there, or: export XDG_DATA_HOME=DIR elsewhere");
                return;
        }
        if (host->data_free == G_MAXUINT64)
                doctor_add(checks, "data", "place for boxes", DOCTOR_OK, "%s", dir);
        else
                doctor_add(checks, "data", "place for boxes", DOCTOR_OK, "%s, %.1f GiB free", dir, (double) host->data_free / (1 << 30));
}

static void check_boxes_runtime(const DoctorHost *host, GPtrArray *checks) {
        static const char means[] = "usbox ps, exec, stop and their like find running boxes there";
        g_autofree char *dir = err_quote(host->boxes_runtime), *quoted = doctor_word(host->boxes_runtime);
        DoctorCheck *check;

        if (host->boxes_runtime_error) {
                check = doctor_add(checks, "boxes-runtime", "place for running boxes", DOCTOR_DEGRADED, "%s", host->boxes_runtime_error);
                doctor_means(check, "%s", means);
                doctor_mend(check, "chmod 700 %s; if it is another user's: export XDG_RUNTIME_DIR=DIR, a directory of your own", quoted);
        } else if (host->boxes_runtime_tmp) {
                check = doctor_add(checks, "boxes-runtime", "place for running boxes", DOCTOR_INFO, "%s, as there is no runtime directory of yours", dir);
                doctor_means(check, "%s", means);
        } else {
                doctor_add(checks, "boxes-runtime", "place for running boxes", DOCTOR_OK, "%s", dir);
        }
}

static void check_overlay(const DoctorHost *host, GPtrArray *checks) {
        const char *without = OVERLAY_DEFAULT == OVERLAY_KERNEL ? "usbox run --overlay=none" : "usbox run --overlay=fuse";
        /* The kernel's overlay is the root only where it is the default, else it is for an option, and over project hooks. */
        const DoctorState lost = OVERLAY_DEFAULT == OVERLAY_KERNEL ? DOCTOR_MISSING : DOCTOR_DEGRADED;
        int mounted = host->trial[TRIAL_OVERLAY], edited = host->trial[TRIAL_OVERLAY_EDIT], xattr = host->trial[TRIAL_XATTR];
        DoctorCheck *check;

        if (mounted == TRIAL_NOT_RUN) {
                doctor_add(checks, "overlay", "overlayfs", DOCTOR_INFO, NOT_TRIED);
                return;
        }
        if (mounted == 0 && edited == 0 && xattr == 0) {
                doctor_add(checks, "overlay", "overlayfs", DOCTOR_OK, "works with userxattr over the place for boxes");
                return;
        }
        if (mounted == ENODEV) {
                check = doctor_add(checks, "overlay", "overlayfs", lost, "this kernel has not loaded it");
                doctor_mend(check, "echo overlay | sudo tee /etc/modules-load.d/usbox-overlay.conf && sudo modprobe overlay");
        } else if (xattr > 0) {
                check = doctor_add(checks, "overlay", "overlayfs", DOCTOR_MISSING, "no user.* attributes in the place for boxes: %s",
                                   err_text(xattr));
                doctor_mend(check, "export XDG_DATA_HOME=DIR, a directory on ext4, xfs or btrfs (tmpfs from Linux 6.6); or usbox run --overlay=none");
        } else {
                check = doctor_add(checks, "overlay", "overlayfs", lost, "%s: %s",
                                   mounted > 0 ? "cannot be mounted over the place for boxes" : "cannot be written to",
                                   err_text(MAX(mounted > 0 ? mounted : edited, 0)));
                doctor_mend(check, "export XDG_DATA_HOME=DIR, a directory on a local ext4, xfs or btrfs; or %s", without);
        }
        doctor_means(check, check->state == DOCTOR_MISSING ? "the box cannot see the machine's files copy-on-write" :
                                                             "no --overlay=kernel; no --rw of a tree with project hooks but with --rw-hooks");
}

static void check_fuse(const DoctorHost *host, GPtrArray *checks) {
        static const char without[] = "usbox run --overlay=kernel";
        /* What the default needs is needed; what an option needs is that option's loss. */
        const DoctorState lost = OVERLAY_DEFAULT == OVERLAY_FUSE ? DOCTOR_MISSING : DOCTOR_DEGRADED;
        int opened = host->trial[TRIAL_FUSE], mounted = host->trial[TRIAL_FUSE_MOUNT];
        g_autofree char *container = doctor_container(host);
        const char *mend = doctor_container_mend(container);
        DoctorCheck *check;

        if (opened != 0) {
                check = doctor_add(checks, "fuse", "/dev/fuse", lost, "%s", err_text(MAX(opened, 0)));
                if (mend)
                        doctor_mend(check, "%s; or %s", mend, without);
                else if (opened == EACCES || opened == EPERM)
                        doctor_mend(check, "sudo chmod 0666 /dev/fuse; or %s", without);
                else
                        doctor_mend(check, "echo fuse | sudo tee /etc/modules-load.d/usbox-fuse.conf && sudo modprobe fuse; or %s", without);
        } else if (mounted == TRIAL_NOT_RUN) {
                doctor_add(checks, "fuse", "/dev/fuse", DOCTOR_INFO, NOT_TRIED);
                return;
        } else if (mounted != 0) {
                check = doctor_add(checks, "fuse", "/dev/fuse", lost, "opens, but cannot be mounted in a user namespace: %s",
                                   err_text(mounted));
                doctor_mend(check, "%s%s%s", mend ? mend : "", mend ? "; or " : "", without);
        } else {
                doctor_add(checks, "fuse", "/dev/fuse", DOCTOR_OK, "opens, and can be mounted in a user namespace");
                return;
        }
        doctor_means(check, "no --overlay=fuse, and so no patterns for --hide, no --disk, no --trace-files");
}

void doctor_check_files(const DoctorHost *host, GPtrArray *checks) {
        if (host->proc_problem) {
                DoctorCheck *check = doctor_add(checks, "proc", "/proc", DOCTOR_MISSING, "%s", host->proc_problem);
                doctor_means(check, "usbox finds itself and its processes there");
                doctor_mend(check, "mount -t proc proc /proc, as root of that namespace (unshare: --mount-proc; bubblewrap: --proc /proc)");
        } else
                check_pseudo(host, checks, "proc", "/proc", TRIAL_PROC, NULL);
        check_pseudo(host, checks, "sysfs", "/sys", TRIAL_SYSFS, "usbox run --best-effort=sysfs");
        check_data(host, checks);
        check_boxes_runtime(host, checks);
        check_overlay(host, checks);
        check_fuse(host, checks);
}
