/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define RESOLVCONF_PATH "/etc/resolv.conf"

/* The host's name servers, of char *: numeric addresses, their zones as numbers. Where there is none: 127.0.0.1. The caller's. */
GPtrArray *resolvconf_servers(void);

/* An inotify descriptor that is readable when the host's resolv.conf may have changed; -1 with error. And take what has come; false:
 * nothing of that kind. The watches' removal keeps the kernel busy, so it is to be let go of with fd_later_release(). */
int resolvconf_watch(GError **error);
bool resolvconf_drain(int fd);
