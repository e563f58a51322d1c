/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox commit: carry what a box changed to the host.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Order: when the box has ended; its lock is held meanwhile.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/number.h"
#include "cmd-verbs.h"
#include "commit-apply.h"
#include "commit-rest.h"
#include "fsoverlay/jsonbytes.h"
#include "review-list.h"

#define PROGRESS_US 200000 /* between two lines of progress */
#define PROGRESS_WAIT_US 1000000 /* before the first */

const VerbOption commit_options[] = {
        { .name = "dry-run", .help = "show what would be done, and change nothing" },
        { .name = "force", .help = "also where the host changed since" },
        { .name = "json", .help = "a JSON object in a line for each change, for programs" },
        { 0 },
};

typedef struct {
        bool json, dry_run, terminal;
        guint n_done, n_failed, n_all;
        guint64 bytes, all_bytes;
        gint64 started, shown;
} Teller;

static void clear_progress(const Teller *t) {
        if (t->shown)
                fputs("\r\x1b[K", stderr);
}

static char letter(const CommitItem *item) {
        return item->replaced ? CHANGE_ADDED : (char) item->change->kind;
}

static void print_json(const CommitItem *item, const char *result, const char *why) {
        g_autoptr(GString) line = g_string_new("{\"path\":");

        jsonbytes_append(line, item->change->path);
        g_string_append_printf(line, ",\"change\":\"%c\",\"result\":\"%s\"", letter(item), result);
        if (why) {
                g_string_append(line, ",\"reason\":");
                jsonbytes_append(line, why);
        }
        g_string_append(line, "}\n");
        fputs(line->str, stdout);
}

/* One line on stderr for what was not carried. */
static void tell(Teller *t, const CommitItem *item, const char *result, const char *why) {
        g_autofree char *path = review_quote("", item->change->path);

        clear_progress(t);
        if (t->json)
                print_json(item, result, why);
        else
                log_note("%s: %s: %s", result, path, why);
}

static void progress(Teller *t) {
        gint64 now = g_get_monotonic_time();

        if (!t->terminal || now - t->started < PROGRESS_WAIT_US || now - t->shown < PROGRESS_US)
                return;
        g_autofree char *bytes = g_format_size_full(t->bytes, G_FORMAT_SIZE_IEC_UNITS), *all = g_format_size_full(t->all_bytes, G_FORMAT_SIZE_IEC_UNITS);
        fprintf(stderr, "\r\x1b[K%u of %u changes, %s of %s", t->n_done + t->n_failed, t->n_all, bytes, all);
        t->shown = now;
}

static void done(void *data, const CommitItem *item) {
        Teller *t = data;

        t->n_done++;
        if (item->change->has_st && S_ISREG(item->change->st.st_mode))
                t->bytes += (guint64) item->change->st.st_size;
        if (t->json)
                print_json(item, t->dry_run ? "would" : "done", NULL);
        else if (t->dry_run) {
                g_autofree char *path = review_quote("", item->change->path);
                printf("%c  %s\n", letter(item), path);
        }
        progress(t);
}

static void failed(void *data, const CommitItem *item, const char *why) {
        Teller *t = data;

        t->n_failed++;
        tell(t, item, "failed", why);
        progress(t);
}

/* Conflicts and what is passed over; said before anything is done. */
static void tell_verdicts(Teller *t, const CommitPlan *plan) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if (item->verdict == COMMIT_CONFLICT)
                        tell(t, item, "conflict", item->reason);
                else if (item->verdict == COMMIT_SKIP)
                        tell(t, item, "skipped", item->reason);
                else if (item->verdict == COMMIT_DO && item->change->has_st && S_ISREG(item->change->st.st_mode) &&
                         item->change->st.st_mode & (S_ISUID | S_ISGID) && !t->json) {
                        g_autofree char *path = review_quote("", item->change->path);
                        log_note("%s: carried without its set-id bits", path);
                }
        }
}

/* The host's file of this item, where it has more than one name; 0 where it has not. */
static guint64 linked_file(const CommitItem *item) {
        const ReviewChange *c = item->change;
        bool had_one = (c->kind == CHANGE_MODIFIED && c->what & CHANGE_CONTENT) || c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE;

        return item->verdict == COMMIT_DO && had_one && S_ISREG(c->below.st_mode) && c->below.st_nlink > 1 ? c->below.st_ino : 0;
}

/* A changed file comes into its name's place, as a file of its own: names of the old one that this commit does not change stay with that. */
static void tell_names_left(const CommitPlan *plan) {
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

        for (guint i = 0; i < plan->items->len; i++) {
                guint64 ino = linked_file(&g_array_index(plan->items, CommitItem, i));
                if (ino)
                        g_hash_table_replace(names, g_memdup2(&ino, sizeof ino), GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(names, &ino)) + 1));
        }
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                guint64 ino = linked_file(item);
                if (!ino || item->change->kind != CHANGE_MODIFIED || item->change->below.st_nlink <= GPOINTER_TO_UINT(g_hash_table_lookup(names, &ino)))
                        continue;
                g_autofree char *path = review_quote("", item->change->path);
                log_note("%s: has other names on the host, which keep what it was", path);
        }
}

static void only_show(Teller *t, const CommitPlan *plan) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if (item->verdict == COMMIT_DO)
                        done(t, item);
        }
}

static void summary(const Review *review, const Teller *t, const CommitPlan *plan) {
        clear_progress(t);
        if (t->json)
                return;
        fflush(stdout);
        if (t->dry_run)
                log_note("%u change%s would be carried, %u conflict%s, %u passed over", plan->n_do, number_plural(plan->n_do), plan->n_conflicts,
                         number_plural(plan->n_conflicts), plan->n_skipped);
        else
                log_note("%u change%s carried to the host, %u failed, %u passed over", t->n_done, number_plural(t->n_done), t->n_failed,
                         plan->n_skipped + plan->n_conflicts);
        if (t->n_failed > 0)
                log_note("what failed is still in the box, as files below %s/upper", review->dir);
}

static int commit(Review *review, Teller *t, const char *const *paths, bool force, GError **error) {
        g_autoptr(CommitPlan) plan = commit_plan_new(review, paths, force);

        t->n_all = plan->n_do;
        t->all_bytes = plan->bytes;
        tell_verdicts(t, plan);
        if (plan->n_conflicts == 0 && !t->json)
                tell_names_left(plan);
        if (t->dry_run)
                only_show(t, plan);
        else if (plan->n_conflicts > 0) {
                log_note("%u conflict%s: nothing was carried to the host. usbox commit --force %s takes the box's version, usbox commit %s PATH... takes other "
                         "paths alone",
                         plan->n_conflicts, number_plural(plan->n_conflicts), review->name, review->name);
                return 1;
        } else if (!commit_apply(review, plan, &(CommitReport){ done, failed, t }, error)) {
                clear_progress(t);
                err_hint(error, "nothing is lost: the same command goes on where it stopped");
                return -1;
        }
        summary(review, t, plan);
        /* A name that was mistyped looks like a commit that went well. */
        if (*paths && plan->items->len == 0 && !t->json)
                review_tell_unmatched(review);
        return plan->complete && plan->n_conflicts + plan->n_skipped + t->n_failed == 0 ? 0 : 1;
}

int cmd_commit(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "commit", commit_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "commit", 1, G_MAXUINT, error))
                return -1;
        Teller t = { .json = verb_args_has(&args, "json"),
                     .dry_run = verb_args_has(&args, "dry-run"),
                     .terminal = isatty(STDERR_FILENO),
                     .started = g_get_monotonic_time() };
        g_autoptr(Spec) draft = spec_new(error);
        g_autoptr(Review) review = draft ? review_open(&draft->caller, verb_args_word(&args, 0), error) : NULL;
        if (!review || !review_lock(review, error)) {
                err_step(error, "commit");
                return -1;
        }
        g_auto(GStrv) paths = review_paths(draft->caller.cwd, &args);
        if (!t.dry_run)
                commit_rest_clean(review->journal, review_lower(review), review->id);
        int status = commit(review, &t, (const char *const *) paths, verb_args_has(&args, "force"), error);
        if (status < 0)
                err_step(error, "commit");
        return status;
}
