/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What commits of a box have begun and done.
 *
 * Role: commit; diff, which has to know what was moved. Privileges: the caller's. Threads: one, under the box's lock where it writes. Order: each
 * record before its deed, but for one.
 *
 * A record is three strings, each with a NUL behind it: a letter and numbers; a path; another path or nothing. P: planned, with what stood there. W: made.
 * V: left without one of its names; L: so, with its ctime then. N: a name of a file of several; O: of one that was to go with its directory. T: a directory
 * that temporary names are made in. R: moved. C: the last R was not carried out. B, U, F: directories of the box's layer are to continue elsewhere, from the
 * first to the last of them. D, L and S alone come after their deed: brought, with its mode, the sum of its attributes and, as other path, which file of the
 * layer's it was (fd_file_key()); settled, so that the layer knows of all moves that were made.
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "commit-journal.h"
#include "fsoverlay/changes-xattr.h"
#include "mountinfo.h"

#define JOURNAL_MAX (1024u * 1024 * 1024)

/* Which file, and in what state: numbers in the file's order. */
typedef struct {
        guint64 dev, ino;
        gint64 sec, nsec; /* planned: ctime; made: mtime; directories: 0 */
        gint64 size;      /* made alone */
} Identity;

typedef struct {
        char *from, *to;
        Identity id;
} Move;

struct CommitJournal {
        int box_fd, lower; /* borrowed */
        int fd;            /* -1: not written yet */
        bool undone;       /* the last move of the file was not carried out, which is still to be written */
        off_t end;         /* of the last whole record that was read */
        GHashTable *planned; /* path → Identity *, ino 0 for nothing */
        GHashTable *planned_in; /* directory → names in it that planned has; NULL: not asked for since the last record */
        GHashTable *planned_inos; /* inode number (guint64) → path, which planned has; NULL: not asked for since the last record */
        GHashTable *brought; /* path → Identity *: size is the mode, sec the sum of its attributes; each 0: not told */
        GHashTable *brought_from; /* fd_file_key() of the layer's file → path */
        GHashTable *taken;   /* set of inode numbers (guint64) */
        GHashTable *names;   /* path → inode number (guint64) */
        GHashTable *left;    /* as made */
        GHashTable *left_as; /* the same, with its ctime */
        GHashTable *made;    /* Identity * (by dev and ino) → itself */
        GHashTable *temps;   /* set of paths */
        GPtrArray *moves;    /* of Move * */
        guint settled;       /* of which the box's layer knows so many */
        GPtrArray *unsettled; /* of char *, two for each U since the last B or S: the directory, and where it is to continue */
        bool all_unsettled;   /* these are all */
        char **temp_list;
};

static guint identity_hash(gconstpointer p) {
        const Identity *id = p;
        return (guint) (id->ino ^ id->ino >> 32 ^ id->dev * 2654435761u);
}

static gboolean identity_equal(gconstpointer a, gconstpointer b) {
        const Identity *x = a, *y = b;
        return x->dev == y->dev && x->ino == y->ino;
}

static void move_free(gpointer p) {
        Move *move = p;
        g_free(move->from);
        g_free(move->to);
        g_free(move);
}

static void forget_indexes(CommitJournal *j) {
        g_clear_pointer(&j->planned_in, g_hash_table_unref);
        g_clear_pointer(&j->planned_inos, g_hash_table_unref);
}

void commit_journal_free(CommitJournal *j) {
        if (!j)
                return;
        fd_closep(&j->fd);
        g_hash_table_unref(j->planned);
        forget_indexes(j);
        g_hash_table_unref(j->brought);
        g_hash_table_unref(j->brought_from);
        g_hash_table_unref(j->taken);
        g_hash_table_unref(j->names);
        g_hash_table_unref(j->left);
        g_hash_table_unref(j->left_as);
        g_hash_table_unref(j->made);
        g_hash_table_unref(j->temps);
        g_ptr_array_unref(j->moves);
        g_ptr_array_unref(j->unsettled);
        g_free(j->temp_list);
        g_free(j);
}

/* A directory's times change with what is in it, and its size means nothing. */
static Identity identity_of(const struct stat *st, const struct timespec *when) {
        bool dir = S_ISDIR(st->st_mode);
        return (Identity){ st->st_dev, st->st_ino, dir ? 0 : when->tv_sec, dir ? 0 : when->tv_nsec, dir ? 0 : st->st_size };
}

/* "K dev ino sec nsec size", the first two numbers hexadecimal. */
static bool parse_head(const char *head, Identity *ret) {
        g_auto(GStrv) words = g_strsplit(head, " ", -1);

        return g_strv_length(words) == 6 && strlen(words[0]) == 1 && g_ascii_string_to_unsigned(words[1], 16, 0, G_MAXUINT64, &ret->dev, NULL) &&
               g_ascii_string_to_unsigned(words[2], 16, 0, G_MAXUINT64, &ret->ino, NULL) &&
               g_ascii_string_to_signed(words[3], 10, G_MININT64, G_MAXINT64, &ret->sec, NULL) &&
               g_ascii_string_to_signed(words[4], 10, G_MININT64, G_MAXINT64, &ret->nsec, NULL) &&
               g_ascii_string_to_signed(words[5], 10, G_MININT64, G_MAXINT64, &ret->size, NULL);
}

/* Take a record in. False: it is of no known kind. */
static bool take(CommitJournal *j, char kind, const Identity *id, const char *path, const char *other) {
        switch (kind) {
        case 'P':
                forget_indexes(j);
                g_hash_table_replace(j->planned, g_strdup(path), g_memdup2(id, sizeof *id));
                g_hash_table_remove(j->brought, path);
                return true;
        case 'D':
                if (*other)
                        g_hash_table_replace(j->brought_from, g_strdup(other), g_strdup(path));
                g_hash_table_replace(j->brought, g_strdup(path), g_memdup2(id, sizeof *id));
                return true;
        case 'O':
                g_hash_table_add(j->taken, g_memdup2(&id->ino, sizeof id->ino));
                G_GNUC_FALLTHROUGH;
        case 'N':
                g_hash_table_replace(j->names, g_strdup(path), g_memdup2(&id->ino, sizeof id->ino));
                return true;
        case 'V':
        case 'L':
                g_hash_table_add(kind == 'V' ? j->left : j->left_as, g_memdup2(id, sizeof *id));
                return true;
        case 'W':
                g_hash_table_add(j->made, g_memdup2(id, sizeof *id));
                return true;
        case 'T':
                g_hash_table_add(j->temps, g_strdup(path));
                return true;
        case 'R': {
                Move *move = g_new(Move, 1);
                *move = (Move){ g_strdup(path), g_strdup(other), *id };
                g_ptr_array_add(j->moves, move);
                return true;
        }
        case 'C':
                if (j->moves->len > j->settled)
                        g_ptr_array_remove_index(j->moves, j->moves->len - 1);
                return true;
        case 'B':
                g_ptr_array_set_size(j->unsettled, 0);
                j->all_unsettled = false;
                return true;
        case 'F':
                j->all_unsettled = true;
                return true;
        case 'U':
                g_ptr_array_add(j->unsettled, g_strdup(path));
                g_ptr_array_add(j->unsettled, g_strdup(other));
                return true;
        case 'S':
                j->settled = j->moves->len;
                j->all_unsettled = false;
                g_ptr_array_set_size(j->unsettled, 0);
                return true;
        default:
                return false;
        }
}

static bool take_all(CommitJournal *j, const char *data, gsize len) {
        const char *at = data, *end = data + len;

        while (at < end) {
                const char *strings[3], *next = at;
                for (int i = 0; i < 3; i++) {
                        strings[i] = next;
                        next = memchr(next, '\0', (size_t) (end - next));
                        if (!next)
                                return true;
                        next++;
                }
                Identity id = { 0 };
                if (!parse_head(strings[0], &id) || !take(j, *strings[0], &id, strings[1], strings[2]))
                        return false;
                at = next;
                j->end = at - data;
        }
        return true;
}

static bool stands_at(const CommitJournal *j, const char *path, const Identity *id) {
        struct stat st;
        _cleanup_close_ int fd =
                sys_openat2(j->lower, path + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
        return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == id->dev && st.st_ino == id->ino;
}

CommitJournal *commit_journal_read(int box_fd, int lower, GError **error) {
        g_autoptr(CommitJournal) j = g_new0(CommitJournal, 1);
        g_autofree char *data = NULL;
        gsize len;

        j->box_fd = box_fd;
        j->lower = lower;
        j->fd = -1;
        j->planned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        j->brought = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        j->brought_from = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        j->taken = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        j->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        j->left = g_hash_table_new_full(identity_hash, identity_equal, g_free, NULL);
        j->left_as = g_hash_table_new_full(identity_hash, identity_equal, g_free, NULL);
        j->made = g_hash_table_new_full(identity_hash, identity_equal, g_free, NULL);
        j->temps = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        j->moves = g_ptr_array_new_with_free_func(move_free);
        j->unsettled = g_ptr_array_new_with_free_func(g_free);
        if (!fd_read_file(box_fd, COMMIT_JOURNAL, JOURNAL_MAX, &data, &len)) {
                if (errno == ENOENT)
                        return g_steal_pointer(&j);
                err_set(error, errno, "read what earlier commits did");
                return NULL;
        }
        if (!take_all(j, data, len)) {
                err_set(error, 0, "what earlier commits did cannot be read");
                err_hint(error, "the box's directory is damaged: take what is in its upper/ by hand, then usbox drop");
                return NULL;
        }
        /* Killed between its record and its deed: it is still to be done. */
        const Move *last = j->moves->len > j->settled ? j->moves->pdata[j->moves->len - 1] : NULL;
        if (last && stands_at(j, last->from, &last->id)) {
                g_ptr_array_remove_index(j->moves, j->moves->len - 1);
                j->undone = true;
        }
        return g_steal_pointer(&j);
}

static bool is_in(GHashTable *identities, const struct stat *st, const struct timespec *when) {
        Identity now = identity_of(st, when), *then = g_hash_table_lookup(identities, &now);
        return then && memcmp(then, &now, sizeof now) == 0;
}

static bool is_moved(const CommitJournal *j, const struct stat *st) {
        for (guint i = 0; i < j->moves->len; i++) {
                const Move *move = j->moves->pdata[i];
                if (move->id.dev == st->st_dev && move->id.ino == st->st_ino)
                        return true;
        }
        return false;
}

bool commit_journal_made(const CommitJournal *j, const struct stat *st) {
        return is_in(j->made, st, &st->st_mtim) || (S_ISDIR(st->st_mode) && is_moved(j, st));
}

bool commit_journal_left(const CommitJournal *j, const struct stat *st) {
        return is_in(j->left, st, &st->st_mtim);
}

bool commit_journal_left_at(const CommitJournal *j, const char *path, const struct stat *st) {
        const Identity *then = g_hash_table_lookup(j->planned, path);
        const guint64 *ino = g_hash_table_lookup(j->names, path);

        if (is_in(j->left_as, st, &st->st_ctim))
                return true;
        return commit_journal_left(j, st) && ((then && then->dev == st->st_dev && then->ino == st->st_ino) || (ino && *ino == st->st_ino));
}

bool commit_journal_made_at(const CommitJournal *j, const char *path, const struct stat *st) {
        return g_hash_table_contains(j->planned, path) && commit_journal_made(j, st);
}

bool commit_journal_planned(const CommitJournal *j, const char *path, const struct stat *st) {
        const Identity *then = g_hash_table_lookup(j->planned, path);
        Identity now = st ? identity_of(st, &st->st_ctim) : (Identity){ 0 };
        return then && memcmp(then, &now, sizeof now) == 0;
}

bool commit_journal_brought(const CommitJournal *j, const char *path) {
        return g_hash_table_contains(j->brought, path);
}

const char *commit_journal_brought_from(const CommitJournal *j, const char *key) {
        return key ? g_hash_table_lookup(j->brought_from, key) : NULL;
}

/* changes_attributes_sum() of what stands at path; 0: it cannot be come to. */
static guint64 attributes_sum(const CommitJournal *j, const char *path) {
        g_autofree char *parent = g_path_get_dirname(path);
        _cleanup_close_ int dir = sys_openat2(j->lower, parent[1] ? parent + 1 : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                                              RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
        return dir >= 0 ? changes_attributes_sum(dir, strrchr(path, '/') + 1) : 0;
}

bool commit_journal_looks_other(const CommitJournal *j, const char *path, const struct stat *st) {
        const Identity *then = g_hash_table_lookup(j->brought, path);

        if (!then || then->dev != st->st_dev || then->ino != st->st_ino || (!S_ISDIR(st->st_mode) && st->st_nlink > 1))
                return false;
        return then->size != st->st_mode || (then->sec != 0 && then->sec != (gint64) attributes_sum(j, path));
}

static int compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static GHashTable *names_by_directory(GHashTable *paths) {
        GHashTable *ret = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
        GHashTableIter iter;
        gpointer path, names;

        g_hash_table_iter_init(&iter, paths);
        while (g_hash_table_iter_next(&iter, &path, NULL)) {
                g_autofree char *directory = g_path_get_dirname(path);
                GPtrArray *list = g_hash_table_lookup(ret, directory);
                if (!list) {
                        list = g_ptr_array_new_with_free_func(g_free);
                        g_hash_table_insert(ret, g_steal_pointer(&directory), list);
                }
                g_ptr_array_add(list, g_path_get_basename(path));
        }
        g_hash_table_iter_init(&iter, ret);
        while (g_hash_table_iter_next(&iter, NULL, &names))
                g_ptr_array_sort(names, compare_names);
        return ret;
}

const GPtrArray *commit_journal_planned_in(CommitJournal *j, const char *directory) {
        if (!j->planned_in)
                j->planned_in = names_by_directory(j->planned);
        return g_hash_table_lookup(j->planned_in, directory);
}

bool commit_journal_took(CommitJournal *j, guint64 ino, const char *path) {
        GHashTableIter iter;
        gpointer planned, id;

        if (!j->planned_inos) {
                j->planned_inos = g_hash_table_new(g_int64_hash, g_int64_equal);
                g_hash_table_iter_init(&iter, j->planned);
                while (g_hash_table_iter_next(&iter, &planned, &id))
                        g_hash_table_insert(j->planned_inos, &((Identity *) id)->ino, planned);
        }
        const char *at = g_hash_table_lookup(j->planned_inos, &ino);
        return ino != 0 && (g_hash_table_contains(j->taken, &ino) || (at && !g_str_equal(at, path)));
}

guint commit_journal_n_moves(const CommitJournal *j) {
        return j->moves->len;
}

char *commit_journal_place(const CommitJournal *j, const char *path) {
        char *place = commit_journal_place_since(j, path, j->settled);

        /* Of the moves before, the layer says itself where to. */
        for (guint i = 0; !place && i < j->settled; i++) {
                const Move *move = j->moves->pdata[i];
                if (path_is_at_or_below(path, move->to) && stands_at(j, move->to, &move->id))
                        place = g_strdup(path);
        }
        return place;
}

guint commit_journal_settled(const CommitJournal *j) {
        return j->settled;
}

const GPtrArray *commit_journal_unsettled(const CommitJournal *j) {
        return j->all_unsettled ? j->unsettled : NULL;
}

char *commit_journal_place_since(const CommitJournal *j, const char *path, guint first) {
        g_autofree char *at = g_strdup(path);
        const Move *last = NULL;

        for (guint i = first; i < j->moves->len; i++) {
                const Move *move = j->moves->pdata[i];
                if (!path_is_at_or_below(at, move->from))
                        continue;
                char *next = g_strconcat(move->to, at + strlen(move->from), NULL);
                g_free(at);
                at = next;
                last = move;
        }
        /* Where it went it may have been replaced since. */
        return last && stands_at(j, last->to, &last->id) ? g_steal_pointer(&at) : NULL;
}

const char *commit_journal_move(const CommitJournal *j, guint i, const char **ret_to) {
        const Move *move = j->moves->pdata[i];

        *ret_to = move->to;
        return stands_at(j, move->to, &move->id) ? move->from : NULL;
}

const char *const *commit_journal_temps(CommitJournal *j) {
        g_free(j->temp_list);
        j->temp_list = (char **) g_hash_table_get_keys_as_array(j->temps, NULL);
        return (const char *const *) j->temp_list;
}

static const char undone[] = "C 0 0 0 0 0\0\0"; /* and the NUL of the string */

static bool open_to_write(CommitJournal *j) {
        if (j->fd >= 0)
                return true;
        j->fd = openat(j->box_fd, COMMIT_JOURNAL, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (j->fd < 0 || ftruncate(j->fd, j->end) < 0 || lseek(j->fd, j->end, SEEK_SET) < 0)
                return false;
        return !j->undone || fd_write_all(j->fd, undone, sizeof undone);
}

static bool write_record(CommitJournal *j, char kind, const Identity *id, const char *path, const char *other, GError **error) {
        g_autoptr(GString) record = g_string_new(NULL);

        if (!open_to_write(j))
                return err_set(error, errno, "write down what commit does");
        g_string_printf(record, "%c %" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER "x %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, kind, id->dev,
                        id->ino, id->sec, id->nsec, id->size);
        take(j, kind, id, path, other);
        g_string_append_c(record, '\0');
        g_string_append_len(record, path, (gssize) strlen(path) + 1);
        g_string_append_len(record, other, (gssize) strlen(other) + 1);
        return fd_write_all(j->fd, record->str, record->len) || err_set(error, errno, "write down what commit does");
}

bool commit_journal_add_plan(CommitJournal *j, const char *path, const struct stat *st, GError **error) {
        Identity id = st ? identity_of(st, &st->st_ctim) : (Identity){ 0 };
        return write_record(j, 'P', &id, path, "", error);
}

bool commit_journal_add_made(CommitJournal *j, const struct stat *st, GError **error) {
        Identity id = identity_of(st, &st->st_mtim);
        return write_record(j, 'W', &id, "", "", error);
}

bool commit_journal_add_brought(CommitJournal *j, const char *path, const struct stat *st, const char *key, GError **error) {
        const Identity id = st ? (Identity){ st->st_dev, st->st_ino, .sec = (gint64) attributes_sum(j, path), .size = st->st_mode } : (Identity){ 0 };

        return write_record(j, 'D', &id, path, key ? key : "", error);
}

bool commit_journal_add_left(CommitJournal *j, const struct stat *st, GError **error) {
        Identity id = identity_of(st, &st->st_mtim);
        return write_record(j, 'V', &id, "", "", error);
}

bool commit_journal_add_left_as(CommitJournal *j, const struct stat *st, GError **error) {
        Identity id = identity_of(st, &st->st_ctim);
        return write_record(j, 'L', &id, "", "", error);
}

bool commit_journal_add_name(CommitJournal *j, const char *path, guint64 ino, GError **error) {
        return write_record(j, 'N', &(Identity){ .ino = ino }, path, "", error);
}

bool commit_journal_add_taken(CommitJournal *j, const char *path, guint64 ino, GError **error) {
        return write_record(j, 'O', &(Identity){ .ino = ino }, path, "", error);
}

bool commit_journal_add_temp(CommitJournal *j, const char *directory, GError **error) {
        return g_hash_table_contains(j->temps, directory) || write_record(j, 'T', &(Identity){ 0 }, directory, "", error);
}

bool commit_journal_add_move(CommitJournal *j, const char *from, const char *to, const struct stat *st, GError **error) {
        Identity id = identity_of(st, &st->st_ctim);
        return write_record(j, 'R', &id, from, to, error) && (fdatasync(j->fd) == 0 || err_set(error, errno, "write down what commit does"));
}

bool commit_journal_no_move(CommitJournal *j, GError **error) {
        return write_record(j, 'C', &(Identity){ 0 }, "", "", error);
}

bool commit_journal_begin_unsettled(CommitJournal *j, GError **error) {
        return write_record(j, 'B', &(Identity){ 0 }, "", "", error);
}

bool commit_journal_add_unsettled(CommitJournal *j, const char *path, const char *place, GError **error) {
        return write_record(j, 'U', &(Identity){ 0 }, path, place, error);
}

bool commit_journal_end_unsettled(CommitJournal *j, GError **error) {
        return write_record(j, 'F', &(Identity){ 0 }, "", "", error) && (fdatasync(j->fd) == 0 || err_set(error, errno, "write down what commit does"));
}

bool commit_journal_add_settled(CommitJournal *j, GError **error) {
        return write_record(j, 'S', &(Identity){ 0 }, "", "", error);
}
