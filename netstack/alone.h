/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/wire.h"
#include "netstack/config.h"

/*
 * usbox-net, the command: a front, which has its command line, and behind it usbox-net-stack as in a box, to which the front is the launcher.
 */

typedef struct {
        bool help, version, try_fast_path;
        char *netns;       /* PID or PATH, as given */
        bool path;         /* --netns-type=path: a number is a file's name, too */
        char *userns_path; /* NULL: the network namespace's own */
        bool bare;         /* --no-configure */
        bool mtu_given, dns_given;
        bool configure;    /* -c was given */
        int ready_fd, exit_fd; /* -1: none */
        char *log_file, *pcap_file; /* NULL: none */
        NetConfig *config; /* all else, which goes to the stack; its descriptors are not open yet */
} AloneOptions;

/* The command line; argv without the program. False with a usage error; alone_clear() either way. */
bool alone_parse(int argc, char *const *argv, AloneOptions *ret, GError **error);
void alone_clear(AloneOptions *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AloneOptions, alone_clear)

/* What --help prints; the caller's. */
char *alone_help(void);

/* The namespaces that are meant, opened. */
typedef struct {
        int netns;
        int userns;   /* -1: that which netns belongs to */
        int process;  /* a pidfd of the process that was named; -1: none was, the file was */
        char *path;   /* that file; NULL with process */
        dev_t dev;    /* of netns, */
        ino_t ino;    /* to see whether path still leads to it */
} AloneTarget;

#define ALONE_TARGET_NONE ((AloneTarget){ .netns = -1, .userns = -1, .process = -1 })

/* Find what the options name. alone_target_clear() either way. */
bool alone_target_open(const AloneOptions *o, AloneTarget *ret, GError **error);
void alone_target_clear(AloneTarget *t);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AloneTarget, alone_target_clear)

/* Whether the process has ended, or the path leads elsewhere. */
bool alone_target_is_gone(const AloneTarget *t);

/* Leave it, if it is there, without the rules of the fast path, which lead its TCP to us. */
void alone_target_leave(const AloneTarget *target, const AloneOptions *o);

/* Who makes the TAP: a process that enters the target. */
typedef struct {
        pid_t pid; /* -1: none */
        int wire;
} AloneTapMaker;

/* Have the TAP made and set up in the target, whose own descriptors of namespaces are closed; NET_TAP, which brings it to usbox-net, is said by
 * wire, which is borrowed. alone_tap_end() either way. */
bool alone_tap_begin(AloneTarget *target, const AloneOptions *o, int wire, AloneTapMaker *ret, GError **error);

/* Wait until usbox-net has something to say on wire; false: there is no TAP, and why. */
bool alone_tap_await(AloneTapMaker *maker, int wire, GError **error);

/* Reap it. */
void alone_tap_end(AloneTapMaker *maker);

/* --try-fast-path: a TAP and the fast path's rules, in namespaces that are made for it and gone again. False: why not. */
bool alone_try_fast_path(GError **error);

/* The program: the exit status. */
int alone_main(int argc, char **argv);
