/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a network is made of, put together and taken apart: all but the TAP, the agent, and the fast path, which come later or not at all.
 *
 * Role: usbox-net. Privileges: none; opening a low port may need some. Threads: one. Order: before the confinement; the fuzz target makes and frees one
 * network after the other.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "netstack/control.h"
#include "netstack/parts.h"
#include "netstack/ports.h"

/* Ping sockets are for the groups of net.ipv4.ping_group_range (icmp(7)), which often is empty. */
static bool may_ping(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
        if (fd < 0)
                log_step("no ping to the outside: net.ipv4.ping_group_range leaves this user out");
        return fd >= 0;
}

/* The configuration's. */
static bool publish_all(Net *net, GError **error) {
        net->published = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
        for (guint i = 0; i < net->config->publish->len; i++)
                if (!ports_open(net, net->config->publish->pdata[i], error))
                        return false;
        return true;
}

/* FlowsEnds.input */
static void input(const uint8_t *frame, size_t len, void *data) {
        stack_input(((Net *) data)->stack, frame, len);
}

/* Rules, the names that the user gave, and who writes down what comes of them. */
static void make_policy(Net *net) {
        const NetConfig *config = net->config;

        net->names = names_new();
        for (guint i = 0; i < config->hosts->len; i++) {
                const NetHost *host = config->hosts->pdata[i];
                AddressPrefix prefix;
                if (address_prefix_parse(host->address, &prefix))
                        names_add(net->names, &prefix.addr, host->name, NULL, 0, 0);
        }
        net->policy = (Policy){ .ipv6 = config->ipv6, .ping = may_ping(), .tls_names = config->tls_names, .host = net->host.prefixes, .rules = config->rules,
                                .names = net->names };
        net->dns = dns_new(net->events, config, net->names, net->account, loop_send, net);
        net->dns_tcp = dns_tcp_new(net->events, net->dns);
        net->reassembly = reassembly_new();
        net->pcap = (Pcap){ .fd = config->pcap_fd };
        pcap_begin(&net->pcap);
        const ShapeSink sinks[SHAPE_DIRECTIONS] = { [SHAPE_UP] = loop_shaped_up, [SHAPE_DOWN] = loop_shaped_down };
        if (config->shape.up_bps > 0 || config->shape.down_bps > 0 || config->shape.delay_us > 0 || config->shape.loss_ppm > 0)
                net->shape = shape_new(net->events, &config->shape, sinks, net);
        net->udp = udp_new(net->events, net->account, loop_send, net_config_offloads(config) ? loop_send_datagrams : NULL, net);
        net->ping = ping_new(net->events, net->account, loop_send, net);
        net->flows = flows_new(net->events, net->account, &(FlowsEnds){ .send = loop_send, .input = input, .data = net });
}

bool parts_make(Net *net, GError **error) {
        const NetConfig *config = net->config;

        net->spare = -1;
        net->events = events_new(error);
        if (!net->events)
                return false;
        net->pipes = splice_pipes_new(net->events);
        net->publish = publish_new(net->events, net->pipes);
        net->account = account_new(config->log_fd, control_tell_denied, net);
        net->forward = forward_new(net->events, net->account, loop_send, net);
        net->stack = stack_new(config, net->events, loop_send_counted, net, error);
        if (!net->stack || !publish_all(net, error) || !hostaddr_open(&net->host, error))
                return false;
        make_policy(net);
        return true;
}

void parts_end_flows(Net *net) {
        g_clear_pointer(&net->fast_path, fastpath_free);
        g_clear_pointer(&net->flows, flows_free);
        g_clear_pointer(&net->udp, udp_free);
        g_clear_pointer(&net->ping, ping_free);
        g_clear_pointer(&net->account, account_free);
}

void parts_free(Net *net) {
        /* Who ends connections may send frames, or say it to the account. */
        g_clear_pointer(&net->stack, stack_free);
        g_clear_pointer(&net->publish, publish_free);
        g_clear_pointer(&net->forward, forward_free);
        parts_end_flows(net);
        g_clear_pointer(&net->dns_tcp, dns_tcp_free);
        g_clear_pointer(&net->dns, dns_free);
        g_clear_pointer(&net->shape, shape_free);
        g_clear_pointer(&net->reassembly, reassembly_free);
        g_clear_pointer(&net->names, names_free);
        g_clear_pointer(&net->published, g_ptr_array_unref);
        g_clear_pointer(&net->pipes, splice_pipes_free);
        hostaddr_close(&net->host);
        fd_closep(&net->spare);
        g_clear_pointer(&net->events, events_free);
        g_clear_pointer(&net->read_buf, g_free);
        g_clear_pointer(&net->dns_frame, g_free);
        g_clear_pointer(&net->held.frame, g_free);
        g_clear_error(&net->error);
}
