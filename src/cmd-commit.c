/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox commit: carry what a box changed to the host.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Order: when the box has ended; its lock is held meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
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
#include "copy-origin.h"
#include "fsoverlay/config.h"
#include "fsoverlay/jsonbytes.h"
#include "fsoverlay/lowers.h"
#include "subid.h"

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
        GArray *subuids, *subgids; /* of SubidRange: ids that are nobody's on the host */
        GHashTable *notes; /* CommitItem * → char *: what is said of one that is carried, with --json alone */
} Teller;

static void clear_progress(const Teller *t) {
        if (t->shown)
                fputs("\r\x1b[K", stderr);
}

static char letter(const CommitItem *item) {
        return item->replaced ? CHANGE_ADDED : (char) item->change->kind;
}

static void add_text(GString *line, const char *key, const char *text) {
        if (!text)
                return;
        g_string_append_printf(line, ",\"%s\":", key);
        jsonbytes_append(line, text);
}

static void print_json(const CommitItem *item, const char *result, const char *why, const char *note) {
        g_autoptr(GString) line = g_string_new("{\"path\":");

        jsonbytes_append(line, item->change->path);
        g_string_append_printf(line, ",\"change\":\"%c\",\"result\":\"%s\"", letter(item), result);
        add_text(line, "reason", why);
        add_text(line, "note", note);
        g_string_append(line, "}\n");
        fputs(line->str, stdout);
}

/* One line on stderr for what was not carried. */
static void tell(Teller *t, const CommitItem *item, const char *result, const char *why) {
        g_autofree char *path = review_quote("", item->change->path);

        clear_progress(t);
        if (t->json)
                print_json(item, result, why, NULL);
        else
                log_note("%s: %s: %s", result, path, why);
}

/* Of what is carried, before it is: a line on stderr, or a part of its own line. */
static void note(const Teller *t, const CommitItem *item, const char *what) {
        const char *known = t->json ? g_hash_table_lookup(t->notes, item) : NULL;
        g_autofree char *path = review_quote("", item->change->path);

        if (t->json)
                g_hash_table_insert(t->notes, (gpointer) item, known ? g_strdup_printf("%s; %s", known, what) : g_strdup(what));
        else
                log_note("%s: %s", path, what);
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
                print_json(item, t->dry_run ? "would" : "done", NULL, g_hash_table_lookup(t->notes, item));
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

/* File capabilities (setcap), which are rights as set-id bits are. */
static bool has_capabilities(const Review *review, const ReviewChange *c) {
        _cleanup_close_ int fd = review_open_upper(review, c->path, O_PATH);
        g_autofree char *value = fd >= 0 ? layer_xattr(fd, NULL, "security.capability", NULL) : NULL;
        /* Those of another user namespace can be there and have no meaning here. */
        return value || (fd >= 0 && errno == EOVERFLOW);
}

/* An ACL (linux/posix_acl_xattr.h: a version, then entries of tag, rights and id, all little-endian) names somebody who is in the box alone. */
static bool names_nobody(const Teller *t, int fd, const char *acl) {
        size_t len = 0;
        g_autofree char *value = layer_xattr(fd, NULL, acl, &len);
        struct posix_acl_xattr_entry e;

        for (size_t at = sizeof(struct posix_acl_xattr_header); value && at + sizeof e <= len; at += sizeof e) {
                memcpy(&e, value + at, sizeof e);
                guint16 tag = GUINT16_FROM_LE(e.e_tag);
                const GArray *ids = tag == ACL_USER ? t->subuids : tag == ACL_GROUP ? t->subgids : NULL;
                if (ids && subid_contains(ids, GUINT32_FROM_LE(e.e_id), 1))
                        return true;
        }
        return false;
}

/* Of a file or a directory: its ACL goes with it, as numbers. */
static void tell_acl(Teller *t, const Review *review, const CommitItem *item) {
        const ReviewChange *c = item->change;

        if (!c->has_st || S_ISLNK(c->st.st_mode) || (c->kind == CHANGE_MODIFIED && !(c->what & CHANGE_XATTR) && !item->replaced))
                return;
        _cleanup_close_ int fd = review_open_upper(review, c->path, O_PATH);
        if (fd >= 0 && (names_nobody(t, fd, XATTR_ACL_ACCESS) || names_nobody(t, fd, XATTR_ACL_DEFAULT)))
                note(t, item, "its ACL names ids of the box, which on the host are subordinate numbers");
}

/* What is said of a file that is carried. */
static void tell_rights(Teller *t, const Review *review, const CommitItem *item) {
        const ReviewChange *c = item->change;

        tell_acl(t, review, item);
        if (!c->has_st || !S_ISREG(c->st.st_mode) || (review_keeps_mode(c) && !item->replaced))
                return;
        if (c->st.st_mode & (S_ISUID | S_ISGID))
                note(t, item, "carried without its set-id bits");
        if (has_capabilities(review, c))
                note(t, item, "carried without its capabilities");
}

/* Conflicts and what is passed over; said before anything is done. */
static void tell_verdicts(Teller *t, const Review *review, const CommitPlan *plan) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if (item->verdict == COMMIT_CONFLICT)
                        tell(t, item, "conflict", item->reason);
                else if (item->verdict == COMMIT_SKIP)
                        tell(t, item, "skipped", item->reason);
                else if (item->verdict == COMMIT_DO)
                        tell_rights(t, review, item);
        }
}

/* A file of the host's that has several names there. */
typedef struct {
        guint64 ino;
        nlink_t names;
        guint taken;   /* of them this commit removes, or gives them another file */
        guint changed; /* of them it gives the file other attributes */
} HostFile;

/* Those that the box has something of; *ret_kept gets the inode numbers of the upper's files that stand at such a name. */
static GHashTable *linked_files(const CommitPlan *plan, GHashTable *kept) {
        GHashTable *files = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);

        for (guint i = 0; i < plan->changes->len; i++) {
                const ReviewChange *c = plan->changes->pdata[i];
                if (!c->has_below || !commit_has_other_names(&c->below))
                        continue;
                HostFile *file = g_new0(HostFile, 1);
                *file = (HostFile){ .ino = c->below.st_ino, .names = c->below.st_nlink };
                g_hash_table_replace(files, &file->ino, file);
                if (c->has_st && S_ISREG(c->st.st_mode))
                        g_hash_table_add(kept, g_memdup2(&(guint64){ c->st.st_ino }, sizeof(guint64)));
        }
        return files;
}

static HostFile *linked_file(GHashTable *files, const CommitItem *item) {
        const ReviewChange *c = item->change;
        guint64 ino = c->below.st_ino;
        return item->verdict == COMMIT_DO && c->has_below && S_ISREG(c->below.st_mode) ? g_hash_table_lookup(files, &ino) : NULL;
}

/* What is new in the box, and is a copy of such a file, which usbox-fs has noted; NULL: it is none. Where the copy stands at one of the host's names as well,
 * it is that file there. */
static const HostFile *copied_file(const Review *review, GHashTable *files, GHashTable *kept, const CommitItem *item) {
        const ReviewChange *c = item->change;
        guint64 ino = c->st.st_ino;

        if (item->verdict != COMMIT_DO || c->kind != CHANGE_ADDED || !S_ISREG(c->st.st_mode) || (c->st.st_nlink > 1 && g_hash_table_contains(kept, &ino)))
                return NULL;
        _cleanup_close_ int fd = review_open_upper(review, c->path, O_PATH);
        ino = fd >= 0 ? copy_origin_ino(fd) : 0;
        return ino != 0 ? g_hash_table_lookup(files, &ino) : NULL;
}

/*
 * A changed file comes into its name's place, as a file of its own: names of the old one that this commit does not change stay with that. So it is where the
 * box gave it another name. Attributes that changed alone are the file's, by all its names, although the kernel's overlay shows the others without them.
 */
static void tell_names_left(const Teller *t, const Review *review, const CommitPlan *plan) {
        g_autoptr(GHashTable) kept = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL), files = linked_files(plan, kept);
        HostFile *file;

        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if ((file = linked_file(files, item)))
                        *(review_keeps_content(item->change) ? &file->changed : &file->taken) += item->change->kind != CHANGE_NONE;
        }
        for (guint i = 0; g_hash_table_size(files) > 0 && i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                const HostFile *copied = copied_file(review, files, kept, item);
                const ReviewChange *c = item->change;
                const char *what = NULL;
                file = linked_file(files, item);
                if (copied && copied->names > copied->taken)
                        what = "a file of its own here: what the box had by this name has other names on the host, which keep what it was";
                else if (file && c->kind == CHANGE_MODIFIED && c->what & CHANGE_CONTENT && file->names > file->taken)
                        what = "has other names on the host, which keep what it was";
                else if (file && review_keeps_content(c) && seen_by_kernel(review->seen, c->path) && file->names > file->taken + file->changed)
                        what = "has other names on the host, of which mode, attributes and times change as well";
                if (what)
                        note(t, item, what);
        }
}

/* What the box gave to somebody else than the caller: a count, with --json each. */
static void tell_owners(const Teller *t, const CommitPlan *plan) {
        guint n = 0;

        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                const ReviewChange *c = item->change;
                bool new_owner = c->has_st && (c->kind == CHANGE_MODIFIED ? (c->what & CHANGE_OWNER) != 0 : c->st.st_uid != geteuid());
                if (item->verdict != COMMIT_DO || !new_owner)
                        continue;
                n++;
                if (t->json)
                        note(t, item, "has another owner or group in the box, which is not carried");
        }
        if (n > 0 && !t->json)
                log_note("%u change%s ha%s another owner or group in the box: owners are not carried", n, number_plural(n), n == 1 ? "s" : "ve");
}

/* Its directory on the host, as that is now, takes and gives up no names. Where it comes to be another one nobody has looked. */
static bool is_closed(const Review *review, const CommitItem *item) {
        const ReviewChange *c = item->change;
        g_autofree char *parent = g_path_get_dirname(c->path);

        if (item->replaced || c->moved || review_keeps_content(c))
                return false;
        _cleanup_close_ int fd = review_open_lower(review, parent, O_PATH | O_DIRECTORY);
        return fd >= 0 && faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0;
}

static void only_show(Teller *t, const Review *review, const CommitPlan *plan) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if (item->verdict != COMMIT_DO)
                        continue;
                if (is_closed(review, item))
                        failed(t, item, err_text(errno));
                else
                        done(t, item);
        }
}

static void summary(const Review *review, const Teller *t, const CommitPlan *plan) {
        clear_progress(t);
        if (t->json)
                return;
        fflush(stdout);
        if (t->dry_run)
                log_note("%u change%s would be carried, %u conflict%s, %u passed over%s", t->n_done, number_plural(t->n_done), plan->n_conflicts,
                         number_plural(plan->n_conflicts), plan->n_skipped, t->n_failed > 0 ? ", and the rest would fail" : "");
        else
                log_note("%u change%s carried to the host, %u failed, %u passed over", t->n_done, number_plural(t->n_done), t->n_failed,
                         plan->n_skipped + plan->n_conflicts);
        tell_owners(t, plan);
        if (t->n_failed > 0 && !t->dry_run)
                log_note("what failed is still in the box, as files below %s/upper", review->dir);
}

static bool any_hidden(const CommitPlan *plan) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                if (item->verdict == COMMIT_CONFLICT && item->change->hidden)
                        return true;
        }
        return false;
}

static int commit(Review *review, Teller *t, const char *const *paths, bool force, GError **error) {
        g_autoptr(CommitPlan) plan = commit_plan_new(review, paths, force);

        t->n_all = plan->n_do;
        t->all_bytes = plan->bytes;
        tell_verdicts(t, review, plan);
        if (plan->n_conflicts == 0)
                tell_names_left(t, review, plan);
        if (t->json)
                tell_owners(t, plan);
        if (t->dry_run)
                only_show(t, review, plan);
        else if (plan->n_conflicts > 0) {
                log_note("%u conflict%s: nothing was carried to the host. usbox commit --force %s takes the box's version%s, usbox commit %s PATH... takes "
                         "other paths alone",
                         plan->n_conflicts, number_plural(plan->n_conflicts), review->name,
                         any_hidden(plan) ? " of all but what was hidden from it" : "", review->name);
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
        g_autoptr(GHashTable) notes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        g_autoptr(Spec) draft = spec_new(error);
        g_autoptr(Review) review = draft ? review_open(&draft->caller, verb_args_word(&args, 0), error) : NULL;
        if (!review || !review_lock(review, error)) {
                err_step(error, "commit");
                return -1;
        }
        g_auto(GStrv) paths = review_paths(draft->caller.cwd, &args);
        if (!t.dry_run)
                commit_rest_clean(review->journal, review_lower(review), review->id);
        t.notes = notes;
        g_autoptr(GArray) subuids = subid_read("/etc/subuid", NULL, 0, NULL), subgids = subid_read("/etc/subgid", NULL, 0, NULL);
        t.subuids = subuids;
        t.subgids = subgids;
        int status = commit(review, &t, (const char *const *) paths, verb_args_has(&args, "force"), error);
        if (status < 0)
                err_step(error, "commit");
        return status;
}
