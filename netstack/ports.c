/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Published ports: by which of the three ways each goes.
 *
 * Role: usbox-net. Privileges: none; opening a low port may need some. Threads: one. Order: the configuration's before the confinement, later
 * ones as the launcher says.
 */
#include <string.h>

#include "base/error.h"
#include "netstack/ports.h"

static bool is_fast(const Net *net) {
        return net->agent >= 0;
}

bool ports_open(Net *net, const NetPublish *p, GError **error) {
        guint16 number = p->udp         ? forward_publish(net->forward, p, error)
                         : is_fast(net) ? publish_open(net->publish, p, error)
                                        : stack_publish(net->stack, p, error);
        bool v6 = strchr(p->host_addr, ':');

        if (number == 0)
                return false;
        g_ptr_array_add(net->published, net_publish_new(p->udp, *p->host_addr ? p->host_addr : "0.0.0.0", number,
                                                        *p->box_addr ? p->box_addr : (v6 ? NET_BOX_IPV6 : NET_BOX_IPV4), p->box_port));
        return true;
}

bool ports_close(Net *net, const NetPublish *wanted, GError **error) {
        const char *host = *wanted->host_addr ? wanted->host_addr : "0.0.0.0";

        for (guint i = 0; i < net->published->len; i++) {
                const NetPublish *p = net->published->pdata[i];
                if (p->udp != wanted->udp || p->host_port != wanted->host_port || p->box_port != wanted->box_port || !g_str_equal(p->host_addr, host))
                        continue;
                if (p->udp)
                        forward_unpublish(net->forward, p);
                else if (is_fast(net))
                        (void) publish_close(net->publish, p);
                else
                        stack_unpublish(net->stack, p);
                g_ptr_array_remove_index(net->published, i);
                return true;
        }
        g_autofree char *text = net_publish_text(wanted);
        return err_set(error, 0, "%s to the box's port %u is not published", text, wanted->box_port);
}

bool ports_by_frames(Net *net, GError **error) {
        for (guint i = 0; i < net->published->len; i++) {
                const NetPublish *p = net->published->pdata[i];
                if (!p->udp && (!publish_close(net->publish, p) || stack_publish(net->stack, p, error) == 0))
                        return false;
        }
        return true;
}
