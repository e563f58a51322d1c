/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The payload's process before it is the payload: give up everything, then exec.
 *
 * Role: payload. Privileges: the outer user namespace's capabilities until it has made the box's network namespace and entered the
 * inner user namespace, then that one's until caps_setup; those reach nothing of the box's mounts, network or hostname, which the
 * outer one owns. Threads: one. Order: beside steps 5 to 8, exec in step 9.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "base/wire.h"
#include "caps-setup.h"
#include "net-setup.h"
#include "payload.h"
#include "scope/config.h"
#include "state.h"
#include "stub-program.h"
#include "stub/stub.h"
#include "user-map.h"

/* init's byte. Its end instead: init has failed and said why. */
static bool wait_for(int gate, char wanted, GError **error) {
        char byte = 0;
        ssize_t n;
        /* ECONNRESET says, once, that it has ended without having read what we said: likewise. */
        do
                n = recv(gate, &byte, 1, 0);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return err_set(error, errno, "wait for init");
        if (n != 1 || byte != wanted)
                _exit(125);
        return true;
}

/* The box's own /proc/sys, from init. */
static int wait_for_outer(int gate, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(gate, &m, error);
        if (r == 0) /* likewise */
                _exit(125);
        if (r > 0 && m.type != WIRE_OUTER)
                err_set(error, EPROTO, "init said %s", wire_type_name(m.type));
        return r > 0 && m.type == WIRE_OUTER ? wire_message_take_fd(&m, 0) : -1;
}

static bool set_names(const Spec *spec, GError **error) {
        if (spec->namespaces.uts_host || spec->pod.name)
                return true;
        if (sethostname(spec->namespaces.hostname, strlen(spec->namespaces.hostname)) < 0)
                return err_set(error, errno, "sethostname");
        return true;
}

/* Halve what of the caller's per-user quotas the box may take: the counts of a user namespace add up in its parents
 * (kernel/ucount.c), and the caller's other programs need some too. */
static bool set_quotas(const Spec *spec, int proc_sys, GError **error) {
        static const struct {
                const char *host,
                        *box; /* the host's limit for each user, and the box's own, which knows none at first */
        } halved[] = {
                { "fs/inotify/max_user_instances", "user/max_inotify_instances" },
                { "fs/inotify/max_user_watches", "user/max_inotify_watches" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(halved); i++) {
                g_autofree char *old = NULL;
                if (!fd_read_file(proc_sys, halved[i].host, 64, &old, NULL))
                        return err_set(error, errno, "read %s", halved[i].host);
                gint64 value = g_ascii_strtoll(old, NULL, 10);
                g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, MAX(value / 2, 1));
                if (!fd_write_file(proc_sys, halved[i].box, text))
                        return err_set(error, errno, "write %s", halved[i].box);
        }
        /* A pod's user namespace has those of all its boxes in it, and each of them has this limit. */
        if (spec->pod.make)
                return true;
        /* One is the payload's own. */
        const char *namespaces = spec->caps.nested ? "256" : "1";
        if (!fd_write_file(proc_sys, "user/max_user_namespaces", namespaces))
                return err_set(error, errno, "write max_user_namespaces");
        return true;
}

/* The box's network namespace. init, which shows it in the box's /sys, has it at once, with nothing in it yet; -1: error. */
static int make_netns(int gate, GError **error) {
        if (unshare(CLONE_NEWNET) < 0) {
                bool limit = errno == ENOSPC;
                err_set(error, errno, "make a network namespace");
                if (limit)
                        err_hint(error, "sudo sysctl user.max_net_namespaces=15000");
                return -1;
        }
        _cleanup_close_ int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (ns < 0) {
                err_set(error, errno, "/proc/self/ns/net");
                return -1;
        }
        return wire_send(gate, WIRE_NETNS, NULL, &ns, 1, error) ? fd_steal(&ns) : -1;
}

/*
 * From here on all that it does is counted and limited. The last moment for it: a cgroup namespace has to be the outer user namespace's, and a
 * login session's processes are moved by the machine's systemd, which moves those alone that have the caller's uid.
 */
static bool enter_scope(const PayloadContext *c, GError **error) {
        g_auto(WireMessage) moved = { 0 };

        if (!wire_expect(c->child->payload_wire, "launcher", WIRE_MOVED, &moved, error))
                return false;
        if (!c->child->spec->namespaces.cgroup_host && unshare(CLONE_NEWCGROUP) < 0)
                return err_set(error, errno, "make a cgroup namespace");
        return true;
}

/*
 * The box's network namespace, and the inner user namespace. The first belongs to the outer one, as all others of the box do, so the
 * order of the two is what keeps the payload from its routes. init follows into it (join_network()). Name and quotas belong to the outer one, too:
 * they are set here because init is busy with the root.
 */
static bool make_namespaces(const PayloadContext *c, GError **error) {
        const Spec *spec = c->child->spec;
        _cleanup_close_ int proc_sys = -1, ns = -1;

        if (net_is_own(&spec->net) && (ns = make_netns(c->gate, error)) < 0)
                return false;
        proc_sys = wait_for_outer(c->gate, error);
        if (proc_sys < 0)
                return false;
        if (!set_names(spec, error) || !set_quotas(spec, proc_sys, error))
                return err_step(error, "namespaces");
        if (net_is_own(&spec->net) && !net_setup_payload(spec, proc_sys, ns, c->child->payload_wire, error))
                return false;
        if (c->child->scoped && !enter_scope(c, error))
                return err_step(error, "limits");
        if (unshare(CLONE_NEWUSER) < 0)
                return err_set(error, errno, "make the payload's user namespace") || namespaces_hint_limit(error);
        if (user_maps_itself(spec) && !user_map_payload(spec, AT_FDCWD, "/proc/self", error))
                return false;
        /* Before init is told: it makes the host's mounts read-only, which no file that is open for writing may come into. */
        if (!payload_set_oom_score(spec, c->child->scoped, error))
                return err_step(error, "limits");
        if (!wire_send(c->gate, WIRE_UNSHARED, NULL, NULL, 0, error))
                return false;
        return user_maps_itself(spec) || wait_for(c->gate, 'M', error);
}

static bool set_ids(const Spec *spec, uid_t uid, gid_t gid, GError **error) {
        if (spec->user.groups == GROUPS_NONE && setgroups(0, NULL) < 0)
                return err_set(error, errno, "drop supplementary groups");
        if (setresgid(gid, gid, gid) < 0)
                return err_set(error, errno, "take gid %u", gid);
        /* Capabilities are kept over this: caps_setup_child() decides on them. */
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresuid(uid, uid, uid) < 0)
                return err_set(error, errno, "take uid %u", uid);
        return true;
}

bool payload_set_oom_score(const Spec *spec, bool limited, GError **error) {
        g_autofree char *own = NULL;
        int score = spec->process.oom_score_adj;

        if (!spec->process.oom_score_given) {
                if (!limited)
                        return true;
                if (!fd_read_file(AT_FDCWD, "/proc/self/oom_score_adj", 64, &own, NULL))
                        return err_set(error, errno, "read oom_score_adj");
                score = scope_oom_score(own);
        }
        g_autofree char *text = g_strdup_printf("%d", score);
        return fd_write_file(AT_FDCWD, "/proc/self/oom_score_adj", text) ? true : err_set(error, errno, "--oom-score-adj %s", text);
}

static bool set_limits(const Spec *spec, GError **error) {
        /* 1, not 0: a core_pattern that pipes to a program on the host is started in spite of 0 (core(5)). The filter keeps it so. */
        struct rlimit core;
        if (getrlimit(RLIMIT_CORE, &core) < 0)
                return err_set(error, errno, "core limit");
        core.rlim_cur = core.rlim_max = MIN(core.rlim_max, 1); /* a caller's own 0 cannot be raised */
        /* Who asks for another gets it below: nobody could raise the hard limit again. */
        if (!process_has_ulimit(&spec->process, RLIMIT_CORE) && setrlimit(RLIMIT_CORE, &core) < 0)
                return err_set(error, errno, "core limit");
        for (guint i = 0; i < spec->process.ulimits->len; i++) {
                const UlimitSpec *u = &g_array_index(spec->process.ulimits, UlimitSpec, i);
                struct rlimit limit = { u->soft, u->hard };
                if (setrlimit(u->resource, &limit) < 0) {
                        err_set(error, errno, "--ulimit");
                        return err_hint(error,
                                        "a limit cannot be raised above the caller's own hard limit (ulimit -H)");
                }
        }
        return true;
}

static bool join_new_keyring(void) {
        return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0 || errno == ENOSYS;
}

/*
 * The kernel counts keys by the real uid of who makes them, and 200 is all that a user gets (keyrings(7)): so many boxes can a login session have. A box of
 * more ids than its caller's takes one of those for the moment, which have as many each. Whoever has a keyring as his session's can do all with it, whose
 * it is makes no difference.
 */
static bool join_keyring_of_other(const Spec *spec) {
        uid_t mine = getuid();
        guint32 any;

        for (guint i = 0; i < spec->user.uidmap->len; i++) {
                const IdRange *r = &g_array_index(spec->user.uidmap, IdRange, i);
                if (r->count < 2 || getrandom(&any, sizeof any, 0) != sizeof any || setresuid(r->box + any % r->count, (uid_t) -1, (uid_t) -1) < 0)
                        continue;
                bool joined = join_new_keyring();
                if (setresuid(mine, (uid_t) -1, (uid_t) -1) < 0)
                        return false;
                if (joined)
                        return true;
        }
        errno = EDQUOT;
        return false;
}

/* A session keyring of its own, empty: the caller's keys (Kerberos, fscrypt) are out of reach (session-keyring(7)). */
static bool set_keyring(const Spec *spec, GError **error) {
        if (join_new_keyring() || (errno == EDQUOT && join_keyring_of_other(spec)))
                return true;
        if (spec->box.best_effort & BEST_EFFORT_KEYRING)
                return true;
        bool filtered = errno == EPERM;
        err_set(error, errno, "session keyring");
        return err_hint(error, filtered ? "a filter around this (a container, another box) closes keyctl, to the new box, too: go on with the keyring that is "
                                          "there by --best-effort=keyring"
                                        : "EDQUOT means that the user has too many keys (/proc/key-users); go on without by --best-effort=keyring");
}

static bool set_terminal(const PayloadContext *c, GError **error) {
        if (setpgid(0, 0) < 0)
                return err_set(error, errno, "setpgid");
        if (c->pty_slave < 0)
                return true;
        /* SIGTTOU is blocked (all are): a background group may then set the foreground one (tcsetpgrp(3)). */
        if (tcsetpgrp(c->pty_slave, getpid()) < 0)
                return err_set(error, errno, "tcsetpgrp");
        return true;
}

static bool set_stdio(const PayloadContext *c, GError **error) {
        const StdioPlan *plan = &c->child->stdio;
        int from[3];

        /* Copies first: 0, 1 and 2 are among the sources. */
        for (int i = 0; i < 3; i++) {
                from[i] = fd_dup_high(plan->pty[i] && c->pty_slave >= 0 ? c->pty_slave : plan->fds[i]);
                if (from[i] < 0)
                        return err_set(error, errno, "stdio");
        }
        for (int i = 0; i < 3; i++)
                if (dup2(from[i], i) < 0)
                        return err_set(error, errno, "stdio");
        return true;
}

bool payload_chdir(const char *dir, GError **error) {
        if (chdir(dir) == 0)
                return true;
        g_autofree char *shown = err_quote(dir);
        int saved = errno;
        err_set(error, saved, "working directory %s", shown);
        if (saved == ENOENT)
                err_hint(error, "it is not there in the box; choose another by -w DIR, or show it by --rw %s, or another as it by -v DIR:%s", shown, shown);
        else if (saved == EACCES)
                err_hint(error, "the command may not enter it there; choose another by -w DIR, or start from another");
        else if (saved == ENOTDIR)
                err_hint(error, "choose a directory by -w DIR");
        return err_step(error, "workdir");
}

static bool is_there(const char *entry) {
        const char *dir = strchr(entry, '=') + 1;
        struct stat st, here;

        if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
                return false;
        return !g_str_has_prefix(entry, "PWD=") || (stat(".", &here) == 0 && here.st_ino == st.st_ino && here.st_dev == st.st_dev);
}

void payload_drop_lost_places(const Spec *spec, char **envp) {
        char **end = envp;

        for (char **e = envp; *e; e++)
                if (!g_strv_contains((const char *const *) spec->process.env_places, *e) || is_there(*e))
                        *end++ = *e;
        *end = NULL;
}

/* Always: pivot_root(2) moves the directory only of who stood in the old root itself, and the payload, forked before it,
 * stands where the caller stood: in a mount of the host's. */
static bool set_workdir(const PayloadContext *c, GError **error) {
        const RootPlan *plan = plan_share_get(c->child->plan);

        return payload_chdir(plan->workdir ? plan->workdir : "/", error);
}

/* Default dispositions and an empty mask: nothing of ours, and nothing that the caller ignored (a shell's nohup stays its own). */
static void reset_signals(void) {
        sigset_t none;
        for (int sig = 1; sig < NSIG; sig++)
                if (sig != SIGKILL && sig != SIGSTOP)
                        (void) signal(sig, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

bool payload_filter(const SeccompProgram *filter, GError **error) {
        return filter->n == 0 || confine_seccomp(filter->filter, filter->n, error) || err_step(error, "seccomp");
}

bool payload_give_up(const Spec *spec, uid_t uid, gid_t gid, mode_t mask, GError **error) {
        /* What the box's root may is its alone, and what only holds a pod needs nothing. */
        guint64 keep = (spec->user.uid == 0 && uid != 0) || spec->pod.make ? 0 : spec->caps.keep;

        if (!set_limits(spec, error) || !set_keyring(spec, error))
                return err_step(error, "limits");
        if (!set_ids(spec, uid, gid, error))
                return err_step(error, "user");
        if (!caps_setup_child(keep, uid == 0, error))
                return err_step(error, "capabilities");
        if (!confine_self(error))
                return err_step(error, "no_new_privs");
        reset_signals();
        (void) umask(mask);
        return true;
}

/*
 * Rights go before the root stands, and so does our own filter: compiling it takes the kernel a while, and the few calls that
 * come after (chdir, recvmsg) are allowed in it. A filter of the user's may allow less, so that one is the last thing.
 */
static bool payload_setup(const PayloadContext *c, int keep[2], int *ret_stub, GError **error) {
        const ChildContext *child = c->child;
        const Spec *spec = child->spec;
        bool filter_last = spec->seccomp.mode == SECCOMP_FILE;
        g_auto(WireMessage) go = { 0 };

        if (!make_namespaces(c, error))
                return err_step(error, "network");
        if (!set_terminal(c, error) || !set_stdio(c, error))
                return err_step(error, "terminal");
        if (!fd_keep_only(keep, 2))
                return err_set(error, errno, "close descriptors");
        if (child->stub && (*ret_stub = payload_make_stub(error)) < 0)
                return err_step(error, "exec");
        if (!payload_give_up(spec, spec->user.uid, spec->user.gid, child->umask, error))
                return false;
        if (!filter_last && !payload_filter(&child->filter, error))
                return false;

        if (!wait_for(keep[0], 'R', error) || !set_workdir(c, error))
                return false;
        payload_drop_lost_places(spec, child->envp);
        if (!wire_expect(keep[1], "launcher", WIRE_GO, &go, error))
                return false;
        return !filter_last || payload_filter(&child->filter, error);
}

/* For who comes from podman, and types one. */
#define NO_IMAGES "There are no images: a command is this machine's, or of the system in --rootfs DIR"

/* 127: not found; 126: found, but not to be executed (CLI.md). */
void payload_explain_exec(const char *command, int errnum, GError **error) {
        g_autofree char *shown = err_quote(command);
        bool missing = errnum == ENOENT || errnum == ENOTDIR;
        size_t first = strcspn(command, " \t\n"); /* a line in quotes, as docker's and ssh's users write it */
        bool is_line = first > 0 && command[first] != '\0' && !memchr(command, '/', first);

        err_set_code(error, missing ? USBOX_ERROR_NOT_FOUND : USBOX_ERROR_NOT_EXEC, errnum, "%s", *command ? shown : "''");
        err_step(error, "exec");
        if (!*command)
                err_hint(error, "the command is an empty word: a variable of a script that is not set?");
        else if (missing && is_line)
                err_hint(error, "all of it was given as one word: each is to be given for itself, without quotes around all, or the line to a "
                                "shell: sh -c 'LINE'");
        else if (missing && strchr(command, '/'))
                err_hint(error, "it is not there in the box (or its interpreter is not); of the home directory the box sees the working directory's tree "
                                "and toolchains: --home, --ro PATH show more. " NO_IMAGES);
        else if (missing)
                err_hint(error, "it is in no directory of PATH in the box; of the home directory only toolchains are there (--home). " NO_IMAGES);
        else if (errnum == EACCES)
                err_hint(error, "it is a directory, not executable, or on a file system without exec");
        else if (errnum == ENOEXEC)
                err_hint(error, "no program of this machine's format; a script needs a #! line");
        else if (errnum == E2BIG)
                err_hint(error, "the kernel takes no argument and no variable (-e, --env-file, --env-inherit) of 128 KiB or more, and all together may be a "
                                "quarter of ulimit -s");
}

bool payload_needs_stub(void) {
        struct stat st;

        /* Where nobody can say, it is for the worse. */
        return stat("/proc/self/exe", &st) < 0 || st.st_uid == geteuid() || faccessat(AT_FDCWD, "/proc/self/exe", W_OK, AT_EACCESS) == 0;
}

/* MFD_EXEC came with Linux 6.3, and sysctl vm.memfd_noexec with it. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

int payload_make_stub(GError **error) {
        const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        _cleanup_close_ int fd = memfd_create("usbox-stub", flags | MFD_EXEC);

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("usbox-stub", flags);
        /* What its own process may not read makes it not dumpable: nobody in the box looks into it, or holds it up. */
        if (fd < 0 || !fd_write_all(fd, stub_program, sizeof stub_program) || fchmod(fd, 0111) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
                int errnum = errno;
                err_set(error, errnum, "the program that executes the command");
                if (errnum == EFBIG)
                        (void) state_hint_full(error);
                else
                        err_hint(error, "sudo sysctl vm.memfd_noexec=0, or let root own usbox's file");
                return -1;
        }
        return fd_steal(&fd);
}

G_STATIC_ASSERT(STUB_WIRE_TYPE == WIRE_NOT_EXECUTED);

void payload_exec(int stub, int wire, char *const *argv, char **envp, GError **error) {
        if (stub >= 0) {
                /* It closes the wire by its own exec. */
                if ((wire == STUB_WIRE ? fcntl(wire, F_SETFD, 0) : dup2(wire, STUB_WIRE)) >= 0)
                        (void) syscall(SYS_execveat, stub, "", argv, envp, AT_EMPTY_PATH);
                if (errno == E2BIG) { /* it would be of the command, too */
                        payload_explain_exec(argv[0], errno, error);
                        return;
                }
                err_set(error, errno, "execute the program that executes the command");
                err_step(error, "exec");
                return;
        }
        /* execvpe(3) looks the command up in environ's PATH: the box's. */
        environ = envp;
        execvpe(argv[0], argv, envp);
        payload_explain_exec(argv[0], errno, error);
}

/* A pod: what there is instead of a command. It may hold nothing but its own end open. */
static bool hold_pod(GError **error) {
        (void) prctl(PR_SET_NAME, "usbox-pause", 0, 0, 0);
        if (close_range(3, ~0U, 0) < 0) /* the wire's end says that it is there */
                return err_set(error, errno, "hold the pod: close descriptors");
        for (;;)
                (void) pause();
}

_Noreturn void payload_main(const PayloadContext *context) {
        const Spec *spec = context->child->spec;
        g_autoptr(GError) error = NULL;
        int keep[2] = { context->gate, context->child->payload_wire }, stub = -1;

        bool ok = payload_setup(context, keep, &stub, &error);
        ok = ok && (!spec->pod.make || hold_pod(&error));
        if (ok)
                payload_exec(stub, keep[1], spec->process.argv, context->child->envp, &error);
        wire_send_error(keep[1], error);
        _exit(125);
}
