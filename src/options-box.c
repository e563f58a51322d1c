/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The run as a whole: its options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include <signal.h>
#include <unistd.h>

#include "base/error.h"
#include "logs.h"
#include "profile.h"
#include "registry.h"
#include "spec.h"


static bool apply_help(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--help", values[0], &draft->box.help, error);
}

static bool apply_profile(Spec *draft, const char *const *values, GError **error) {
        return profile_apply(draft, values[0], error);
}

static bool apply_name(Spec *draft, const char *const *values, GError **error) {
        if (!registry_name_ok(values[0])) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--name: '%s' cannot be the name of a box", quoted);
                return err_hint(error, "letters, digits, '.', '_' and '-', at most %d; first a letter or digit; not twelve hexadecimal digits, not last",
                                BOX_NAME_MAX);
        }
        g_free(draft->box.name);
        draft->box.name = g_strdup(values[0]);
        return true;
}

static bool apply_detach(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--detach", values[0], &draft->box.detach, error);
}

static bool apply_log_size(Spec *draft, const char *const *values, GError **error) {
        if (!option_size("--log-size", values[0], &draft->box.log_size, error))
                return false;
        return (draft->box.log_size >= LOG_SIZE_MIN && draft->box.log_size <= LOG_SIZE_MAX) ||
               err_usage(error, "--log-size: %s is not between 256K and 1G", values[0]);
}

static bool apply_rm(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--rm", values[0], &draft->box.rm, error);
}

static bool apply_keep_max(Spec *draft, const char *const *values, GError **error) {
        return option_size("--keep-max", values[0], &draft->box.keep_max, error);
}

/* Stdin always reaches the command; podman's habit `-it` is to keep working. */
static bool apply_interactive(Spec *draft, const char *const *values, GError **error) {
        bool on;
        if (!option_bool("--interactive", values[0], &on, error))
                return false;
        if (!on) {
                err_usage(error, "--interactive=false: stdin is always passed on");
                return err_hint(error, "redirect it: </dev/null");
        }
        return true;
}

static bool apply_tty(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--tty", values[0], &draft->box.tty, error);
}

static bool apply_dry_run(Spec *draft, const char *const *values, GError **error) {
        draft->box.dry_run_json = g_str_equal(values[0], "json");
        if (draft->box.dry_run_json) {
                draft->box.dry_run = true;
                return true;
        }
        return option_bool("--dry-run", values[0], &draft->box.dry_run, error);
}

static bool apply_verbose(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--verbose", values[0], &draft->box.verbose, error);
}

static bool apply_die_with_parent(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--die-with-parent", values[0], &draft->box.die_with_parent, error);
}

static bool apply_status_fd(Spec *draft, const char *const *values, GError **error) {
        return option_fd("--status-fd", values[0], true, &draft->box.status_fd, error);
}

static bool apply_pidfile(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->box.pidfile);
        draft->box.pidfile = option_host_path(draft, values[0]);
        return true;
}

static bool apply_timeout(Spec *draft, const char *const *values, GError **error) {
        return option_duration("--timeout", values[0], &draft->box.timeout_ns, error);
}

static bool apply_stop_signal(Spec *draft, const char *const *values, GError **error) {
        return option_signal("--stop-signal", values[0], &draft->box.stop_signal, error);
}

static bool apply_best_effort(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--best-effort", values[0], BEST_EFFORT_CHOICES, &place, error))
                return false;
        draft->box.best_effort |= 1u << place;
        return true;
}

const Option box_options[] = {
        { .name = "help",
          .short_name = 'h',
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .help = "show this help",
          .apply = apply_help },
        { .name = "profile",
          .arg = "NAME|FILE",
          .group = OPTION_BOX,
          .flags = OPTION_LIST | OPTION_NO_PROFILE | OPTION_FIRST,
          .complete = COMPLETE_PROFILE,
          .help = "take options from a profile; what stands on the command line wins",
          .apply = apply_profile },
        { .name = "name",
          .arg = "NAME",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_BOX,
          .help = "a name for the box, which then keeps its changes until usbox rm; where there is one that has ended: go on with its files",
          .apply = apply_name },
        { .name = "detach",
          .short_name = 'd',
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .help = "print the box's id and return as soon as the command runs; its output goes to usbox logs",
          .apply = apply_detach },
        { .name = "log-size",
          .arg = "SIZE",
          .group = OPTION_BOX,
          .help = "with --detach: how much of the output is kept at least, each line with its time, and at most twice that (default 16M)",
          .apply = apply_log_size },
        { .name = "rm",
          .group = OPTION_BOX,
          .help = "drop what the command changed as soon as it ends",
          .apply = apply_rm },
        { .name = "keep-max",
          .arg = "SIZE",
          .group = OPTION_BOX,
          .help = "of a box without a name that is not detached, drop changes that take more space than this on the disk (default: keep all)",
          .apply = apply_keep_max },
        { .name = "interactive",
          .short_name = 'i',
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .help = "accepted for the habit of -it: stdin is always passed on",
          .apply = apply_interactive },
        { .name = "tty",
          .short_name = 't',
          .group = OPTION_BOX,
          .help = "a terminal of its own for the command, even where stdin is none",
          .apply = apply_tty },
        { .name = "timeout",
          .arg = "TIME",
          .group = OPTION_BOX,
          .help = "stop the command after TIME (90, 1.5s, 2m, 1h30m); exit status 124; 0: never",
          .apply = apply_timeout },
        { .name = "stop-signal",
          .arg = "SIGNAL",
          .group = OPTION_BOX,
          .complete = COMPLETE_SIGNAL,
          .help = "what --timeout sends first (default TERM); KILL follows 10 seconds later",
          .apply = apply_stop_signal },
        { .name = "die-with-parent",
          .group = OPTION_BOX,
          .help = "end the box when the process that started usbox ends",
          .apply = apply_die_with_parent },
        { .name = "best-effort",
          .arg = "THING",
          .group = OPTION_BOX,
          .flags = OPTION_LIST,
          .complete = COMPLETE_CHOICES,
          .choices = BEST_EFFORT_CHOICES,
          .help = "go on without THING where it cannot be had: keyring, sysfs, ipv6, confine (helpers' own "
                  "cages), limits, hide (in trees of --rw and the like)",
          .apply = apply_best_effort },
        { .name = "dry-run",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .choices = "json",
          .help = "print everything that would be in force and run nothing; =json: for programs",
          .apply = apply_dry_run },
        { .name = "verbose",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .help = "print every step and when it was done",
          .apply = apply_verbose },
        { .name = "status-fd",
          .arg = "FD",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .help = "write one JSON object an event (started, exited, failed) to this descriptor",
          .apply = apply_status_fd },
        { .name = "pidfile",
          .arg = "FILE",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_FILE,
          .help = "write the pid that the command has on the host to FILE",
          .apply = apply_pidfile },
        { 0 },
};

const char *box_best_effort_name(BestEffort bit) {
        switch (bit) {
        case BEST_EFFORT_KEYRING:
                return "keyring";
        case BEST_EFFORT_SYSFS:
                return "sysfs";
        case BEST_EFFORT_IPV6:
                return "ipv6";
        case BEST_EFFORT_CONFINE:
                return "confine";
        case BEST_EFFORT_LIMITS:
                return "limits";
        case BEST_EFFORT_HIDE:
                return "hide";
        }
        return NULL;
}

bool box_check(const Spec *draft, GError **error) {
        if (draft->box.detach && draft->box.die_with_parent) {
                err_usage(error, "--detach and --die-with-parent exclude each other");
                return err_hint(error, "a detached box goes on when who started it has ended; where a profile has the latter: --die-with-parent=false");
        }
        if (draft->box.detach && draft->box.status_fd >= 0 && draft->box.status_fd <= STDERR_FILENO) {
                err_usage(error, "--detach and --status-fd %d: a detached box lets go of the caller's standard output and error", draft->box.status_fd);
                return err_hint(error, "give it a descriptor of its own: --status-fd 3 3>FILE");
        }
        return true;
}

void box_init(BoxSpec *s) {
        s->log_size = LOG_SIZE_DEFAULT;
        s->status_fd = -1;
        s->stop_signal = SIGTERM;
        s->profiles = g_ptr_array_new_with_free_func(g_free);
}

void box_clear(BoxSpec *s) {
        g_free(s->name);
        g_strfreev(s->typed);
        g_free(s->explored);
        g_free(s->pidfile);
        g_clear_pointer(&s->profiles, g_ptr_array_unref);
}
