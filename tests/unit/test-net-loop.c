/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the loop does with a frame when time has passed: a name that the box was told too long ago opens nothing any more, and what went by it goes on. And
 * what becomes of a question at the end, of flows that a new rule ends, and of the launcher's wish where there are no descriptors.
 */
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wire.h"
#include "netstack/control.h"

static const struct in6_addr box = { .s6_addr = { [10] = 0xff, 0xff, 10, 0, 2, 100 } };
static const uint8_t mac[6] = { 2 };

static unsigned denials;

static void tell(const char *what, const char *option, void *data) {
        denials++;
}

static struct in6_addr address(const char *text) {
        AddressPrefix prefix;
        g_assert_true(address_prefix_parse(text, &prefix));
        return prefix.addr;
}

/* A datagram of the box's. */
static void send_from(Net *net, uint16_t sport, const struct in6_addr *to) {
        uint8_t frame[128] = { 0 };
        size_t len = packet_write_udp(frame, mac, AF_INET, &box, sport, to, 9, 4);
        loop_shaped_up(frame, len, net);
}

static bool has(const Net *net, uint16_t sport, const struct in6_addr *to) {
        return udp_has(net->udp, &(Packet){ .family = AF_INET, .protocol = IPPROTO_UDP, .src = box, .dst = *to, .sport = sport, .dport = 9 });
}

static void make_with(Net *net, NetRules *rules, UdpSend send_datagrams) {
        net->tap = -1;
        net->events = events_new(NULL);
        net->account = account_new(-1, tell, NULL);
        net->names = names_new();
        net->policy = (Policy){ .ping = true, .rules = rules, .names = net->names };
        net->reassembly = reassembly_new();
        net->forward = forward_new(net->events, net->account, loop_send, net);
        net->udp = udp_new(net->events, net->account, loop_send, send_datagrams, net);
        net->ping = ping_new(net->events, net->account, loop_send, net);
        denials = 0;
}

static void make(Net *net, NetRules *rules) {
        make_with(net, rules, NULL);
}

static void clear(Net *net) {
        udp_free(net->udp);
        ping_free(net->ping);
        forward_free(net->forward);
        reassembly_free(net->reassembly);
        names_free(net->names);
        account_free(net->account);
        events_free(net->events);
}

static bool has_route(const struct in6_addr *to) {
        struct sockaddr_storage addr;
        socklen_t len = address_to_socket(AF_INET, to, 9, &addr);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool ok = connect(fd, (struct sockaddr *) &addr, len) == 0;

        close(fd);
        return ok;
}

static void test_old_names(void) {
        g_autoptr(NetRules) rules = net_rules_new();
        const struct in6_addr old = address("192.0.2.1"), young = address("192.0.2.2");
        Net net = { 0 };

        net_rules_append(rules, net_rule_parse(true, "*.example", NULL));
        make(&net, rules);
        int64_t now = events_now(net.events);
        names_add(net.names, &old, "old.example", "old.example", 10, now - 5 * 60 * 1000 - 10001);
        names_add(net.names, &young, "young.example", "young.example", 10, now - 5 * 60 * 1000);
        send_from(&net, 1000, &young);
        g_assert_cmpuint(denials, ==, 0);
        send_from(&net, 1000, &old);
        g_assert_cmpuint(denials, ==, 1);
        g_assert_false(has(&net, 1000, &old));
        clear(&net);
}

static void test_what_goes_on(void) {
        g_autoptr(NetRules) rules = net_rules_new();
        g_autoptr(NetRule) deny = net_rule_parse(false, "a.example", NULL);
        const struct in6_addr to = address("192.0.2.3");
        Net net = { 0 };

        if (!has_route(&to)) {
                g_test_skip("no route to anywhere");
                return;
        }
        net_rules_append(rules, net_rule_parse(true, "a.example", NULL));
        make(&net, rules);
        int64_t now = events_now(net.events);
        names_add(net.names, &to, "a.example", "a.example", 10, now);
        send_from(&net, 1000, &to);
        g_assert_true(has(&net, 1000, &to));
        names_expire(net.names, now + 6 * 60 * 1000);
        g_assert_null(names_of(net.names, &to));
        send_from(&net, 1000, &to);
        g_assert_cmpuint(denials, ==, 0);
        /* Another flow is a new one; and that which went on ends by a rule. */
        send_from(&net, 1001, &to);
        g_assert_cmpuint(denials, ==, 1);
        g_assert_false(has(&net, 1001, &to));
        g_assert_cmpuint(account_cut(net.account, &net.policy, deny), ==, 1);
        g_assert_false(has(&net, 1000, &to));
        clear(&net);
}

static unsigned replies;
static int reply_rcode;

static void on_reply(DnsAsker *asker, const uint8_t *msg, size_t len) {
        replies++;
        g_assert_cmpuint(len, >=, 12);
        reply_rcode = msg[3] & 15;
}

/* Who asks is told so when nobody will answer any more: it is his memory, too. */
static void test_waiting_question(void) {
        static const uint8_t question[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 1, 0, 1 };
        g_autoptr(NetConfig) config = net_config_new();
        DnsAsker asker = { .reply = on_reply };
        Net net = { 0 };

        g_ptr_array_add(config->resolvers, g_strdup("192.0.2.53"));
        make(&net, config->rules);
        net.dns = dns_new(net.events, config, net.names, net.account, loop_send, &net);
        g_assert_nonnull(dns_ask(net.dns, question, sizeof question, &asker));
        g_assert_cmpuint(replies, ==, 0);
        dns_free(net.dns);
        g_assert_cmpuint(replies, ==, 1);
        g_assert_cmpint(reply_rcode, ==, 2);
        clear(&net);
}

static unsigned resets;
static Flows *all_flows;

/* A segment, or its answer. */
static size_t write_tcp(uint8_t *frame, const struct in6_addr *to, uint16_t sport, uint8_t flags, bool answer) {
        size_t at = packet_write_headers(frame, mac, AF_INET, answer ? to : &box, answer ? &box : to, IPPROTO_TCP, 20);
        uint8_t *tcp = frame + at;

        memset(tcp, 0, 20);
        packet_put16(tcp, answer ? 80 : sport);
        packet_put16(tcp + 2, answer ? sport : 80);
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        return at + 20;
}

/* StackSend */
static void on_reset(const void *frame, size_t len, void *data) {
        resets++;
}

/* FlowsEnds.input, as a libslirp that has something to say to the box for each reset: of that connection, and of another. */
static void answer_reset(const uint8_t *frame, size_t len, void *to) {
        uint8_t answer[64];

        resets++;
        for (uint16_t sport = 1000; sport < 1003; sport++) {
                size_t n = write_tcp(answer, to, sport, PACKET_TCP_RST, true);
                flows_in(all_flows, answer, n);
        }
}

/* A new rule ends flows. That the end of one ends others, or itself, must not end them twice. */
static void test_cut(void) {
        g_autoptr(NetRule) deny = net_rule_parse(false, "203.0.113.0/24", NULL);
        struct in6_addr to = address("203.0.113.1");
        PolicyDecision decision = { .verdict = POLICY_PASS, .to = to };
        Net net = { 0 };

        make(&net, NULL);
        all_flows = flows_new(net.events, net.account, &(FlowsEnds){ .send = on_reset, .input = answer_reset, .data = &to });
        for (uint16_t sport = 1000; sport < 1003; sport++) {
                uint8_t frame[64];
                Packet packet;
                size_t n = write_tcp(frame, &to, sport, PACKET_TCP_SYN, false);
                g_assert_true(packet_parse(frame, n, &packet));
                flows_out(all_flows, &packet, &decision);
        }
        g_assert_cmpuint(account_cut(net.account, &net.policy, deny), ==, 3);
        g_assert_cmpuint(resets, ==, 2); /* of the first one, to both sides */
        g_assert_cmpuint(account_cut(net.account, &net.policy, deny), ==, 0);
        flows_free(all_flows);
        clear(&net);
}

/* What becomes the host's is closed from then on, to what goes there already as well. */
static void test_cut_by_the_host(void) {
        static const char *const places[] = { "203.0.113.9", "203.0.113.10" };
        g_autoptr(GArray) prefixes = g_array_new(false, false, sizeof(AddressPrefix));
        const AddressPrefix host = { .addr = address(places[0]), .len = 128 };
        struct in6_addr to[G_N_ELEMENTS(places)];
        Net net = { 0 };

        make(&net, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
                to[i] = address(places[i]);
                if (!has_route(&to[i])) {
                        g_test_skip("no route to anywhere");
                        clear(&net);
                        return;
                }
                send_from(&net, 1000, &to[i]);
                g_assert_true(has(&net, 1000, &to[i]));
        }
        g_assert_cmpuint(account_cut(net.account, &net.policy, NULL), ==, 0);
        g_array_append_val(prefixes, host);
        net.policy.host = prefixes;
        g_assert_cmpuint(account_cut(net.account, &net.policy, NULL), ==, 1);
        g_assert_false(has(&net, 1000, &to[0]));
        g_assert_true(has(&net, 1000, &to[1]));
        net.policy.host = NULL;
        clear(&net);
}

/* The box's flows may be as many as there are descriptors: the launcher can ask for them nevertheless, and that more than once. */
static void test_no_descriptors(void) {
        g_autoptr(NetConfig) config = net_config_new();
        g_autoptr(GArray) taken = g_array_new(false, false, sizeof(int));
        g_autoptr(GError) error = NULL;
        struct rlimit before, few;
        Net net = { .config = config };
        int wires[2], fd;

        make(&net, config->rules);
        net.published = g_ptr_array_new_with_free_func((GDestroyNotify) net_publish_free);
        g_assert_true(wire_pair(wires, &error));
        net.wire = wires[1];
        int list = memfd_create("flows", MFD_CLOEXEC);
        g_assert_cmpint(list, >=, 0);
        control_begin(&net);
        g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
        few = before;
        few.rlim_cur = 64;
        g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &few));
        while ((fd = dup(list)) >= 0)
                g_array_append_val(taken, fd);
        for (int i = 0; i < 3; i++) {
                g_assert_no_errno(ftruncate(list, 0));
                /* There is none for a port. */
                g_assert_true(wire_send(wires[0], WIRE_NET_PUBLISH, g_variant_new("(ub(ssqsq))", 1, true, "udp", "127.0.0.1", 0, "", 9), NULL, 0, &error));
                g_assert_cmpint(control_receive(&net, &error), ==, 1);
                g_assert_cmpuint(net.published->len, ==, 0);
                g_assert_true(wire_send(wires[0], WIRE_NET_FLOWS, g_variant_new("(u)", 1), &list, 1, &error));
                int r = control_receive(&net, &error);
                g_assert_no_error(error);
                g_assert_cmpint(r, ==, 1);
                g_assert_cmpint(lseek(list, 0, SEEK_END), >, 0);
        }
        for (guint i = 0; i < taken->len; i++)
                close(g_array_index(taken, int, i));
        g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
        close(list);
        close(net.spare);
        g_ptr_array_unref(net.published);
        close(wires[0]);
        close(wires[1]);
        clear(&net);
}

static struct { size_t len; uint16_t segment; } sent[8]; /* frames for the box */
static unsigned n_sent;
static bool takes_many;

/* UdpSend */
static bool send_datagrams(uint8_t *frame, size_t len, uint16_t segment, void *data) {
        size_t n = len - packet_udp_payload(AF_INET);

        if (!takes_many && n > segment)
                return false;
        memset(frame - TAP_ROOM, 0xee, TAP_ROOM);
        g_assert_cmpuint(n_sent, <, G_N_ELEMENTS(sent));
        sent[n_sent].len = n;
        sent[n_sent++].segment = segment;
        for (size_t i = 0; i < n; i++)
                g_assert_cmpuint(frame[packet_udp_payload(AF_INET) + i], ==, 'a' + i / segment + (n > segment ? 0 : n_sent - 1));
        return true;
}

/* What comes as one piece goes as one, or one by one where the kernel does not take that; and what goes so comes one by one. */
static void test_datagrams(gconstpointer data) {
        const struct in6_addr peer = address("192.0.2.1"), to = address("127.0.0.1");
        const PolicyDecision decision = { .verdict = POLICY_PASS, .reason = POLICY_BY_DEFAULT, .to = to };
        struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from;
        socklen_t len = sizeof addr, from_len = sizeof from;
        const int segment = 100;
        uint8_t frame[512] = { 0 };
        char buf[512];
        Packet packet;
        Net net = { 0 };

        int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        g_assert_no_errno(bind(server, (struct sockaddr *) &addr, sizeof addr));
        g_assert_no_errno(getsockname(server, (struct sockaddr *) &addr, &len));
        make_with(&net, NULL, send_datagrams);
        takes_many = GPOINTER_TO_INT(data);
        n_sent = 0;

        for (size_t i = 0; i < 250; i++)
                frame[packet_udp_payload(AF_INET) + i] = (uint8_t) ('a' + i / 100);
        size_t n = packet_write_udp(frame, mac, AF_INET, &box, 1000, &peer, ntohs(addr.sin_port), 250);
        g_assert_true(packet_parse(frame, n, &packet));
        packet.segment = 100;
        udp_input(net.udp, &packet, &decision);
        g_assert_true(udp_input_next(net.udp, frame, n, 125));
        udp_flush(net.udp);
        static const ssize_t lengths[] = { 100, 100, 50, 125, 125 };
        for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++)
                g_assert_cmpint(recvfrom(server, buf, sizeof buf, 0, (struct sockaddr *) &from, &from_len), ==, lengths[i]);

        if (setsockopt(server, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0) {
                g_test_skip("no UDP_SEGMENT");
        } else {
                g_assert_cmpint(sendto(server, frame + packet_udp_payload(AF_INET), 250, 0, (struct sockaddr *) &from, from_len), ==, 250);
                while (n_sent == 0)
                        g_assert_true(events_turn(net.events, NULL));
                g_assert_cmpuint(n_sent, ==, takes_many ? 1 : 3);
                g_assert_cmpuint(sent[0].len, ==, takes_many ? 250 : 100);
                g_assert_cmpuint(sent[0].segment, ==, 100);
                g_assert_cmpuint(sent[n_sent - 1].len, ==, takes_many ? 250 : 50);
        }
        g_autofree char *flows = account_json(net.account);
        g_assert_nonnull(strstr(flows, "\"bytes_out\":500,\"packets_out\":5,"));
        if (n_sent > 0)
                g_assert_nonnull(strstr(flows, "\"bytes_in\":250,\"packets_in\":3"));
        clear(&net);
        close(server);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-loop/old-names", test_old_names);
        g_test_add_func("/net-loop/what-goes-on", test_what_goes_on);
        g_test_add_func("/net-loop/waiting-question", test_waiting_question);
        g_test_add_func("/net-loop/cut", test_cut);
        g_test_add_func("/net-loop/cut-by-the-host", test_cut_by_the_host);
        g_test_add_func("/net-loop/no-descriptors", test_no_descriptors);
        g_test_add_data_func("/net-loop/datagrams/many", GINT_TO_POINTER(true), test_datagrams);
        g_test_add_data_func("/net-loop/datagrams/one-by-one", GINT_TO_POINTER(false), test_datagrams);
        return g_test_run();
}
