/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting without the launcher, and going into the background.
 *
 * Role: usbox-fs, stand-alone. Privileges: the caller's; fusermount3 has its own. Threads: one. Order: see standalone.h.
 *
 * Whoever may mount(2) in the mount namespace at hand does it: root, and root of a user namespace. Others have fusermount3, which is setuid, do it: it
 * opens /dev/fuse, checks that the mount point is the caller's to use, mounts, and sends the descriptor back through a socket that it finds
 * by the variable _FUSE_COMMFD.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "fsoverlay/standalone.h"

#define FSTYPE "fuse.usbox-fs" /* the kernel looks at what is before the dot */
#define COMMFD 3
/* Where the label of a mount means something; elsewhere the kernel knows no such option. */
#define SELINUXFS "/sys/fs/selinux/enforce"

static unsigned long mount_flags(const StandaloneOptions *o, bool own_right) {
        unsigned long flags = MS_NODEV | MS_NOATIME | (own_right ? 0 : MS_NOSUID);

        flags = (flags | o->set_flags) & ~o->clear_flags;
        return o->read_only ? flags | MS_RDONLY : flags;
}

static const char *label_of(const StandaloneOptions *o) {
        return o->context && access(SELINUXFS, F_OK) == 0 ? o->context : NULL;
}

/* Returns the descriptor; -1 with errno EPERM where another way is to be tried, -1 with error in other cases. */
static int mount_directly(const StandaloneOptions *o, const char *quoted, GError **error) {
        _cleanup_close_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fd < 0) {
                if (errno == EACCES || errno == EPERM) { /* fusermount3 opens it itself */
                        errno = EPERM;
                        return -1;
                }
                int errnum = errno;
                err_set(error, errnum, "open /dev/fuse");
                if (errnum == ENOENT || errnum == ENODEV || errnum == ENXIO)
                        err_hint(error, "modprobe fuse");
                errno = errnum;
                return -1;
        }

        const char *label = label_of(o);
        g_autofree char *data = g_strdup_printf("fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions,allow_other%s%s", fd, getuid(),
                                                getgid(), label ? "," : "", label ? label : "");
        if (mount(o->fsname, o->mountpoint, FSTYPE, mount_flags(o, true), data) < 0) {
                int errnum = errno;
                if (errnum != EPERM)
                        err_set(error, errnum, "mount on %s", quoted);
                errno = errnum;
                return -1;
        }
        return fd_steal(&fd);
}

static void append_escaped(GString *out, const char *name, const char *value) {
        g_string_append_printf(out, ",%s=", name);
        for (; *value; value++) {
                if (*value == ',' || *value == '\\')
                        g_string_append_c(out, '\\');
                g_string_append_c(out, *value);
        }
}

static char *fusermount_options(const StandaloneOptions *o) {
        static const struct {
                unsigned long flag;
                const char *set, *clear;
        } rows[] = {
                { MS_RDONLY, "ro", "rw" },         { MS_NOSUID, "nosuid", "suid" },    { MS_NODEV, "nodev", "dev" },          { MS_NOEXEC, "noexec", NULL },
                { MS_NOATIME, "noatime", NULL },   { MS_NODIRATIME, "nodiratime", NULL }, { MS_SYNCHRONOUS, "sync", NULL },   { MS_DIRSYNC, "dirsync", NULL },
        };
        GString *out = g_string_new("default_permissions");
        unsigned long flags = mount_flags(o, false);

        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                const char *word = flags & rows[i].flag ? rows[i].set : rows[i].clear;
                if (word)
                        g_string_append_printf(out, ",%s", word);
        }
        if (o->allow_other)
                g_string_append(out, ",allow_other");
        append_escaped(out, "fsname", o->fsname);
        append_escaped(out, "subtype", "usbox-fs");
        if (label_of(o))
                g_string_append_printf(out, ",%s", label_of(o));
        return g_string_free(out, FALSE);
}

/* Start fusermount3 with words after its name; its exit status, -1 with error where it cannot be started. comm: a socket for it, or -1. */
static int run_fusermount(const char *const *words, int comm, GError **error) {
        g_autofree char *path = g_find_program_in_path("fusermount3");
        if (!path) {
                err_set(error, 0, "fusermount3 is not there, and mount(2) is not permitted");
                err_hint(error, "apt-get install fuse3, or run usbox-fs in a user namespace: unshare -rm");
                return -1;
        }
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_ptr_array_add(argv, (gpointer) "fusermount3");
        for (; *words; words++)
                g_ptr_array_add(argv, (gpointer) *words);
        g_ptr_array_add(argv, NULL);

        g_auto(GStrv) envp = g_environ_setenv(g_get_environ(), "_FUSE_COMMFD", G_STRINGIFY(COMMFD), TRUE);
        const ProcFd map[] = { { comm, COMMFD } };
        int status;
        pid_t pid = proc_spawn(path, (char *const *) argv->pdata, envp, map, comm >= 0 ? 1 : 0, NULL, error);
        if (pid < 0)
                return -1;
        if (!proc_wait(pid, &status)) {
                err_set(error, errno, "wait for fusermount3");
                return -1;
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The descriptor that fusermount3 sent before it ended; -1: it sent none. */
static int receive_fd(int comm) {
        char byte;
        struct iovec iov = { &byte, 1 };
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space };
        ssize_t n;
        int fd;

        do
                n = recvmsg(comm, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
        if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
                return -1;
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        return fd;
}

static int mount_by_fusermount(const StandaloneOptions *o, const char *quoted, GError **error) {
        g_autofree char *options = fusermount_options(o);
        const char *const words[] = { "-o", options, "--", o->mountpoint, NULL };
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
                err_set(error, errno, "socketpair");
                return -1;
        }
        _cleanup_close_ int ours = pair[0];
        int status = run_fusermount(words, pair[1], error);
        close(pair[1]);
        if (status < 0)
                return -1;
        int fd = status == 0 ? receive_fd(ours) : -1;
        if (fd < 0) {
                err_set(error, 0, "mount on %s: fusermount3 failed with exit status %d", quoted, status);
                if (o->allow_other)
                        err_hint(error, "for allow_other root has to put user_allow_other into /etc/fuse.conf");
        }
        return fd;
}

int standalone_mount(const StandaloneOptions *o, GError **error) {
        g_autofree char *quoted = err_quote(o->mountpoint);
        struct stat st;

        if (stat(o->mountpoint, &st) < 0) {
                err_set(error, errno, "mount point %s", quoted);
                return -1;
        }
        if (!S_ISDIR(st.st_mode)) {
                err_set(error, ENOTDIR, "mount point %s", quoted);
                return -1;
        }
        int fd = mount_directly(o, quoted, error);
        return fd < 0 && errno == EPERM ? mount_by_fusermount(o, quoted, error) : fd;
}

/* The parent's part: say how it went by the exit status. */
G_NORETURN static void await_child(pid_t child, int ready) {
        char byte;
        ssize_t n;
        int status;

        do
                n = read(ready, &byte, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                _exit(0);
        if (!proc_wait(child, &status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
                _exit(1); /* it ended before it served, whatever it says */
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

bool standalone_background(int *ret_ready, GError **error) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe");
        pid_t child = fork();
        if (child < 0) {
                int errnum = errno;
                close(ends[0]);
                close(ends[1]);
                return err_set(error, errnum, "fork");
        }
        if (child > 0) {
                close(ends[1]);
                await_child(child, ends[0]);
        }

        close(ends[0]);
        *ret_ready = ends[1];
        (void) setsid(); /* of a fresh child it cannot fail */
        if (chdir("/") < 0)
                return err_set(error, errno, "chdir to /");
        return true;
}

void standalone_serving(int *ready) {
        if (*ready < 0)
                return;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; null >= 0 && fd < 3; fd++)
                if (null != fd && dup2(null, fd) < 0)
                        log_note("descriptor %d: %s", fd, err_text(errno));
        if (null > 2) /* else one of them was closed, and this is it now */
                close(null);
        (void) fd_write_all(*ready, "", 1); /* a parent that is gone needs no telling */
        fd_closep(ready);
}

void standalone_unmount(const StandaloneOptions *o, int fuse_fd) {
        struct pollfd served = { .fd = fuse_fd, .events = POLLIN };

        /* Of a connection that has ended the mount is gone, and what is there now is somebody else's. */
        if (poll(&served, 1, 0) > 0 && served.revents & POLLERR)
                return;
        if (umount2(o->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
                return;
        g_autofree char *quoted = err_quote(o->mountpoint);
        if (errno != EPERM) {
                log_note("unmount %s: %s", quoted, err_text(errno));
                return;
        }
        g_autoptr(GError) error = NULL;
        const char *const words[] = { "-u", "-q", "-z", "--", o->mountpoint, NULL };
        int status = run_fusermount(words, -1, &error);
        if (status < 0)
                log_note("unmount %s: %s", quoted, error->message);
        else if (status > 0)
                log_note("unmount %s: fusermount3 failed with exit status %d", quoted, status);
}
