/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Published ports: by which of the three ways each goes.
 *
 * Role: usbox-net. Privileges: none; opening a low port may need some. Threads: one. Order: the configuration's before the confinement, later
 * ones as the launcher says.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "netstack/ports.h"
#include "netstack/subnet.h"

static bool is_fast(const Net *net) {
        return net->agent >= 0;
}

/* With both halves of "*" on one port, where that is for the kernel to choose. */
#define FREE_TRIES 16

/* One address of the host's. Returns the port that it is, which the last of net->published has, too; 0 with error. */
static guint16 open_one(Net *net, const NetPublish *p, GError **error) {
        guint16 number = p->udp         ? forward_publish(net->forward, p, error)
                         : is_fast(net) ? publish_open(net->publish, p, error)
                                        : stack_publish(net->stack, p, error);
        bool v6 = strchr(p->host_addr, ':');

        if (number == 0)
                return 0;
        NetPublish *made = net_publish_new(p->udp, *p->host_addr ? p->host_addr : "0.0.0.0", number,
                                           *p->box_addr ? p->box_addr : (v6 ? NET_BOX_IPV6 : subnet_ipv4()->box_text), p->box_port);
        made->beside = p->beside;
        g_ptr_array_add(net->published, made);
        return number;
}

static void close_at(Net *net, guint i) {
        const NetPublish *p = net->published->pdata[i];

        if (p->udp)
                forward_unpublish(net->forward, p);
        else if (is_fast(net))
                (void) publish_close(net->publish, p);
        else
                stack_unpublish(net->stack, p);
        g_ptr_array_remove_index(net->published, i);
}

/* The IPv6 half of a "*", whose other half has that port. Where the host has no IPv6 there is nothing to listen on. */
static bool open_beside(Net *net, const NetPublish *p, guint16 number, GError **error) {
        NetPublish beside = *p;
        g_autoptr(GError) failure = NULL;

        beside.host_addr = (char *) "::";
        /* TCP by IPv6 first, and by IPv4 where nobody listens (publish.c). A datagram has no second try, so it goes where most servers are. */
        beside.box_addr = (char *) (p->udp ? subnet_ipv4()->box_text : NET_BOX_IPV6);
        beside.host_port = number;
        beside.beside = true;
        if (open_one(net, &beside, &failure) > 0)
                return true;
        if (err_get_errno(failure) == EAFNOSUPPORT || err_get_errno(failure) == EADDRNOTAVAIL) {
                log_step("port %u is published by IPv4 alone: %s", number, failure->message);
                return true;
        }
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* Of frames libslirp has no second try: TCP by them is IPv4's alone. */
static bool wants_ipv6(const Net *net, const NetPublish *p) {
        return net->config->ipv6 && !*p->box_addr && (p->udp || is_fast(net));
}

bool ports_open(Net *net, const NetPublish *p, GError **error) {
        NetPublish ipv4 = *p;

        if (!g_str_equal(p->host_addr, "*"))
                return open_one(net, p, error) > 0;
        ipv4.host_addr = (char *) "";
        for (int i = 1;; i++) {
                g_autoptr(GError) failure = NULL;
                guint16 number = open_one(net, &ipv4, error);
                if (number == 0)
                        return false;
                if (!wants_ipv6(net, p) || open_beside(net, p, number, &failure))
                        return true;
                close_at(net, net->published->len - 1);
                if (p->host_port != 0 || i == FREE_TRIES) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
        }
}

/* Of "*" both halves; of another address that one. */
static bool is_meant(const NetPublish *wanted, const NetPublish *p) {
        bool any = g_str_equal(wanted->host_addr, "*");
        const char *host = any || !*wanted->host_addr ? "0.0.0.0" : wanted->host_addr;

        return p->udp == wanted->udp && p->host_port == wanted->host_port && p->box_port == wanted->box_port &&
               ((any && p->beside) || g_str_equal(p->host_addr, host));
}

bool ports_close(Net *net, const NetPublish *wanted, GError **error) {
        guint before = net->published->len;

        for (guint i = before; i > 0; i--)
                if (is_meant(wanted, net->published->pdata[i - 1]))
                        close_at(net, i - 1);
        if (net->published->len < before)
                return true;
        g_autofree char *text = net_publish_text(wanted);
        err_set(error, 0, "%s to the box's port %u is not published", text, wanted->box_port);
        return err_hint(error, "usbox port lists a box's published ports");
}

void ports_lost(Net *net) {
        for (guint i = net->published->len; i > 0; i--)
                if (!((const NetPublish *) net->published->pdata[i - 1])->udp)
                        g_ptr_array_remove_index(net->published, i - 1);
}

bool ports_by_frames(Net *net, GError **error) {
        for (guint i = net->published->len; i > 0; i--) {
                const NetPublish *p = net->published->pdata[i - 1];
                if (p->udp)
                        continue;
                if (!publish_close(net->publish, p))
                        return err_set(error, 0, "published port %u is gone", p->host_port);
                if (p->beside)
                        g_ptr_array_remove_index(net->published, i - 1);
                else if (stack_publish(net->stack, p, error) == 0)
                        return false;
        }
        return true;
}
