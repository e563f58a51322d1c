/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "registry.h"
#include "spec.h"
#include "verb-args.h"

/*
 * One verb of usbox. run() gets the arguments after the verb, NULL-terminated, and returns the exit status, or -1 with
 * error, which main.c prints.
 */
typedef struct {
        const char *name;
        const char *arguments; /* for the usage line; "" where it takes none */
        const char *help;      /* one sentence, no capital, no dot */
        int (*run)(int argc, char **argv, GError **error);
        const VerbOption *options; /* NULL: run's are the big table, others have none or their own way */
        bool box;                  /* its words are boxes: what completions offer */
} Verb;

/* Every verb in the order of the help; ends with a row without a name. Static; in main.c. */
extern const Verb verbs[];

/* The options of each, for help and completions; each in its verb's file. */
extern const VerbOption ps_options[], inspect_options[], rm_options[], kill_options[], stop_options[], wait_options[], port_options[],
        logs_options[], events_options[], net_verb_options[], diff_options[], commit_options[], exec_options[],
        stats_options[], top_options[], update_options[], pod_verb_options[];

/* The rows of run's limits, for verbs that take them; of: what the help begins with. */
#define LIMIT_VERB_OPTIONS(of) \
        { .name = "memory", .short_name = 'm', .arg = "SIZE", .help = of "at most so much memory" }, \
        { .name = "memory-high", .arg = "SIZE", .help = of "beyond so much it is slowed down" }, \
        { .name = "memory-low", .arg = "SIZE", .help = of "so much is taken away from it last" }, \
        { .name = "memory-min", .arg = "SIZE", .help = of "so much is never taken away from it" }, \
        { .name = "memory-swap", .arg = "SIZE", .help = of "memory and swap together" }, \
        { .name = "cpus", .arg = "N", .help = of "at most so many processors' time" }, \
        { .name = "cpu-weight", .arg = "N", .help = of "share of the processors when they are short" }, \
        { .name = "cpuset-cpus", .arg = "LIST", .help = of "these processors alone" }, \
        { .name = "cpuset-mems", .arg = "LIST", .help = of "memory of these NUMA nodes alone" }, \
        { .name = "pids-limit", .arg = "N", .help = of "at most so many processes and threads" }, \
        { .name = "io-weight", .arg = "N", .help = of "share of the disks when they are busy" }, \
        { .name = "io-max", .arg = "DEVICE:KEY=N[,...]", .complete = COMPLETE_FILE, .help = of "a disk's limits" }, \
        { .name = "hugetlb", .arg = "PAGESIZE=SIZE", .help = of "at most so much memory in huge pages" }, \
        { .name = "misc", .arg = "RESOURCE=N", .help = of "at most so many of a resource of the misc controller" }, \
        { .name = "rdma", .arg = "DEVICE:KEY=N[,...]", .help = of "at most so many handles and objects of an RDMA device" }, \
        { .name = "property", .arg = "NAME=VALUE", .help = of "a property of its systemd scope" }

int cmd_run(int argc, char **argv, GError **error);
int cmd_run_detached(const Spec *spec, GError **error); /* what run --detach does with its Spec */
int cmd_diff(int argc, char **argv, GError **error);
int cmd_commit(int argc, char **argv, GError **error);
int cmd_explore(int argc, char **argv, GError **error);
int cmd_drop(int argc, char **argv, GError **error);
int cmd_doctor(int argc, char **argv, GError **error);
int cmd_profile(int argc, char **argv, GError **error);
int cmd_ps(int argc, char **argv, GError **error);
int cmd_inspect(int argc, char **argv, GError **error);
int cmd_rm(int argc, char **argv, GError **error);
int cmd_kill(int argc, char **argv, GError **error);
int cmd_stop(int argc, char **argv, GError **error);
int cmd_wait(int argc, char **argv, GError **error);
int cmd_logs(int argc, char **argv, GError **error);
int cmd_events(int argc, char **argv, GError **error);
int cmd_net(int argc, char **argv, GError **error);
int cmd_exec(int argc, char **argv, GError **error);
int cmd_pod(int argc, char **argv, GError **error);
int cmd_port(int argc, char **argv, GError **error);
int cmd_stats(int argc, char **argv, GError **error);
int cmd_top(int argc, char **argv, GError **error);
int cmd_pause(int argc, char **argv, GError **error);
int cmd_unpause(int argc, char **argv, GError **error);
int cmd_update(int argc, char **argv, GError **error);
int cmd_help(int argc, char **argv, GError **error);
int cmd_version(int argc, char **argv, GError **error);

/* The box, or pod, that a word names: one of registry_find() and its like. */
typedef BoxInfo *(*BoxFind)(const Caller *caller, const char *text, GError **error);

/* What inspect does: print all that is known of those that the words from the first one on name. False with error. */
bool inspect_print(const Caller *caller, const VerbArgs *args, guint first, BoxFind find, GError **error);

/* What stop does, likewise: tell them, with --time, and wait until all have ended. False with error. */
bool stop_all(const Caller *caller, const VerbArgs *args, guint first, BoxFind find, GError **error);

/* What rm and drop do: forget the boxes that the words name; force: end one first, if it runs. False with error. */
bool box_forget_all(const Spec *spec, const VerbArgs *args, bool force, GError **error);
bool box_forget_found(const Spec *spec, const BoxInfo *box, bool force, GError **error);

/* The usage of one verb on stdout, as `usbox help VERB` prints it. Returns 0, the exit status. */
int cmd_help_verb(const Verb *verb);
