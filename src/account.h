/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* A line of passwd(5), as far as usbox needs it. */
typedef struct {
        char *name, *home, *shell;
        gid_t gid;
} Account;

/* Whom newuidmap(1) and newgidmap(1) serve: an account, and where login.defs does not grant more, in its own group. */
typedef enum { ACCOUNT_SERVED, ACCOUNT_NONE, ACCOUNT_OTHER_GROUP } AccountServed;

void account_clear(Account *account);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Account, account_clear)

/*
 * Look uid up in /etc/passwd and, where it is not there (LDAP, sssd, systemd), by getent(1), which asks all that
 * nsswitch.conf names. Where nobody knows the uid, ret->name is NULL; false: that could not be asked.
 */
bool account_lookup(uid_t uid, Account *ret, GError **error);

/* What they would say to a caller in the group gid, whose account that is (name NULL: it has none). */
AccountServed account_served(const Account *account, gid_t gid);

/* The same by a text of login.defs(5)'s form, or NULL. */
AccountServed account_served_by(const Account *account, gid_t gid, const char *login_defs);

/* The command that makes one of a uid without; the caller's. */
char *account_mend(uid_t uid);

/* The first entry of uid in a text of passwd(5)'s form. Lines that are not of it are passed over, and so are those of NIS. */
bool account_find(const char *text, uid_t uid, Account *ret);

/*
 * The group is name's alone: in a text of passwd(5)'s form (NULL: unreadable) no other account has it as its own, and group(5) lists
 * nobody else in it. A group that is not in there is taken for shared: who is in it only a directory service knows.
 */
bool account_group_is_own(const char *passwd, const char *group, const char *name, gid_t gid);

/* $XDG_DATA_HOME if it is absolute, else home/.local/share; the caller's. */
char *account_data_dir(const char *home);

/*
 * A text of shadow(5)'s form for the accounts of a text of passwd(5)'s, and of gshadow(5)'s for the groups of one of group(5)'s: no password fits any of
 * them. The caller's.
 */
char *account_shadow(const char *passwd);
char *account_gshadow(const char *group);
