/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The account of usbox-net: what is said of a denial, once; sums; which flows a new rule cuts; and a log for which there is no room.
 */
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "netstack/account.h"
#include "netstack/config.h"

static GPtrArray *told;

static void tell(const char *what, const char *option, void *data) {
        g_ptr_array_add(told, g_strdup_printf("%s | %s", what, option));
}

static AccountKey key_of(const char *addr, uint8_t protocol, uint16_t port) {
        AddressPrefix prefix;
        g_assert_true(address_prefix_parse(addr, &prefix));
        return (AccountKey){ .protocol = protocol, .family = strchr(addr, ':') ? AF_INET6 : AF_INET, .src = prefix.addr, .dst = prefix.addr, .sport = 1000,
                             .dport = port };
}

static void deny(Account *a, const Policy *policy, const char *addr, uint8_t protocol, uint16_t port) {
        AccountKey key = key_of(addr, protocol, port);
        PolicyDecision d = policy_decide(policy, protocol, key.family, &key.dst, port);
        g_assert_cmpint(d.verdict, ==, POLICY_REFUSE);
        account_denied(a, &key, &d);
}

static void test_denials(void) {
        g_autoptr(NetRules) rules = net_rules_new();
        g_autoptr(Names) names = names_new();
        Policy policy = { .ipv6 = true, .ping = true, .rules = rules, .names = names };
        AccountKey named = key_of("192.0.2.1", IPPROTO_TCP, 80), rebound = key_of("10.1.2.3", IPPROTO_TCP, 80);

        told = g_ptr_array_new_with_free_func(g_free);
        net_rules_append(rules, net_rule_parse(false, "192.0.2.9:25", NULL));
        net_rules_append(rules, net_rule_parse(true, "a.example:443", NULL));
        net_rules_append(rules, net_rule_parse(true, "b.example", NULL));
        names_add(names, &named.dst, "a.example", "a.example", 60, 0);
        names_add(names, &rebound.dst, "b.example", "b.example", 60, 0);

        Account *a = account_new(-1, tell, NULL);
        static const char *const expected[] = {
                "a.example:80/tcp | --allow a.example:80",
                "192.0.2.2:22/tcp | --allow 192.0.2.2:22",
                "[2001:db8::1]:53/udp | --allow [2001:db8::1]:53",
                "192.0.2.3/icmp | --allow 192.0.2.3",
                "192.0.2.9:25/tcp | --deny 192.0.2.9:25",
                "10.0.2.2:5432/tcp | --expose-host 5432",
                "127.0.0.1:80/tcp | --allow host:80",
                "169.254.169.254:80/tcp | --allow metadata:80",
                "b.example:80/tcp | --allow private:80",
                "10.0.2.50:80/tcp (of the box's own network) | ",
                "[fd00::50]:80/tcp (of the box's own network) | ",
                "c.example | --allow c.example",
        };
        for (int i = 0; i < 2; i++) { /* the second time nothing is new */
                deny(a, &policy, "192.0.2.1", IPPROTO_TCP, 80);
                deny(a, &policy, "192.0.2.2", IPPROTO_TCP, 22);
                deny(a, &policy, "2001:db8::1", IPPROTO_UDP, 53);
                deny(a, &policy, "192.0.2.3", IPPROTO_ICMP, 0);
                deny(a, &policy, "192.0.2.9", IPPROTO_TCP, 25);
                deny(a, &policy, "10.0.2.2", IPPROTO_TCP, 5432);
                deny(a, &policy, "127.0.0.1", IPPROTO_TCP, 80);
                deny(a, &policy, "169.254.169.254", IPPROTO_TCP, 80);
                deny(a, &policy, "10.1.2.3", IPPROTO_TCP, 80);
                deny(a, &policy, "10.0.2.50", IPPROTO_TCP, 80);
                deny(a, &policy, "fd00::50", IPPROTO_TCP, 80);
                deny(a, &policy, "10.0.2.3", IPPROTO_TCP, 80); /* the resolver has nothing else */
                deny(a, &policy, "240.0.0.1", IPPROTO_TCP, 80); /* nothing would open it: not a word */
                account_denied_name(a, "c.example", NULL);
        }
        g_assert_cmpuint(told->len, ==, G_N_ELEMENTS(expected));
        for (guint i = 0; i < told->len; i++)
                g_assert_cmpstr(told->pdata[i], ==, expected[i]);
        /* However many there are, the wire holds what is told. */
        for (uint16_t port = 1; port < 1000; port++)
                deny(a, &policy, "192.0.2.4", IPPROTO_TCP, port);
        g_assert_cmpuint(told->len, ==, NET_DENIALS_MAX);
        account_free(a);
        g_ptr_array_unref(told);
}

static guint cuts;
static Account *cut_from;

static void cut(AccountFlow *flow, void *carrier) {
        g_assert_cmpstr(carrier, ==, "carrier");
        account_end(cut_from, flow, "denied");
        cuts++;
}

static AccountFlow *start(Account *a, const Policy *policy, const char *addr, uint16_t port) {
        AccountKey key = key_of(addr, IPPROTO_TCP, port);
        PolicyDecision d = policy_decide(policy, IPPROTO_TCP, key.family, &key.dst, port);
        g_assert_cmpint(d.verdict, ==, POLICY_PASS);
        return account_start(a, &key, &d, ACCOUNT_SPLICE, cut, (void *) "carrier");
}

static json_t *read_account(const Account *a) {
        g_autofree char *text = account_json(a);
        json_t *all = json_loads(text, 0, NULL);
        g_assert_nonnull(all);
        return all;
}

static void test_flows(void) {
        g_autoptr(NetRules) rules = net_rules_new();
        g_autoptr(Names) names = names_new();
        Policy policy = { .ipv6 = true, .rules = rules, .names = names };
        AccountKey named = key_of("192.0.2.1", IPPROTO_TCP, 443);

        names_add(names, &named.dst, "a.example", "a.example", 60, 0);
        Account *a = cut_from = account_new(-1, tell, NULL);
        AccountFlow *first = start(a, &policy, "192.0.2.1", 443), *second = start(a, &policy, "192.0.2.1", 80);
        start(a, &policy, "2001:db8::1", 443);
        account_moved(first, 10, 1, 20, 2);
        account_moved(first, 5, 1, 0, 0);
        account_moved(second, 100, 3, 200, 4);
        account_end(a, second, "closed");

        json_t *all = read_account(a), *flow = json_array_get(json_object_get(all, "flows"), 0), *sum = NULL, *one;
        size_t i;
        g_assert_cmpuint(json_array_size(json_object_get(all, "flows")), ==, 2);
        g_assert_cmpstr(json_string_value(json_object_get(flow, "name")), ==, "a.example");
        g_assert_cmpstr(json_string_value(json_object_get(flow, "to")), ==, "192.0.2.1:443");
        g_assert_cmpint(json_integer_value(json_object_get(flow, "bytes_out")), ==, 15);
        g_assert_cmpint(json_integer_value(json_object_get(flow, "packets_in")), ==, 2);
        json_array_foreach(json_object_get(all, "ended"), i, one)
                if (g_str_equal(json_string_value(json_object_get(one, "to")), "a.example"))
                        sum = one;
        g_assert_cmpint(json_integer_value(json_object_get(sum, "flows")), ==, 2);
        g_assert_cmpint(json_integer_value(json_object_get(sum, "bytes_in")), ==, 200); /* of what has ended */
        json_decref(all);

        /* By name, although the DNS has forgotten it; another port is another matter. */
        names_expire(names, G_MAXINT32);
        g_autoptr(NetRule) other = net_rule_parse(false, "a.example:80", NULL), this = net_rule_parse(false, "a.example:443", NULL),
                           rest = net_rule_parse(false, "any", NULL);
        g_assert_cmpuint(account_cut(a, &policy, other), ==, 0);
        g_assert_cmpuint(account_cut(a, &policy, this), ==, 1);
        g_assert_cmpuint(account_cut(a, &policy, rest), ==, 1);
        g_assert_cmpuint(cuts, ==, 2);
        all = read_account(a);
        g_assert_cmpuint(json_array_size(json_object_get(all, "flows")), ==, 0);
        json_decref(all);
        account_free(a);
}

/* Room for so many bytes more in all that is written. */
static void set_room(rlim_t bytes) {
        struct rlimit limit;

        g_assert_true(getrlimit(RLIMIT_FSIZE, &limit) == 0);
        limit.rlim_cur = MIN(bytes, limit.rlim_max);
        g_assert_true(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* The log's file takes no more, and later does: a line is torn, some are missing, and those that come then are whole. */
static void test_full_log(void) {
        g_autoptr(NetRules) rules = net_rules_new();
        g_autoptr(Names) names = names_new();
        Policy policy = { .ipv6 = true, .rules = rules, .names = names };
        g_autofree char *path = NULL, *text = NULL;
        int fd = g_file_open_tmp("usbox-log-XXXXXX", &path, NULL);

        g_assert_cmpint(fd, >=, 0);
        (void) signal(SIGXFSZ, SIG_IGN);
        Account *a = cut_from = account_new(fd, tell, NULL);
        start(a, &policy, "192.0.2.1", 1);
        const off_t line = lseek(fd, 0, SEEK_CUR);
        set_room((rlim_t) (2 * line + line / 2));
        for (uint16_t port = 2; port <= 5; port++)
                start(a, &policy, "192.0.2.1", port);
        g_assert_cmpint(lseek(fd, 0, SEEK_CUR), ==, 2 * line + line / 2);
        set_room(RLIM_INFINITY);
        for (uint16_t port = 6; port <= 7; port++)
                start(a, &policy, "192.0.2.1", port);
        account_free(a); /* which says the end of all seven */
        close(fd);

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_assert_cmpuint(g_strv_length(lines), ==, 2 + 1 + 2 + 7 + 1);
        for (guint i = 0; i < 12; i++) {
                json_t *one = json_loads(lines[i], 0, NULL);
                g_assert_true((one == NULL) == (i == 2));
                if (i == 3 || i == 4)
                        g_assert_cmpstr(json_string_value(json_object_get(one, "to")), ==, i == 3 ? "192.0.2.1:6" : "192.0.2.1:7");
                json_decref(one);
        }
        g_assert_cmpstr(lines[12], ==, "");
        (void) unlink(path);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-account/denials", test_denials);
        g_test_add_func("/net-account/flows", test_flows);
        g_test_add_func("/net-account/full-log", test_full_log);
        return g_test_run();
}
