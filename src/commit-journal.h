/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/*
 * What commits of a box have begun and done: the file "commit" in the box's directory. With it a commit that was killed at any point goes on where it
 * was: it knows its own files from the user's, what it had found no conflict in, and where a directory is that it moved.
 *
 * Each record stands in the file before what it speaks of is done. A record that is cut short is none.
 */
#define COMMIT_JOURNAL "commit"
typedef struct CommitJournal CommitJournal;

/* Read it below the box's directory, an empty one where there is none. lower: the host's directory that paths are below; both borrowed, for the
 * life of the journal. NULL with error. */
CommitJournal *commit_journal_read(int box_fd, int lower, GError **error);
void commit_journal_free(CommitJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CommitJournal, commit_journal_free)

/* This is a file or directory of the host's that a commit made, or a directory that one moved, and nobody changed it since. */
bool commit_journal_made(const CommitJournal *journal, const struct stat *st);

/* The same, and it was to be at path: an inode number alone may be another file's by now. */
bool commit_journal_made_at(const CommitJournal *journal, const char *path, const struct stat *st);

/* Names in directory at which something was to be made or changed, of char *, sorted; NULL: none. Borrowed, until the next record. */
const GPtrArray *commit_journal_planned_in(CommitJournal *journal, const char *directory);

/* path was to be changed, and what stands there (NULL: nothing) is what stood there then. */
bool commit_journal_planned(const CommitJournal *journal, const char *path, const struct stat *st);

/* This is a file of the host's of which a commit took another name, or which it had to put back: by that its ctime is another. Nobody changed it since. */
bool commit_journal_left(const CommitJournal *journal, const struct stat *st);

/* The same, and nobody moved it either: it stood at path before, or has its ctime since. */
bool commit_journal_left_at(const CommitJournal *journal, const char *path, const struct stat *st);

/* What a commit brought to path, which no commit was to change since: where there is nothing now, the host removed it. */
bool commit_journal_brought(const CommitJournal *journal, const char *path);

/* To where one brought the layer's file that fd_file_key() says so of (NULL: none); NULL: none did. The journal's, until the next record. */
const char *commit_journal_brought_from(const CommitJournal *journal, const char *key);

/* It is what a commit brought to path, and has another mode or other attributes since: of that neither its time nor its size tells. Not a file of several
 * names, which may have them by another one. */
bool commit_journal_looks_other(const CommitJournal *journal, const char *path, const struct stat *st);

/* A file of that inode number was to be changed or removed, at another name than path or with a directory: it may be what the box has at path. */
bool commit_journal_took(CommitJournal *journal, guint64 ino, const char *path);

/* Where what the box's layer has at path of the host is now, if a commit moved it, or a directory above it. NULL: nobody did. The caller's. */
char *commit_journal_place(const CommitJournal *journal, const char *path);

/* How many moves there are; and the same, for where it was before the first-th of them. */
guint commit_journal_n_moves(const CommitJournal *journal);
char *commit_journal_place_since(const CommitJournal *journal, const char *path, guint first);

/* How many of them the box's layer knows of; and what is to be written to it until it knows of all (commit-settle.c), if that was begun: of char *, two for
 * each directory, its path and where it continues; NULL: it was not. Borrowed. */
guint commit_journal_settled(const CommitJournal *journal);
const GPtrArray *commit_journal_unsettled(const CommitJournal *journal);

/* Of the i-th move: from where, and to where. NULL: what was moved does not stand there any more. Both are the journal's. */
const char *commit_journal_move(const CommitJournal *journal, guint i, const char **ret_to);

/* Directories in which a commit may have left something unfinished, NULL-terminated; the journal's. */
const char *const *commit_journal_temps(CommitJournal *journal);

/* The same, to write; false with error. The first call opens the file. add_move: it is on the disk when this returns. */
bool commit_journal_add_plan(CommitJournal *journal, const char *path, const struct stat *st, GError **error);
bool commit_journal_add_made(CommitJournal *journal, const struct stat *st, GError **error);
/* st: as it is then, NULL where that is not to be told yet. key: fd_file_key() of the layer's file, NULL for a directory. */
bool commit_journal_add_brought(CommitJournal *journal, const char *path, const struct stat *st, const char *key, GError **error);
bool commit_journal_add_left(CommitJournal *journal, const struct stat *st, GError **error);
/* The name is gone, and st says what it is since. */
bool commit_journal_add_left_as(CommitJournal *journal, const struct stat *st, GError **error);
/* A file of that inode number stands at path, and is not to be changed. */
bool commit_journal_add_name(CommitJournal *journal, const char *path, guint64 ino, GError **error);
/* It is to go with the directory that it is in. */
bool commit_journal_add_taken(CommitJournal *journal, const char *path, guint64 ino, GError **error);
bool commit_journal_add_temp(CommitJournal *journal, const char *directory, GError **error);
bool commit_journal_add_move(CommitJournal *journal, const char *from, const char *to, const struct stat *st, GError **error);
/* The last move could not be made. */
bool commit_journal_no_move(CommitJournal *journal, GError **error);
/* Directories of the layer, each with where it is to continue, between begin and end, after which they are on the disk; then that all is written to it. */
bool commit_journal_begin_unsettled(CommitJournal *journal, GError **error);
bool commit_journal_add_unsettled(CommitJournal *journal, const char *path, const char *place, GError **error);
bool commit_journal_end_unsettled(CommitJournal *journal, GError **error);
bool commit_journal_add_settled(CommitJournal *journal, GError **error);
