/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>

/* What the box was told by its DNS, the other way round: address → names. */
typedef struct Names Names;

/* How an address came to a name. */
typedef enum {
        NAME_GIVEN, /* by the user: --add-host, the host's /etc/hosts. Never forgotten */
        NAME_ASKED, /* it is the answer to a question for this name */
        NAME_ALIAS, /* the name stood on the way there, in a CNAME: rules that deny know it, rules that allow do not */
} NameSource;

/* One name of an address. Names are lower case, without the final dot. */
typedef struct NameEntry {
        char *name;  /* a GRefString, as the next */
        char *asked; /* the name of the question that had it in its answer, interned; NULL: the user's */
        NameSource source;
        gint64 expires; /* ms, of the clock that names_expire() is given */
        struct NameEntry *next;
} NameEntry;

Names *names_new(void);
void names_free(Names *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Names, names_free)

/* Learn, or learn again; ttl in s. IPv4 addresses as ::ffff:a.b.c.d. asked: the name that was asked for, of which name may be an alias; NULL: it is
 * given by the user. Bounded: where there is no room, of what the question with most entries has that goes which would be forgotten first. */
void names_add(Names *names, const struct in6_addr *addr, const char *name, const char *asked, guint32 ttl, gint64 now_ms);

/* The names of an address, the latest first; NULL: none. Borrowed until the next names_add() or names_expire(). */
const NameEntry *names_of(const Names *names, const struct in6_addr *addr);

/* Forget what is too old. To be called before names_of(), if some seconds may be between; costs nothing most times. */
void names_expire(Names *names, gint64 now_ms);
