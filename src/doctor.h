/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "account.h"

typedef enum {
        DOCTOR_OK,
        DOCTOR_INFO,     /* good to know; nothing is lost */
        DOCTOR_DEGRADED, /* something that `usbox run` does not need by default is lost */
        DOCTOR_MISSING,  /* `usbox run` with its defaults fails */
} DoctorState;

/* One row of the report. Text from outside is quoted for a terminal already. */
typedef struct {
        const char *id;    /* for programs; stable */
        const char *title; /* for people */
        DoctorState state;
        char *found;       /* what there is; never NULL */
        char *means;       /* what that takes away, or NULL */
        char *mend;        /* the command, or where there is none the action, that mends it; or NULL */
} DoctorCheck;

/* What is tried for real, each in a child. */
typedef enum {
        TRIAL_PROCESSES,    /* as many as a box has, at one time; or those that make the other trials */
        TRIAL_MEMORY,       /* address space to share with a box */
        TRIAL_CLONE3,
        TRIAL_OPENAT2,
        TRIAL_OPEN_TREE,
        TRIAL_MOVE_MOUNT,
        TRIAL_FSOPEN,
        TRIAL_MOUNT_SETATTR,
        TRIAL_CLOSE_RANGE,
        TRIAL_PIDFD,
        TRIAL_UMOUNT,
        TRIAL_PIVOT_ROOT,
        TRIAL_SETNS,
        TRIAL_FSCONFIG,
        TRIAL_FSMOUNT,
        TRIAL_PIDFD_SIGNAL,
        TRIAL_SIGNALFD,
        TRIAL_EPOLL,
        TRIAL_INOTIFY,
        TRIAL_EVENTFD,
        TRIAL_MEMFD,
        TRIAL_STATX,
        TRIAL_RENAMEAT2,
        TRIAL_SPLICE,
        TRIAL_SECCOMP,      /* a filter is accepted */
        TRIAL_LANDLOCK,     /* its calls, or the kernel says that it has none */
        TRIAL_KEYRING,      /* a fresh session keyring */
        TRIAL_FUSE,         /* /dev/fuse opens */
        TRIAL_BUS,          /* the user's systemd bus accepts a connection */
        TRIAL_DATA,         /* a directory can be made in the data directory */
        TRIAL_XATTR,        /* user.* attributes there */
        TRIAL_USERNS,       /* a user namespace */
        TRIAL_USERNS_MAP,   /* its id maps */
        TRIAL_NS_MOUNT,
        TRIAL_NS_UTS,
        TRIAL_NS_IPC,
        TRIAL_NS_CGROUP,
        TRIAL_NS_NET,
        TRIAL_NS_TIME,
        TRIAL_NS_PID,
        TRIAL_USERNS_CAPS,  /* a mount in it: its capabilities are worth something */
        TRIAL_PROC,         /* a new /proc */
        TRIAL_SYSFS,        /* a new /sys */
        TRIAL_OVERLAY,      /* overlayfs with userxattr over the data directory */
        TRIAL_OVERLAY_EDIT, /* copy-up and whiteout in it */
        TRIAL_FUSE_MOUNT,   /* a FUSE mount in the user namespace */
        TRIAL_TUN_OPEN,     /* /dev/net/tun opens */
        TRIAL_TUN_TAP,      /* and makes a TAP in a network namespace of one's own */
        TRIAL_USERNS_INNER, /* a user namespace in the user namespace */
        TRIAL_MAX
} DoctorTrial;

/* Values of a trial beside 0 (it works) and an errno. */
#define TRIAL_NOT_RUN (-1) /* what it builds on failed before */

/* newuidmap or newgidmap. */
typedef struct {
        char *path; /* NULL: not found */
        bool privileged; /* setuid root, or the file capability it needs */
        bool nosuid;     /* its file system takes both away */
        bool foreign;    /* setuid, but the user namespace around this has no id for its owner */
} DoctorProgram;

/*
 * All that the checks look at. The real machine's comes from doctor_host_new(); tests fill one by hand and let root
 * point to a tree with proc, sys and etc of their own.
 */
typedef struct {
        char *root; /* before every path that a check reads; "" for the real machine */
        uid_t uid;
        gid_t gid;
        GArray *groups;   /* of gid_t */
        char *name, *home;
        char *kernel;     /* as uname -r */
        char *exe;        /* this program's path, or NULL */
        int trial[TRIAL_MAX];
        int landlock_abi; /* 0: none */
        DoctorProgram newuidmap, newgidmap;
        AccountServed served; /* by them */
        bool no_new_privs;    /* neither gains any rights by being executed */
        guint64 open_files;   /* how many there may be */
        int workdir_error;    /* why a box cannot be started from the working directory, or 0 */
        char *data_dir;       /* where boxes are kept, existing or not */
        guint64 data_free;    /* bytes; G_MAXUINT64: not known */
        const char *proc_problem; /* why the processes here are not to be found in /proc; NULL: they are */
        bool data_foreign;    /* it is another user's or others may write to it */
        char *runtime_dir;
        bool runtime_dir_ok;
        char *boxes_runtime;       /* where running boxes are found */
        bool boxes_runtime_tmp;    /* below /tmp, for want of a runtime directory */
        char *boxes_runtime_error; /* why it cannot be used, or NULL */
        bool in_box;          /* usbox runs in a box of its own kind */
        char *helpers;        /* the programs that belong to usbox, for people */
        char *missing_helper; /* the message for the first helper program that is not there, or NULL */
        bool fast_path_tried;  /* by usbox-net, which needs a TAP for it */
        char *fast_path_error; /* why the TCP fast path cannot be had, or NULL */
        char *apparmor_profile; /* the installed profile file, or NULL */
} DoctorHost;

DoctorHost *doctor_host_new(void);
void doctor_host_free(DoctorHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DoctorHost, doctor_host_free)

/* Fill host->trial and landlock_abi. Children only, at most some seconds; leaves nothing behind. */
void doctor_try(DoctorHost *host);

/* The system calls alone, by one child, and without a look at anything else. */
void doctor_try_calls(DoctorHost *host);

/* One of them. */
typedef struct {
        DoctorTrial trial;
        const char *name;
        long number;
        long arguments[5];     /* with these the kernel refuses it, if it is there at all */
        bool wants_capability; /* which is asked for first: EPERM is then the kernel's own answer */
} DoctorCall;

/* All of them; name is NULL behind the last. */
extern const DoctorCall doctor_calls[];

/*
 * A box has not come to be, by this error of a system call. Where a call of those above is refused here to everybody, or AppArmor has its hand in it, that is
 * its hint from now on, with what to do; so is a limit on open files.
 */
void doctor_explain(GError *error);

/* That hint, from the calls of host->trial alone; NULL: none. filtered: this process has a seccomp filter. The caller's. */
char *doctor_reason(const DoctorHost *host, int errnum, bool filtered);

/* Every check: an array of DoctorCheck *, the caller's. Reads below host->root, changes nothing. */
GPtrArray *doctor_examine(const DoctorHost *host);

/* `usbox run` with its defaults would work. */
bool doctor_can_run(const GPtrArray *checks);

/* The report; the caller's. */
char *doctor_text(const GPtrArray *checks, bool colour);
char *doctor_json(const GPtrArray *checks);
