/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "netstack/config.h"

/* The files that usbox-net writes down in, open; -1: none. */
typedef struct {
        int log, pcap;
} NetRecords;

#define NET_RECORDS_NONE ((NetRecords){ .log = -1, .pcap = -1 })
#define NET_RECORDS_MAX 2

/* Those of --net-log and --pcap (NULL: not given). net_records_close() either way. */
bool net_records_open(const char *log_file, const char *pcap_file, NetRecords *ret, GError **error);
void net_records_close(NetRecords *records);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NetRecords, net_records_close)

/* What a helper program is to be started with, behind its wire: borrowed, their number is returned. And the numbers that they have there, into config. */
size_t net_records_fds(const NetRecords *records, int ret[static NET_RECORDS_MAX]);
void net_records_tell(const NetRecords *records, NetConfig *config);
