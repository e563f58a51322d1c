/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "helper.h"
#include "spec.h"

/* The answer to a question: an error's text, or NULL; its hint, or NULL. */
typedef void (*NetHelperDone)(const char *error, const char *hint, void *data);

/* usbox-net of one box, from the launcher's side. */
typedef struct {
        Helper helper;
        const Spec *spec;
        GPtrArray *ports;   /* of NetPublish *: as they came out; NULL until READY */
        GPtrArray *denied;  /* of char *: what the policy refused, fit to be printed; */
        GPtrArray *options; /* of char *: and for each of them the option that would allow it, or the --deny */
        GArray *questions;  /* that wait for their answer */
        guint32 serial;
        int watch;          /* inotify, for net_helper_resolvers(); -1: none */
        bool owes_resolvers; /* there was no room on its wire to say what the name servers are */
        bool keeps;         /* it writes a log, and so may not simply be killed */
} NetHelper;

#define NET_HELPER_NONE ((NetHelper){ .helper = HELPER_NONE, .watch = -1 })

/* Start usbox-net and send it its configuration: it prepares itself while the box is cloned. */
bool net_helper_start(const Spec *spec, NetHelper *ret, GError **error);

/* Give it what the payload's NET_FDS had (borrowed: it gets descriptors of its own). */
bool net_helper_give_tap(NetHelper *h, const WireMessage *fds, GError **error);

/* What poll(2) is to look for on its wire. And that was found: something came (or its end): READY, an answer, a denial, or its error; or there is room. */
short net_helper_events(const NetHelper *h);
bool net_helper_dispatch(NetHelper *h, short revents, GError **error);

/*
 * From now on watch the host's resolv.conf, where it counts. For a box that has run for a while: an inotify instance is one of few (128 for
 * a user), the kernel lets go of it late, and many runs are over before anybody could change that file. That it cannot be had is told on stderr.
 */
bool net_helper_watch(NetHelper *h, GError **error);

/* h->watch is readable: the host's name servers may be others. */
bool net_helper_resolvers(NetHelper *h, GError **error);

/* The names that such a rule is of and the host's /etc/hosts has, for the next; the caller's. NULL with error. */
GVariant *net_helper_rule_hosts(const NetHelper *h, bool allow, const char *text, GError **error);

/*
 * A rule for the running box, asked before all others; flows that it denies are cut. The flows, as JSON, into a memfd (borrowed). One more published
 * port, or one less; ports is what there is when done is called. That is from net_helper_dispatch(), when usbox-net has answered; or at once, with an
 * error: it is stopped, or too many have asked whom it has not answered. These wait for nothing.
 */
void net_helper_rule(NetHelper *h, bool allow, const char *text, GVariant *hosts, NetHelperDone done, void *data);
void net_helper_flows(NetHelper *h, int memfd, NetHelperDone done, void *data);
void net_helper_publish(NetHelper *h, bool open, const NetPublish *port, NetHelperDone done, void *data);

/* Let it end: at once, or when its log is written. Waits for nothing; may be called again. */
void net_helper_stop(NetHelper *h);

/* Wait for the log's last lines, where there is one, and take what it said last. Then net_helper_tell_denied() has all. */
void net_helper_finish(NetHelper *h);

/* One line on stderr about what the policy refused, if it did. */
void net_helper_tell_denied(const NetHelper *h);

/* Kill and reap. */
void net_helper_clear(NetHelper *h);
