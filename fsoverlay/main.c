/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-fs: the copy-on-write root of one box, by FUSE.
 *
 * Role: helper of the launcher, or a program of its own. Privileges: the caller's, fewer from confinement on. Threads: those of
 * server.c and notify.c; this one waits.
 *
 * Theory of operation. The kernel sends what the box does with files as requests; layers below are plain directories that are
 * reached by descriptors. What the box changes goes to the upper, in overlayfs's form. Speed comes from not being
 * asked: names, absent names and attributes are the kernel's to keep for ever (nothing changes but through it),
 * open and close are not told, written pages are kept.
 *
 *      box ⇄ kernel ⇄ /dev/fuse ⇄ server (threads) ⇄ ops ⇄ node, layer, copyup ⇄ upper, box's layer, host
 *                                                       ⇣ agent (other ids of the box)
 *
 * The launcher starts it beside the clone: FS_CONFIG at once, and FS_MOUNT when the child has mounted. Then comes the agent, the
 * confinement, the threads, and FS_READY. It ends when the file system is unmounted, which writes out what the kernel still
 * has, or when the launcher is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/wire.h"
#include "fsoverlay/confinement.h"
#include "fsoverlay/diff.h"
#include "fsoverlay/memory.h"
#include "fsoverlay/mountfs.h"
#include "fsoverlay/notify.h"
#include "fsoverlay/server.h"
#include "fsoverlay/standalone.h"

/* More bring nothing that waits for one disk; fewer would have one copy-up of a large file stop all. */
static unsigned default_threads(void) {
        cpu_set_t cpus;

        return sched_getaffinity(0, sizeof cpus, &cpus) < 0 ? 2 : (unsigned) CLAMP(CPU_COUNT(&cpus), 2, 8);
}

static void write_stats(Fs *fs, const char *path) {
        g_autofree char *text = server_stats(fs);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || !fd_write_all(fd, text, strlen(text)))
                log_note("%s: %s", path, err_text(errno));
}

/* Until it is unmounted: true, and no thread is left. Or until the launcher is gone (wire, -1: there is none), or a signal says so. */
static bool serve(Fs *fs, Server *server, int wire, int signals, const char *stats) {
        struct pollfd fds[] = { { .fd = server_end_fd(server), .events = POLLIN },
                                { .fd = wire, .events = POLLIN },
                                { .fd = signals, .events = POLLIN } };

        for (;;) {
                int n = poll(fds, G_N_ELEMENTS(fds), fs->journal ? 1000 : -1);
                if (n < 0 && errno != EINTR)
                        fs_give_up(errno, "poll");
                if (n == 0)
                        journal_flush(fs->journal);
                if (n <= 0)
                        continue;
                if (fds[0].revents) {
                        server_join(server);
                        return true;
                }
                if (fds[1].revents)
                        return false;
                if (fds[2].revents) {
                        struct signalfd_siginfo info;
                        if (read(signals, &info, sizeof info) != sizeof info)
                                continue;
                        if (info.ssi_signo != SIGUSR1)
                                return false;
                        if (stats)
                                write_stats(fs, stats);
                }
        }
}

/* By itself: nobody but those who send them ends it. As a helper the launcher does, and has them blocked; SIGUSR1 says nothing there. */
static const int signals_alone[] = { SIGUSR1, SIGTERM, SIGINT, SIGHUP, 0 }, signals_of_helper[] = { SIGUSR1, 0 };

static int take_signals(const int *which, GError **error) {
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
        return proc_take_signals(which, error);
}

/* Threads, then *ready or FS_READY; and at the end what is still to be said. */
static bool run(Fs *fs, Server *server, unsigned threads, int wire, int signals, int *ready, const char *stats, GError **error) {
        /* A heap for each thread would be mostly empty ones. */
        (void) mallopt(M_ARENA_MAX, 2);
        memory_init();
        notifier_init(fs);
        if (!server_start(server, threads ? threads : default_threads(), error))
                return false;
        if (wire >= 0 && !wire_send(wire, WIRE_FS_READY, NULL, NULL, 0, error))
                return false;
        if (ready)
                standalone_serving(ready);
        log_step("ready");
        bool unmounted = serve(fs, server, wire, signals, stats);
        if (stats)
                write_stats(fs, stats);
        if (unmounted)
                g_clear_pointer(&fs->journal, journal_free);
        else
                journal_flush(fs->journal); /* and no more: threads answer, and write to it, until the process ends */
        return true;
}

/* The launcher's helper. box: the box's directory, with upper/ and work/ in it; -1: a root that is only read. */
static bool run_helper(int wire, int box, int trace, bool verbose, GError **error) {
        g_auto(WireMessage) m = { 0 }, mount = { 0 };
        int upper = -1, work = -1;

        if (!wire_expect(wire, "launcher", WIRE_FS_CONFIG, &m, error))
                return false;
        FsConfig *config = fs_config_parse(m.body, error); /* for good */
        if (!config)
                return false;
        log_init("usbox-fs", verbose || config->verbose);
        if (box >= 0) {
                upper = openat(box, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                work = openat(box, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (upper < 0 || work < 0)
                        return err_set(error, errno, "the box's directory");
        }
        int lowers[] = { -1, -1 };
        FsParts parts = { .upper = upper,
                          .work = work,
                          .lowers = lowers,
                          .n_lowers = G_N_ELEMENTS(lowers),
                          .last_is_host = true,
                          .config = config,
                          .trace = trace };
        int signals = take_signals(signals_of_helper, error);
        /* While the box is on its way to its mount. */
        Fs *fs = signals >= 0 ? fs_open(&parts, error) : NULL;
        if (!fs || !wire_expect(wire, "launcher", WIRE_FS_MOUNT, &mount, error))
                return false;
        int dev = wire_message_take_fd(&mount, 0);
        lowers[1] = wire_message_take_fd(&mount, 1);
        lowers[0] = wire_message_take_fd(&mount, 2);
        _cleanup_close_ int userns = wire_message_take_fd(&mount, 3);
        Server *server = fs_add_lowers(fs, &parts, dev, error) ? server_new(fs, error) : NULL;
        if (!server)
                return false;
        fs->second_root = true;
        if (!fs_start_agent(fs, &parts, userns, wire, &(Confinement){ .box = box }, error))
                return false;
        /* A caller without CAP_CHOWN over the host's ids: chown is the agent's. */
        if (!confinement_apply(&(Confinement){ .lowers = lowers, .n_lowers = 2, .box = box }, error)) {
                g_prefix_error(error, "confine usbox-fs: ");
                return false;
        }
        return run(fs, server, config->threads, wire, signals, NULL, NULL, error);
}

static int open_dir(const char *path, GError **error) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
                g_autofree char *shown = err_quote(path);
                err_set(error, errno, "%s", shown);
        }
        return fd;
}

static bool run_standalone(const StandaloneOptions *o, GError **error) {
        int upper = -1, work = -1, trace = -1, ready = -1;
        g_autofree int *lowers = g_new(int, o->lowers->len);

        for (guint i = 0; i < o->lowers->len; i++)
                if ((lowers[i] = open_dir(g_ptr_array_index(o->lowers, i), error)) < 0)
                        return false;
        if (o->upper && ((upper = open_dir(o->upper, error)) < 0 || (work = open_dir(o->work, error)) < 0))
                return false;
        if (o->trace && (trace = open(o->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
                return err_set(error, errno, "%s", o->trace);
        FsConfig *config = standalone_config(o);
        FsParts parts = { .upper = upper,
                          .work = work,
                          .lowers = lowers,
                          .n_lowers = o->lowers->len,
                          .foreign = true,
                          .config = config,
                          .noacl = o->noacl,
                          .fsync_ignored = o->fsync_ignored,
                          .trace = trace };
        Fs *fs = fs_open(&parts, error);
        if (!fs || !fs_add_lowers(fs, &parts, -1, error) || (fs->dev = standalone_mount(o, error)) < 0)
                return false;
        fs->ids.squash_uid = o->squash_uid >= 0;
        fs->ids.squash_to_uid = (uint32_t) o->squash_uid;
        fs->ids.squash_gid = o->squash_gid >= 0;
        fs->ids.squash_to_gid = (uint32_t) o->squash_gid;
        int signals = -1;
        Server *server = server_new(fs, error);
        bool ok = server && (o->foreground || standalone_background(&ready, error)) && (signals = take_signals(signals_alone, error)) >= 0;
        ok = ok && fs_start_agent(fs, &parts, -1, -1, NULL, error) && run(fs, server, config->threads, -1, signals, &ready, o->stats, error);
        standalone_unmount(o, fs->dev);
        journal_flush(fs->journal); /* what was asked until then */
        return ok;
}

/* --wire N [--box N] [--trace N] [--verbose] */
static bool parse_helper(int argc, char **argv, int *wire, int *box, int *trace, bool *verbose) {
        for (int i = 1; i < argc; i++) {
                int *number = g_str_equal(argv[i], "--wire")    ? wire
                              : g_str_equal(argv[i], "--box")   ? box
                              : g_str_equal(argv[i], "--trace") ? trace
                                                                : NULL;
                guint64 fd;
                if (g_str_equal(argv[i], "--verbose"))
                        *verbose = true;
                else if (number && i + 1 < argc && g_ascii_string_to_unsigned(argv[++i], 10, 3, 1024, &fd, NULL))
                        *number = (int) fd;
                else
                        return false;
        }
        return *wire >= 0;
}

static void print_error(const GError *error) {
        const char *hint = err_get_hint(error);
        log_note("%s", error->message);
        if (hint)
                log_note("hint: %s", hint);
}

static int main_helper(int argc, char **argv) {
        int wire = -1, box = -1, trace = -1;
        bool verbose = false;
        g_autoptr(GError) error = NULL;

        log_init("usbox-fs", false);
        if (!parse_helper(argc, argv, &wire, &box, &trace, &verbose)) {
                log_note("this form is usbox's own; usbox-fs --help says how to mount");
                return EXIT_FAILURE;
        }
        bool ok = confine_wake_without_parent(&error) && run_helper(wire, box, trace, verbose, &error);
        if (!ok) {
                err_step(&error, "mount");
                wire_send_error(wire, error);
        }
        /* At once: threads may still wait for the kernel. */
        _exit(ok ? EXIT_SUCCESS : EXIT_FAILURE);
}

int main(int argc, char **argv) {
        g_autoptr(GError) error = NULL;
        g_auto(StandaloneOptions) options = { 0 };

        if (argc > 1 && g_str_equal(argv[1], "--wire"))
                return main_helper(argc, argv);
        log_init("usbox-fs", false);
        if (!fd_fill_standard(&error)) {
                print_error(error);
                return EXIT_FAILURE;
        }
        if (argc > 1 && g_str_equal(argv[1], "diff"))
                return diff_main(argc - 1, argv + 1);
        if (!standalone_parse(argc, argv, &options, &error)) {
                print_error(error);
                return EXIT_FAILURE;
        }
        if (options.help || options.version) {
                fputs(options.help ? standalone_help() : "usbox-fs " USBOX_VERSION "\n", stdout);
                return EXIT_SUCCESS;
        }
        log_init("usbox-fs", options.debug);
        if (!run_standalone(&options, &error)) {
                print_error(error);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
