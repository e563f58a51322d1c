/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox: the table of verbs, and the only place that prints errors.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: first and last.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "child.h"
#include "cmd-verbs.h"
#include "option.h"

#define HEAP_SIZE (512 * 1024)

const Verb verbs[] = {
        { "run", "[OPTION...] [--] COMMAND [ARGUMENT...]", "run a command in a new box", cmd_run },
        { "exec", "[OPTION...] BOX [--] COMMAND [ARGUMENT...]", "run another command in a running box", cmd_exec, exec_options, true },
        { "ps", "[-a] [--json|--quiet]", "list the boxes that run, with -a also those that ended", cmd_ps, ps_options },
        { "inspect", "BOX...", "print all that is known of a box, as JSON", cmd_inspect, inspect_options, true },
        { "logs", "[-f] [--since TIME] [--tail N] BOX", "print what a detached box's command wrote", cmd_logs, logs_options, true },
        { "events", "[--past] [--json]", "print starts and ends of boxes as they happen", cmd_events, events_options },
        { "port", "[--json] BOX", "print a box's published ports", cmd_port, port_options, true },
        { "net", "BOX [--flows] [--json] | BOX allow|deny RULE... | BOX publish|unpublish [IP:]HOST:BOX[/udp]...",
          "list a box's flows, give it rules that count before all others, or open and close its ports", cmd_net, net_verb_options, true },
        { "wait", "[--json] BOX...", "wait until boxes have ended, and print their exit statuses", cmd_wait, wait_options, true },
        { "kill", "[-s SIGNAL] BOX...", "send a box's command a signal", cmd_kill, kill_options, true },
        { "stop", "[-t SECONDS] BOX...", "end boxes: their stop signal, and KILL after a while", cmd_stop, stop_options, true },
        { "stats", "[--watch] [--json] [BOX...]", "show what boxes and limited pods use of memory, processors, disks and network",
          cmd_stats, stats_options, true },
        { "top", "[--json] BOX", "list a box's processes", cmd_top, top_options, true },
        { "pause", "BOX...", "stop all processes of a box, or of a pod's boxes, where they are", cmd_pause, NULL, true },
        { "unpause", "BOX...", "let the processes of a paused box or pod go on", cmd_unpause, NULL, true },
        { "update", "[LIMIT...] BOX...", "change the limits of a running box or pod", cmd_update, update_options, true },
        { "pod", "create [OPTION...] POD | ps [--json|--quiet] | stop [-t SECONDS] POD... | rm [-f] POD... | inspect POD...",
          "make, list, end and show pods: boxes that share network, IPC and host name", cmd_pod, pod_verb_options },
        { "rm", "[-f] BOX...", "forget boxes that have ended, and all that they changed", cmd_rm, rm_options, true },
        { "diff", "[--json|--stat|--patch] BOX [PATH...]", "show what a box changed", cmd_diff, diff_options, true },
        { "commit", "[--dry-run] [--force] [--json] BOX [PATH...]", "carry what a box changed to the host", cmd_commit, commit_options, true },
        { "explore", "BOX", "open a shell on what a box changed", cmd_explore, NULL, true },
        { "drop", "BOX...", "forget what boxes changed that have ended", cmd_drop, NULL, true },
        { "profile", "list [--json|--quiet] | show [--json] NAME|default", "list profiles, or show what one says",
          cmd_profile },
        { "doctor", "[--json]", "check this machine for all that usbox needs, with the command that mends each thing",
          cmd_doctor },
        { "version", "[--json]", "print the version", cmd_version },
        { "help", "[VERB] [--json]", "show help for a verb", cmd_help },
        { 0 },
};

static const Verb *find_verb(const char *name) {
        for (const Verb *verb = verbs; verb->name; verb++)
                if (g_str_equal(verb->name, name))
                        return verb;
        return NULL;
}

/* Names in errors were quoted where they came in; text that came over a wire or from a library may hold anything. */
static void print_line(const char *prefix, const char *text) {
        g_autofree char *line = g_strdelimit(g_strdup(text), "\n\r\t", ' '), *visible = err_visible(line);

        fprintf(stderr, "%s%s\n", prefix, visible);
}

static int print_error(const GError *error) {
        const char *step = err_get_step(error), *hint = err_get_hint(error);
        g_autofree char *text = step ? g_strdup_printf("%s: %s", step, error->message) : g_strdup(error->message);

        print_line("usbox: ", text);
        if (hint)
                print_line("hint: ", hint);
        if (error->domain != USBOX_ERROR)
                return 125;
        return error->code == USBOX_ERROR_NOT_EXEC ? 126 : error->code == USBOX_ERROR_NOT_FOUND ? 127 : 125;
}

/* What other tools call a verb. */
static const ForeignWords foreign_verbs[] = {
        { { "attach" }, "usbox logs -f BOX shows what the box writes; a shell in it: usbox exec BOX -- sh" },
        { { "build", "image", "images", "load", "pull", "push", "rmi", "save" },
          "there are no images: a box has this machine's files, or a directory's by usbox run --rootfs DIR" },
        { { "cp" }, "usbox commit BOX PATH carries what a box changed to the host; usbox run -v SOURCE:TARGET shows it more" },
        { { "create" }, "a box begins with its command: usbox run -d -- CMD" },
        { { "container" }, "usbox ps, stop, rm, inspect and the others stand without it: usbox help lists them" },
        { { "enter" }, "a shell in a box that runs: usbox exec BOX -- sh" },
        { { "info", "system" }, "what this machine has and lacks: usbox doctor" },
        { { "list", "ls" }, "usbox ps -a lists the boxes" },
        { { "prune" }, "a box without a name goes by itself when the next one ends, others by usbox rm BOX..." },
        { { "restart", "start" }, "a box that was given a name goes on with what it changed: usbox run --name NAME -- CMD" },
        { { "shell" }, "a shell in a new box: usbox run -- sh; in a box that runs: usbox exec BOX -- sh" },
        { { NULL }, NULL },
};

/* An option stands where a verb is to be. */
static void option_for_verb(const char *typed, GError **error) {
        g_autofree char *quoted = err_quote(typed), *name = g_strndup(typed, strcspn(typed, "="));
        bool of_run = g_str_has_prefix(name, "--") ? option_find(name + 2) != NULL : name[1] && option_find_short(name[1]);

        err_usage(error, "'%s' stands where a verb is to be", quoted);
        err_step(error, "options");
        if (g_str_equal(typed, "-v"))
                err_hint(error, "usbox --version");
        else if (of_run)
                err_hint(error, "options follow their verb: usbox run %s ...", quoted);
        else
                err_hint(error, "usbox help lists the verbs");
}

static void unknown_verb(const char *typed, GError **error) {
        const char *names[G_N_ELEMENTS(verbs)] = { NULL };
        g_autofree char *quoted = err_quote(typed);

        for (size_t i = 0; verbs[i].name; i++)
                names[i] = verbs[i].name;
        err_usage(error, "unknown verb '%s'", quoted);
        err_step(error, "options");
        const char *foreign = foreign_hint(foreign_verbs, typed), *near = option_nearest(typed, names);
        if (foreign)
                err_hint(error, "%s", foreign);
        else if (near)
                err_hint(error, "did you mean usbox %s?", near);
        else
                err_hint(error, "to run a command in a box: usbox run -- %s", quoted);
}

static int dispatch(int argc, char **argv, GError **error) {
        const char *name = argv[1];

        if (g_str_equal(name, "--help") || g_str_equal(name, "-h"))
                name = "help";
        else if (g_str_equal(name, "--version") || g_str_equal(name, "-V"))
                name = "version";
        const Verb *verb = find_verb(name);
        if (!verb) {
                if (*name == '-')
                        option_for_verb(name, error);
                else
                        unknown_verb(name, error);
                return -1;
        }
        /* run has a row for it, since what follows its command is the command's; so it is with exec. pod and profile have verbs of their own. */
        bool alone = argc == 3 || (argc == 4 && verb->run != cmd_exec && !g_str_equal(argv[2], "--"));
        const char *last = argv[argc - 1];
        if (verb->run != cmd_run && alone && (g_str_equal(last, "--help") || g_str_equal(last, "-h")))
                return cmd_help_verb(verb);
        int r = verb->run(argc - 2, argv + 2, error);
        if (r < 0 && g_error_matches(*error, USBOX_ERROR, USBOX_ERROR_USAGE)) {
                if (!err_get_step(*error))
                        err_step(error, "options");
                if (verb->run != cmd_run && !err_get_hint(*error))
                        err_hint(error, "usbox %s %s", verb->name, verb->arguments);
        }
        return r;
}

int main(int argc, char **argv) {
        g_autoptr(GError) error = NULL;

        /* A run is short and needs little: the heap in one piece, nothing given back in between (mallopt(3)). */
        (void) mallopt(M_TOP_PAD, HEAP_SIZE);
        (void) mallopt(M_TRIM_THRESHOLD, 16 * HEAP_SIZE);
        /* What meets the caller's limit on file sizes is to get EFBIG, and say so; the command has the default again, as has each program that is started. */
        (void) signal(SIGXFSZ, SIG_IGN);
        log_init("usbox", false);
        child_remember_argv(argc, argv);
        if (argc < 2) {
                fputs("usage: usbox run [OPTION...] [--] COMMAND [ARGUMENT...]\n"
                      "       usbox help\n",
                      stderr);
                return 125;
        }
        int status = dispatch(argc, argv, &error);
        if (status < 0)
                return print_error(error);
        /* A full disk or a closed pipe behind our output is a failure, too. */
        errno = 0;
        if (fflush(stdout) != 0 || ferror(stdout)) {
                err_set(&error, errno, "write to standard output");
                return print_error(error);
        }
        return status;
}
