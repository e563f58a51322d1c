/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/netlink.h>
#include <stdbool.h>

#define NETLINK_BATCH_MAX 4096
#define NETLINK_REQUESTS_MAX 32

/* Requests that go to the kernel together. what[i] names the request with sequence number i, for the error; NULL: it is not answered. */
typedef struct {
        union {
                struct nlmsghdr align;
                guint8 bytes[NETLINK_BATCH_MAX];
        } buf;
        size_t len;
        unsigned n;
        const char *what[NETLINK_REQUESTS_MAX];
} NetlinkBatch;

/* Add a request of that type, which is to be acknowledged; flags beside that. body is its fixed part. The batch's until the next one is added. */
struct nlmsghdr *netlink_add(NetlinkBatch *b, const char *what, guint16 type, guint16 flags, const void *body, size_t len);

/* Add an attribute to the last request, h. */
void netlink_attr(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, const void *data, size_t len);
void netlink_attr_u32(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, guint32 value);

/* An address as it is typed. */
void netlink_attr_address(NetlinkBatch *b, struct nlmsghdr *h, guint16 type, int family, const char *text);

/* An attribute with others in it: what is added until netlink_nest_end(), which takes what this returns. */
size_t netlink_nest(NetlinkBatch *b, struct nlmsghdr *h, guint16 type);
void netlink_nest_end(NetlinkBatch *b, size_t nest);

/* Send them all by a socket of that family (NETLINK_ROUTE, ...), in the network namespace of the caller, and read one answer for each. False with the
 * first that failed. */
bool netlink_run(const NetlinkBatch *b, int family, GError **error);
