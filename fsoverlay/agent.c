/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent: a process in the box's outer user namespace, for the ids of the box that the caller is not.
 *
 * Role: a fork of usbox-fs. Privileges: in the box's outer user namespace CHOWN, DAC_OVERRIDE, FOWNER, FSETID and SETFCAP, which count
 * for files whose owner and group are ids of the box; on the host none but the caller's. Threads: one. Order: forked
 * before usbox-fs has threads and before it confines itself.
 *
 * Why a process apart: usbox-fs stays in the host's user namespace, because only there stat(2) tells who really owns a file of the
 * host. Rights over the box's ids are in the box's user namespace. Nearly everything is done by usbox-fs itself, since nearly all
 * files of an upper layer are the caller's; what is left (chown to another id of the box, files of such ids, files whose mode shuts
 * out their own owner) goes through one page of shared memory, one call at a time. The table of descriptors is
 * shared (CLONE_FILES), so a descriptor that the agent opens is simply there; and usbox-fs may show it any directory, so it is bounded by
 * Landlock as usbox-fs is: to the box's own directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "fs-agent-seccomp.h" /* made from agent-seccomp.json */
#include "fsoverlay/fs.h"

#define DATA_MAX 65536

typedef enum {
        DO_OPEN, DO_MKDIR, DO_MKNOD, DO_SYMLINK, DO_LINK, DO_UNLINK, DO_RENAME, DO_CHOWN, DO_CHMOD, DO_UTIMENS, DO_READLINK,
        DO_SETXATTR, DO_GETXATTR, DO_LISTXATTR, DO_REMOVEXATTR,
} Op;

/* One call. Names are paths below a directory: of one part, but for DO_OPEN. */
typedef struct {
        Op op;
        int dir, dir2, fd, flags;
        mode_t mode, umask;
        dev_t dev;
        uint32_t uid, gid;
        struct timespec times[2];
        size_t size;
        int result;
        guint64 counted; /* before the first call */
        bool by_fd;
        char name[PATH_MAX], name2[PATH_MAX]; /* name2 also: a link's text, an xattr's name */
        char data[DATA_MAX];
} Call;

struct Agent {
        pthread_mutex_t lock;
        Call *call; /* shared memory */
        int wire, pidfd; /* the wire does not close when the agent ends, as its other end is in our table */
};

/* /proc/self/fd/N/NAME or /proc/self/fd/N: xattr calls know no directory descriptors (before Linux 6.13). */
static void proc_path(const Call *c, char *ret, size_t size) {
        if (c->by_fd)
                (void) g_snprintf(ret, (gulong) size, "/proc/self/fd/%d", c->fd);
        else
                (void) g_snprintf(ret, (gulong) size, "/proc/self/fd/%d/%s", c->dir, c->name);
}

static int do_xattr(Call *c) {
        char path[PATH_MAX + 64];
        ssize_t r;

        proc_path(c, path, sizeof path);
        switch (c->op) {
        case DO_SETXATTR:
                r = c->by_fd ? setxattr(path, c->name2, c->data, c->size, c->flags) : lsetxattr(path, c->name2, c->data, c->size, c->flags);
                break;
        case DO_GETXATTR:
                r = c->by_fd ? getxattr(path, c->name2, c->data, c->size) : lgetxattr(path, c->name2, c->data, c->size);
                break;
        case DO_LISTXATTR:
                r = c->by_fd ? listxattr(path, c->data, c->size) : llistxattr(path, c->data, c->size);
                break;
        default:
                r = c->by_fd ? removexattr(path, c->name2) : lremovexattr(path, c->name2);
                break;
        }
        return (int) r;
}

static int carry_out(Call *c) {
        char path[PATH_MAX + 64];

        umask(c->umask); /* of whoever in the box makes a file */
        proc_path(c, path, sizeof path); /* for a descriptor: the way for one of O_PATH as well */
        switch (c->op) {
        case DO_OPEN:
                /* A path of the upper that the box made: nothing of it is followed. */
                return sys_openat2(c->dir, c->name, (uint64_t) (unsigned) c->flags, c->mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
        case DO_MKDIR:
                return mkdirat(c->dir, c->name, c->mode);
        case DO_MKNOD:
                return mknodat(c->dir, c->name, c->mode, c->dev);
        case DO_SYMLINK:
                return symlinkat(c->name2, c->dir, c->name);
        case DO_LINK:
                return c->by_fd ? linkat(AT_FDCWD, path, c->dir2, c->name2, AT_SYMLINK_FOLLOW) : linkat(c->dir, c->name, c->dir2, c->name2, 0);
        case DO_UNLINK:
                return unlinkat(c->dir, c->name, c->flags);
        case DO_RENAME:
                return renameat2(c->dir, c->name, c->dir2, c->name2, (unsigned) c->flags);
        case DO_CHOWN:
                return c->by_fd ? fchownat(c->fd, "", c->uid, c->gid, AT_EMPTY_PATH) : fchownat(c->dir, c->name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW);
        case DO_CHMOD:
                return c->by_fd ? fchmodat(AT_FDCWD, path, c->mode, 0) : fchmodat(c->dir, c->name, c->mode, 0);
        case DO_UTIMENS:
                return c->by_fd ? utimensat(AT_FDCWD, path, c->times, 0) : utimensat(c->dir, c->name, c->times, AT_SYMLINK_NOFOLLOW);
        case DO_READLINK:
                return (int) readlinkat(c->dir, c->name, c->data, c->size);
        default:
                return do_xattr(c);
        }
}

/* A user namespace of the agent's own, with the caller's ids alone. */
static bool own_userns(GError **error) {
        const struct {
                const char *path;
                unsigned id;
        } maps[] = { { "/proc/self/uid_map", geteuid() }, { "/proc/self/gid_map", getegid() } };
        char text[64];

        if (unshare(CLONE_NEWUSER) < 0)
                return err_set(error, errno, "make a user namespace");
        for (guint i = 0; i < G_N_ELEMENTS(maps); i++) {
                _cleanup_close_ int deny = i == 1 ? open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC) : -1;
                _cleanup_close_ int fd = open(maps[i].path, O_WRONLY | O_CLOEXEC);
                int n = g_snprintf(text, sizeof text, "%u %u 1", maps[i].id, maps[i].id);
                if ((deny >= 0 && write(deny, "deny", 4) != 4) || fd < 0 || write(fd, text, (size_t) n) != n)
                        return err_set(error, errno, "write %s", maps[i].path);
        }
        return true;
}

static bool confine_agent(int userns, pid_t parent, const Confinement *files, AgentCount *count, GError **error) {
        const uint32_t keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_FSETID | 1u << CAP_SETFCAP;

        /* setns(2): whoever made a user namespace has every capability in it. */
        if (userns < 0 && !own_userns(error))
                return false;
        if (userns >= 0 && setns(userns, CLONE_NEWUSER) < 0)
                return err_set(error, errno, "enter the box's user namespace");
        if (!confine_keep_caps(keep, error))
                return false;
        /* New credentials may have cleared it (commit_creds()); without it the agent would hold our descriptors, /dev/fuse too, for ever. */
        if (!confine_die_with_parent(parent, error))
                return false;
        if (count && !quota_count(count->upper, count->links, &count->bytes, error))
                return false;
        return confine_self(error) && (!files || confinement_files(files, error)) && confine_seccomp(fs_agent_seccomp, G_N_ELEMENTS(fs_agent_seccomp), error);
}

static _Noreturn void agent_main(Agent *a, int userns, pid_t parent, const Confinement *files, AgentCount *count) {
        g_autoptr(GError) error = NULL;
        char byte = 0;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        (void) prctl(PR_SET_NAME, "usbox-fs-agent", 0, 0, 0);
        if (!confine_agent(userns, parent, files, count, &error)) {
                a->call->result = -(err_get_errno(error) ? err_get_errno(error) : EPERM);
                g_strlcpy(a->call->data, error->message, sizeof a->call->data);
                (void) !write(a->wire, &byte, 1);
                _exit(1); /* nobody may be there to close the wire, whose other end is in our table, too */
        }
        a->call->result = 0;
        a->call->counted = count ? count->bytes : 0;
        /* The first byte says whether it stands. */
        while (write(a->wire, &byte, 1) == 1 && read(a->wire, &byte, 1) == 1) {
                a->call->result = carry_out(a->call);
                if (a->call->result < 0)
                        a->call->result = -errno;
        }
        _exit(0);
}

/* Its byte. False: it has ended, or nobody holds the other end of life any more (-1: nobody is asked). */
static bool agent_answers(const Agent *a, int life) {
        struct pollfd fds[] = { { .fd = a->wire, .events = POLLIN }, { .fd = a->pidfd, .events = POLLIN }, { .fd = life } };
        char byte;
        int n;

        while ((n = poll(fds, G_N_ELEMENTS(fds), -1)) < 0 && errno == EINTR)
                ;
        if (n > 0 && !fds[0].revents)
                errno = ESRCH;
        return n > 0 && fds[0].revents && read(a->wire, &byte, 1) == 1;
}

Agent *agent_start(int userns_fd, int life, const Confinement *files, AgentCount *count, GError **error) {
        Agent *a = g_new0(Agent, 1);
        int ends[2];

        a->call = mmap(NULL, sizeof *a->call, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (a->call == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
                err_set(error, errno, "memory of the agent");
                g_free(a);
                return NULL;
        }
        pid_t self = getpid();
        /* A fork, but for the table of descriptors. */
        pid_t pid = (pid_t) syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD, NULL, &a->pidfd, NULL, NULL);
        if (pid == 0) {
                a->wire = ends[1];
                agent_main(a, userns_fd, self, files, count);
        }
        a->wire = ends[0];
        pthread_mutex_init(&a->lock, NULL);
        if (pid > 0 && agent_answers(a, life) && a->call->result == 0) {
                if (count)
                        count->bytes = a->call->counted;
                return a;
        }
        if (pid < 0) {
                err_set(error, errno, "fork the agent");
        } else if (!*a->call->data) {
                err_set(error, -a->call->result, "the agent of usbox-fs ended");
        } else {
                err_set(error, 0, "%s", a->call->data); /* has the errno's text in it */
                if (error)
                        err_set_errno(*error, -a->call->result);
        }
        g_free(a);
        return NULL;
}

/* in: what is before the names; name NULL: of in->fd; data: size bytes to send; out: room for size bytes that come back. */
static int call(Agent *a, const Call *in, const char *name, const char *name2, const void *data, void *out, size_t size) {
        char byte = 0;

        if ((name && strlen(name) >= PATH_MAX) || (name2 && strlen(name2) >= PATH_MAX))
                return -ENAMETOOLONG;
        if (size > DATA_MAX)
                return -E2BIG;
        pthread_mutex_lock(&a->lock);
        Call *c = a->call;
        memcpy(c, in, offsetof(Call, name));
        c->umask = taken_umask();
        g_strlcpy(c->name, name ? name : "", sizeof c->name);
        g_strlcpy(c->name2, name2 ? name2 : "", sizeof c->name2);
        c->size = size;
        c->by_fd = name == NULL;
        if (data)
                memcpy(c->data, data, size);
        /* Who is not sure of its answer may take it for that of the next call. */
        if (write(a->wire, &byte, 1) != 1 || !agent_answers(a, -1))
                fs_give_up(errno, "ask the agent");
        int r = c->result;
        if (out && r > 0)
                memcpy(out, c->data, MIN((size_t) r, size));
        pthread_mutex_unlock(&a->lock);
        return r;
}

int agent_open(Agent *a, int dir, const char *name, int flags, mode_t mode) {
        return call(a, &(Call){ .op = DO_OPEN, .dir = dir, .flags = flags, .mode = mode }, name, NULL, NULL, NULL, 0);
}

int agent_stat(Agent *a, int dir, const char *name, struct stat *ret) {
        /* What the agent's stat(2) says is in the box's ids; ours, of its descriptor, in the host's. */
        int fd = agent_open(a, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0)
                return fd;
        int r = fstat(fd, ret) < 0 ? -errno : 0;
        close(fd);
        return r;
}

static int agent_mkdir(Agent *a, int dir, const char *name, mode_t mode) {
        return call(a, &(Call){ .op = DO_MKDIR, .dir = dir, .mode = mode }, name, NULL, NULL, NULL, 0);
}

static int agent_mknod(Agent *a, int dir, const char *name, mode_t mode, dev_t dev) {
        return call(a, &(Call){ .op = DO_MKNOD, .dir = dir, .mode = mode, .dev = dev }, name, NULL, NULL, NULL, 0);
}

static int agent_symlink(Agent *a, const char *target, int dir, const char *name) {
        return call(a, &(Call){ .op = DO_SYMLINK, .dir = dir }, name, target, NULL, NULL, 0);
}

static int agent_link(Agent *a, int from, const char *from_name, int to, const char *to_name) {
        return call(a, &(Call){ .op = DO_LINK, .dir = from, .dir2 = to }, from_name, to_name, NULL, NULL, 0);
}

int agent_link_fd(Agent *a, int fd, int to, const char *to_name) {
        return call(a, &(Call){ .op = DO_LINK, .fd = fd, .dir2 = to }, NULL, to_name, NULL, NULL, 0);
}

static int agent_unlink(Agent *a, int dir, const char *name, int flags) {
        return call(a, &(Call){ .op = DO_UNLINK, .dir = dir, .flags = flags }, name, NULL, NULL, NULL, 0);
}

static int agent_rename(Agent *a, int from, const char *from_name, int to, const char *to_name, unsigned flags) {
        return call(a, &(Call){ .op = DO_RENAME, .dir = from, .dir2 = to, .flags = (int) flags }, from_name, to_name, NULL, NULL, 0);
}

int agent_chown(Agent *a, int dir, const char *name, int fd, uint32_t uid, uint32_t gid) {
        return call(a, &(Call){ .op = DO_CHOWN, .dir = dir, .fd = fd, .uid = uid, .gid = gid }, name, NULL, NULL, NULL, 0);
}

static int agent_chmod(Agent *a, int dir, const char *name, int fd, mode_t mode) {
        return call(a, &(Call){ .op = DO_CHMOD, .dir = dir, .fd = fd, .mode = mode }, name, NULL, NULL, NULL, 0);
}

int agent_utimens(Agent *a, int dir, const char *name, int fd, const struct timespec times[2]) {
        return call(a, &(Call){ .op = DO_UTIMENS, .dir = dir, .fd = fd, .times = { times[0], times[1] } }, name, NULL, NULL, NULL, 0);
}

int agent_readlink(Agent *a, int dir, const char *name, char *ret, size_t size) {
        return call(a, &(Call){ .op = DO_READLINK, .dir = dir }, name, NULL, NULL, ret, size);
}

int agent_setxattr(Agent *a, int dir, const char *name, int fd, const char *xattr, const void *value, size_t size, int flags) {
        return call(a, &(Call){ .op = DO_SETXATTR, .dir = dir, .fd = fd, .flags = flags }, name, xattr, value, NULL, size);
}

int agent_getxattr(Agent *a, int dir, const char *name, int fd, const char *xattr, void *ret, size_t size) {
        return call(a, &(Call){ .op = DO_GETXATTR, .dir = dir, .fd = fd }, name, xattr, NULL, ret, size);
}

int agent_listxattr(Agent *a, int dir, const char *name, int fd, void *ret, size_t size) {
        return call(a, &(Call){ .op = DO_LISTXATTR, .dir = dir, .fd = fd }, name, NULL, NULL, ret, size);
}

int agent_removexattr(Agent *a, int dir, const char *name, int fd, const char *xattr) {
        return call(a, &(Call){ .op = DO_REMOVEXATTR, .dir = dir, .fd = fd }, name, xattr, NULL, NULL, 0);
}

/* Refused to us: then perhaps not to the agent. */
static bool for_agent(const Fs *fs, int r) {
        return r < 0 && (errno == EACCES || errno == EPERM) && fs->agent;
}

int up_open(Fs *fs, int dir, const char *name, int flags, mode_t mode) {
        int r = openat(dir, name, flags, mode);
        return for_agent(fs, r) ? agent_open(fs->agent, dir, name, flags, mode) : r < 0 ? -errno : r;
}

int up_stat(Fs *fs, int dir, const char *name, struct stat *ret) {
        int r = fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
        return for_agent(fs, r) ? agent_stat(fs->agent, dir, name, ret) : r < 0 ? -errno : 0;
}

int up_chmod(Fs *fs, int dir, const char *name, int fd, mode_t mode) {
        char path[32];

        /* From one who is not in the file's group, and has no right over it, the kernel takes this bit away and says nothing (setattr_prepare()). */
        if (mode & S_ISGID && fs->agent && agent_chmod(fs->agent, dir, name, fd, mode) == 0)
                return 0;
        (void) g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int r = name ? fchmodat(dir, name, mode, 0) : fchmodat(AT_FDCWD, path, mode, 0);
        return for_agent(fs, r) ? agent_chmod(fs->agent, dir, name, fd, mode) : r < 0 ? -errno : 0;
}

int up_mkdir(Fs *fs, int dir, const char *name, mode_t mode) {
        int r = mkdirat(dir, name, mode);
        return for_agent(fs, r) ? agent_mkdir(fs->agent, dir, name, mode) : r < 0 ? -errno : 0;
}

int up_mknod(Fs *fs, int dir, const char *name, mode_t mode, dev_t dev) {
        int r = mknodat(dir, name, mode, dev);
        return for_agent(fs, r) ? agent_mknod(fs->agent, dir, name, mode, dev) : r < 0 ? -errno : 0;
}

int up_symlink(Fs *fs, const char *target, int dir, const char *name) {
        int r = symlinkat(target, dir, name);
        return for_agent(fs, r) ? agent_symlink(fs->agent, target, dir, name) : r < 0 ? -errno : 0;
}

int up_link(Fs *fs, int from, const char *from_name, int to, const char *to_name) {
        int r = linkat(from, from_name, to, to_name, 0);
        return for_agent(fs, r) ? agent_link(fs->agent, from, from_name, to, to_name) : r < 0 ? -errno : 0;
}

int up_unlink(Fs *fs, int dir, const char *name, int flags) {
        int r = unlinkat(dir, name, flags);
        return for_agent(fs, r) ? agent_unlink(fs->agent, dir, name, flags) : r < 0 ? -errno : 0;
}

int up_rename(Fs *fs, int from, const char *from_name, int to, const char *to_name, unsigned flags) {
        int r = renameat2(from, from_name, to, to_name, flags);
        return for_agent(fs, r) ? agent_rename(fs->agent, from, from_name, to, to_name, flags) : r < 0 ? -errno : 0;
}
