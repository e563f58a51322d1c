/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files that usbox-net writes down in: --net-log, --pcap.
 *
 * Role: who starts usbox-net-stack: the launcher; the command usbox-net. Privileges: the caller's. Threads: one. Order: before that start, since what
 * parses frames opens no file.
 */
#include <errno.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "netstack/records.h"

/* Where what proc_spawn_helper() hands over begins. */
#define FIRST_FD 4

bool net_records_open(const char *log_file, const char *pcap_file, NetRecords *ret, GError **error) {
        *ret = NET_RECORDS_NONE;
        if (log_file && (ret->log = fd_open_record("--net-log", log_file, error)) < 0)
                return false;
        if (pcap_file && (ret->pcap = fd_open_record("--pcap", pcap_file, error)) < 0)
                return false;
        /* A capture begins with its header, so an old one goes. */
        return !pcap_file || ftruncate(ret->pcap, 0) == 0 || err_set(error, errno, "--pcap");
}

void net_records_close(NetRecords *records) {
        fd_closep(&records->log);
        fd_closep(&records->pcap);
}

size_t net_records_fds(const NetRecords *records, int ret[static NET_RECORDS_MAX]) {
        size_t n = 0;

        if (records->log >= 0)
                ret[n++] = records->log;
        if (records->pcap >= 0)
                ret[n++] = records->pcap;
        return n;
}

void net_records_tell(const NetRecords *records, NetConfig *config) {
        config->log_fd = records->log >= 0 ? FIRST_FD : -1;
        config->pcap_fd = records->pcap < 0 ? -1 : records->log >= 0 ? FIRST_FD + 1 : FIRST_FD;
}
