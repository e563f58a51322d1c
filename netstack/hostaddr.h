/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* What the host's kernel takes for itself, kept up to date. */
typedef struct {
        int fd;          /* netlink, for poll(2): call hostaddr_update() when it is readable */
        guint32 sequence;
        unsigned char table; /* that is being read; 0: all others */
        GArray *prefixes; /* of AddressPrefix */
} HostAddr;

/* Open the netlink socket, subscribe to changes, and read the present state. */
bool hostaddr_open(HostAddr *ret, GError **error);
void hostaddr_close(HostAddr *hostaddr);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HostAddr, hostaddr_close)

/* Take in what has come; prefixes is replaced where something changed. */
bool hostaddr_update(HostAddr *hostaddr, bool *ret_changed, GError **error);
