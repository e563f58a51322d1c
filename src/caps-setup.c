/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The payload's capabilities.
 *
 * Role: payload, in the inner user namespace. Privileges: CAP_SETPCAP of it. Threads: one. Order: after the ids are
 * taken, before no_new_privs and the filter.
 */
#include <linux/capability.h>
#include <sys/prctl.h>

#include "base/error.h"
#include "base/sys.h"
#include "caps-setup.h"

bool caps_setup_child(guint64 keep, bool root, GError **error) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2];

        /* Where the ids changed from 0, the kernel has emptied the effective set (capabilities(7)). */
        if (syscall(SYS_capget, &header, data) < 0)
                return err_set(error, errno, "get capabilities");
        for (int i = 0; i < 2; i++)
                data[i].effective = data[i].permitted;
        if (syscall(SYS_capset, &header, data) < 0)
                return err_set(error, errno, "set capabilities");

        for (int cap = 0; cap < 64; cap++)
                if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
                        if (errno == EINVAL) /* beyond the kernel's last one */
                                break;
                        return err_set(error, errno, "drop capability %d from the bounding set", cap);
                }

        for (int i = 0; i < 2; i++) {
                guint32 bits = (guint32) (keep >> (32 * i));
                /* A uid 0 gets its set at exec from the bounding set; its inheritable set stays empty (CVE-2022-27650). */
                data[i] = (struct __user_cap_data_struct){ .effective = bits,
                                                           .permitted = bits,
                                                           .inheritable = root ? 0 : bits };
        }
        if (syscall(SYS_capset, &header, data) < 0)
                return err_set(error, errno, "set capabilities");
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return err_set(error, errno, "clear ambient capabilities");
        if (!root)
                for (int cap = 0; cap < 64; cap++)
                        if ((keep >> cap & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
                                return err_set(error, errno, "raise ambient capability %d", cap);
        return true;
}
