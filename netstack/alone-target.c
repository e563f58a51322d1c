/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network namespace that usbox-net is to serve where it runs by itself: found, entered by a process of its own, given its TAP.
 *
 * Role: usbox-net's front, and a fork of it. Privileges: the caller's; of the fork, all of the target's user namespace. Threads: one.
 * Order: after the command line.
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/wire.h"
#include "netstack/alone.h"
#include "netstack/boxside.h"
#include "netstack/divert.h"
#include "netstack/enter.h"
#include "netstack/values.h"

/* "1234", or "/proc/1234/ns/net". */
static bool names_process(const AloneOptions *o, pid_t *ret) {
        g_autofree char *number = g_strdup(o->netns);
        guint64 pid;

        if (g_str_has_prefix(o->netns, "/proc/") && g_str_has_suffix(o->netns, "/ns/net")) {
                g_free(number);
                number = g_strndup(o->netns + 6, strlen(o->netns) - 6 - 7);
        } else if (o->path) {
                return false;
        }
        if (!g_ascii_string_to_unsigned(number, 10, 1, G_MAXINT32, &pid, NULL))
                return false;
        *ret = (pid_t) pid;
        return true;
}

static int open_namespace(const char *option, const char *path, int type, const char *what, GError **error) {
        g_autofree char *quoted = err_quote(path);

        _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) {
                int saved = errno;
                err_set(error, saved, "%s %s", option, quoted);
                if (saved == EACCES)
                        err_hint(error, "the process must be the caller's own, and one that may be looked at; else run this as root");
                else if (saved == ENOENT)
                        err_hint(error, "lsns -t %s lists such namespaces, each with a process that is in it", type == CLONE_NEWNET ? "net" : "user");
                return -1;
        }
        if (ioctl(fd, NS_GET_NSTYPE) != type) {
                err_set(error, 0, "%s %s: not a %s namespace", option, quoted, what);
                return -1;
        }
        return fd_steal(&fd);
}

static bool is_own(const AloneTarget *t) {
        struct stat own;
        return stat("/proc/self/ns/net", &own) == 0 && own.st_dev == t->dev && own.st_ino == t->ino;
}

bool alone_target_open(const AloneOptions *o, AloneTarget *ret, GError **error) {
        g_autofree char *quoted = err_quote(o->netns), *file = g_strdup(o->netns);
        struct stat st;
        pid_t pid;

        *ret = ALONE_TARGET_NONE;
        if (names_process(o, &pid)) {
                /* First, so that what is opened then is of that process or of none. */
                ret->process = pidfd_open(pid, 0);
                if (ret->process < 0) {
                        err_set(error, errno, "--netns %s", quoted);
                        return err_hint(error, "no such process: lsns -t net lists network namespaces, each with one that is in it");
                }
                g_free(file);
                file = g_strdup_printf("/proc/%d/ns/net", pid);
        } else {
                ret->path = g_strdup(file);
        }
        ret->netns = open_namespace("--netns", file, CLONE_NEWNET, "network", error);
        if (ret->netns < 0)
                return false;
        if (fstat(ret->netns, &st) < 0)
                return err_set(error, errno, "--netns %s", quoted);
        ret->dev = st.st_dev;
        ret->ino = st.st_ino;
        if (alone_target_is_gone(ret))
                return err_set(error, ESRCH, "--netns %s", quoted);
        if (is_own(ret)) {
                err_set(error, 0, "--netns %s: that is the network namespace in which usbox-net itself runs", quoted);
                return err_hint(error, "unshare --user --map-root-user --net COMMAND gives a command one of its own, if not at once");
        }
        if (o->userns_path && (ret->userns = open_namespace("--userns-path", o->userns_path, CLONE_NEWUSER, "user", error)) < 0)
                return false;
        return true;
}

void alone_target_clear(AloneTarget *t) {
        fd_closep(&t->netns);
        fd_closep(&t->userns);
        fd_closep(&t->process);
        g_clear_pointer(&t->path, g_free);
}

bool alone_target_is_gone(const AloneTarget *t) {
        struct pollfd process = { .fd = t->process, .events = POLLIN };
        struct stat st;

        if (t->process >= 0)
                return poll(&process, 1, 0) > 0;
        /* Without a path it was never opened. */
        return !t->path || stat(t->path, &st) < 0 || st.st_dev != t->dev || st.st_ino != t->ino;
}

static bool has_wanted_ipv6(const NetConfig *config, int proc_sys, GError **error) {
        if (!config->ipv6 || boxside_has_ipv6(proc_sys))
                return true;
        err_set(error, EAFNOSUPPORT, "IPv6");
        return err_hint(error, "this kernel has IPv6 off: --no-ipv6");
}

static bool enter_and_make(const AloneTarget *target, const AloneOptions *o, int wire, GError **error) {
        const BoxSide side = { .tap = o->config->tap, .mtu = o->config->mtu, .ipv6 = o->config->ipv6, .fast_path = o->config->fast_path,
                               .framed = net_shape_is_framed(&o->config->shape, o->pcap_file), .bare = o->bare };
        g_autofree char *quoted = err_quote(o->netns);
        _cleanup_close_ int tap = -1, netns = -1, proc_sys = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (proc_sys < 0)
                return err_set(error, errno, "/proc/sys");

        if (!enter_netns(target->netns, target->userns, error)) {
                g_prefix_error(error, "--netns %s: ", quoted);
                return err_hint(error, "the namespace must be the caller's own: made by the same user, or by a program of theirs; else run this as root");
        }
        if (!has_wanted_ipv6(o->config, proc_sys, error) || !boxside_set_up(&side, proc_sys, &tap, error))
                return false;
        /* Opened anew: one that was opened by a file which keeps the namespace would keep that file's mount. */
        netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (netns < 0)
                return err_set(error, errno, "/proc/self/ns/net");
        divert_clear(); /* of one before us that was killed */
        return boxside_hand_over(&side, wire, WIRE_NET_TAP, tap, netns, error);
}

void alone_target_leave(const AloneTarget *target, const AloneOptions *o) {
        AloneTarget again = ALONE_TARGET_NONE;
        int status;

        /* Opened anew: to hold it all the time would keep it after its last process. */
        if (!alone_target_is_gone(target) && alone_target_open(o, &again, NULL) && again.dev == target->dev && again.ino == target->ino) {
                pid_t pid = fork();
                if (pid == 0) {
                        if (enter_netns(again.netns, again.userns, NULL))
                                divert_clear();
                        _exit(EXIT_SUCCESS);
                }
                if (pid > 0)
                        (void) proc_wait(pid, &status); /* how, nobody asks */
        }
        alone_target_clear(&again);
}

/* The fork: says why not, or nothing. */
static G_NORETURN void tap_maker(int front, int wire, const AloneTarget *target, const AloneOptions *o) {
        g_autoptr(GError) error = NULL;

        if (!enter_and_make(target, o, wire, &error))
                wire_send_error(front, error);
        _exit(error ? EXIT_FAILURE : EXIT_SUCCESS);
}

bool alone_tap_begin(AloneTarget *target, const AloneOptions *o, int wire, AloneTapMaker *ret, GError **error) {
        int ends[2];

        if (!wire_pair(ends, error))
                return false;
        ret->pid = fork();
        if (ret->pid == 0)
                tap_maker(ends[1], wire, target, o);
        int saved = errno;
        ret->wire = ends[0];
        close(ends[1]);
        fd_closep(&target->netns);
        fd_closep(&target->userns);
        return ret->pid > 0 || err_set(error, saved, "fork");
}

/* It has said something, or ended. */
static bool take_end(AloneTapMaker *maker, GError **error) {
        g_auto(WireMessage) m = { 0 };
        int status;

        int r = wire_receive(maker->wire, &m, error);
        if (r != 0)
                return r > 0 && wire_error_to_gerror(&m, error);
        fd_closep(&maker->wire);
        pid_t pid = maker->pid;
        maker->pid = -1;
        if (!proc_wait(pid, &status))
                return err_set(error, errno, "who makes the TAP");
        if (status == 0)
                return true;
        g_autofree char *text = proc_status_text(status);
        return err_set(error, 0, "who makes the TAP ended: %s", text);
}

bool alone_tap_await(AloneTapMaker *maker, int wire, GError **error) {
        for (;;) {
                struct pollfd fds[] = { { maker->wire, POLLIN, 0 }, { wire, POLLIN, 0 } };

                if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_set(error, errno, "poll");
                }
                if (fds[1].revents)
                        return true;
                if (fds[0].revents && !take_end(maker, error))
                        return false;
        }
}

void alone_tap_end(AloneTapMaker *maker) {
        int status;

        fd_closep(&maker->wire);
        if (maker->pid > 0)
                (void) proc_wait(maker->pid, &status); /* it has said how it went */
        maker->pid = -1;
}

/* In a fork, which has no way back. */
static bool try_in_namespaces(GError **error) {
        _cleanup_close_ int proc_sys = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC), tap = -1;
        int fds[DIVERT_FDS_MAX];

        if (proc_sys < 0)
                return err_set(error, errno, "/proc/sys");
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                return err_set(error, errno, "user and network namespace");
        const BoxSide side = { .tap = NET_TAP_NAME, .mtu = NET_MTU_DEFAULT, .ipv6 = boxside_has_ipv6(proc_sys) };
        return boxside_set_up(&side, proc_sys, &tap, error) && divert_set_up(&side, fds, error);
}

bool alone_try_fast_path(GError **error) {
        int ends[2], status;

        if (!wire_pair(ends, error))
                return false;
        pid_t pid = fork();
        if (pid == 0) {
                g_autoptr(GError) why = NULL;
                if (!try_in_namespaces(&why))
                        wire_send_error(ends[1], why);
                _exit(why ? EXIT_FAILURE : EXIT_SUCCESS);
        }
        int saved = errno;
        close(ends[1]);
        g_auto(WireMessage) m = { 0 };
        int r = pid > 0 ? wire_receive(ends[0], &m, error) : err_set(error, saved, "fork") - 1;
        close(ends[0]);
        if (pid > 0)
                (void) proc_wait(pid, &status);
        return r > 0 ? wire_error_to_gerror(&m, error) : r == 0;
}
