/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of usbox-net: their text, names that DNS gave, and what is decided about a flow.
 */
#include <arpa/inet.h>
#include <string.h>

#include "netstack/policy.h"

/* A policy of rules "allow X", "deny X" and "expose PORT", and of names. */
typedef struct {
        NetRules *rules;
        Names *names;
        GArray *host;
        Policy policy;
} World;

static struct in6_addr address(const char *text, int *ret_family) {
        AddressPrefix prefix;

        g_assert_true(address_prefix_parse(text, &prefix));
        *ret_family = strchr(text, ':') ? AF_INET6 : AF_INET;
        return prefix.addr;
}

static void world_init(World *w, const char *const *rules) {
        AddressPrefix own;

        *w = (World){ .rules = net_rules_new(), .names = names_new(), .host = g_array_new(false, false, sizeof(AddressPrefix)) };
        for (const char *const *r = rules; r && *r; r++) {
                g_autoptr(GError) error = NULL;
                bool allow = g_str_has_prefix(*r, "allow ");
                NetRule *rule = g_str_has_prefix(*r, "expose ") ? net_rule_expose((uint16_t) atoi(*r + 7))
                                                                : net_rule_parse(allow, strchr(*r, ' ') + 1, &error);
                g_assert_no_error(error);
                net_rules_append(w->rules, rule);
        }
        g_assert_true(address_prefix_parse("192.168.1.5", &own));
        g_array_append_val(w->host, own);
        g_assert_true(address_prefix_parse("2001:db8::5", &own));
        g_array_append_val(w->host, own);
        w->policy = (Policy){ .ipv6 = true, .ping = true, .host = w->host, .rules = w->rules, .names = w->names };
}

static void world_clear(World *w) {
        net_rules_free(w->rules);
        names_free(w->names);
        g_array_unref(w->host);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static void learn(World *w, const char *addr, const char *name, NameSource source) {
        int family;
        struct in6_addr a = address(addr, &family);
        names_add(w->names, &a, name, source == NAME_GIVEN ? NULL : source == NAME_ASKED ? name : "asked.example", 60, 0);
}

static PolicyDecision decide(const World *w, uint8_t protocol, const char *addr, uint16_t port) {
        int family;
        struct in6_addr a = address(addr, &family);
        return policy_decide(&w->policy, protocol, family, &a, port);
}

#define assert_open(w, addr, port) g_assert_cmpint(decide(w, IPPROTO_TCP, addr, port).verdict, ==, POLICY_PASS)
#define assert_closed(w, addr, port, why)                                      \
        do {                                                                   \
                PolicyDecision d_ = decide(w, IPPROTO_TCP, addr, port);        \
                g_assert_cmpint(d_.verdict, ==, POLICY_REFUSE);                \
                g_assert_cmpint(d_.reason, ==, POLICY_BY_##why);               \
        } while (0)
#define RULES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_text(void) {
        static const struct {
                const char *text;
                RuleKind kind;
                const char *name;
                uint16_t first, last;
                unsigned protocols;
        } good[] = {
                { "github.com", RULE_NAME, "github.com", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "GitHub.COM.:443", RULE_NAME, "github.com", 443, 443, RULE_TCP | RULE_UDP },
                { "*.debian.org:80-443/tcp", RULE_WILDCARD, "debian.org", 80, 443, RULE_TCP },
                { "xn--bcher-kva.example/udp", RULE_NAME, "xn--bcher-kva.example", 0, 65535, RULE_UDP },
                { "_sip._tcp.example.org", RULE_NAME, "_sip._tcp.example.org", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "localhost.", RULE_NAME, "localhost", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "host.usbox:5432", RULE_GATEWAY, "host.usbox", 5432, 5432, RULE_TCP | RULE_UDP },
                { "allow-listed.example", RULE_NAME, "allow-listed.example", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "192.0.2.1", RULE_PREFIX, NULL, 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "192.0.2.0/24:1-2/udp", RULE_PREFIX, NULL, 1, 2, RULE_UDP },
                { "2001:db8::/32", RULE_PREFIX, NULL, 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "2001:db8::/32/tcp", RULE_PREFIX, NULL, 0, 65535, RULE_TCP },
                { "[2001:db8::1]:65535", RULE_PREFIX, NULL, 65535, 65535, RULE_TCP | RULE_UDP },
                { "any:53/udp", RULE_ANY, NULL, 53, 53, RULE_UDP },
                { "host", RULE_CLASS, NULL, 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "allow-private", RULE_CLASS, NULL, 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "ANY", RULE_ANY, NULL, 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "Host:80", RULE_CLASS, NULL, 80, 80, RULE_TCP | RULE_UDP },
                { "lan.", RULE_NAME, "lan", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "all.example", RULE_NAME, "all.example", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "*.lan", RULE_WILDCARD, "lan", 0, 65535, RULE_TCP | RULE_UDP | RULE_ICMP },
                { "link-local:80", RULE_CLASS, NULL, 80, 80, RULE_TCP | RULE_UDP },
        };
        static const char *const bad[] = {
                "", ":", ":80", "a b", "github.com:", "github.com:0", "github.com:65536", "github.com:80-", "a.com:443-80", "a.com:-80", "a.com/sctp",
                "a.com/", "*", "*.", "*.*.org", "www.*.org", "*github.com", "a..b", ".a", "a.com..", "https://a.com", "[a.com]:80", "[192.0.2.1]:80",
                "[2001:db8::1", "[2001:db8::1]80", "192.0.2.300", "192.0.2", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/-1",
                ("b\xc3\xbc" "cher.example"), "a.com:80:90", "1234", "a.com:+80", "a.com:0x50", "a.com: 80", "192.0.2.0/ 8", "[]:80",
                "a.com:80/tcp/udp", "all", "ALL:443", "localhost:5432", "internet/tcp",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(NetRule) rule = net_rule_parse(true, good[i].text, &error);
                g_test_message("%s", good[i].text);
                g_assert_no_error(error);
                g_assert_cmpint(rule->kind, ==, good[i].kind);
                g_assert_cmpstr(rule->name, ==, good[i].name);
                g_assert_cmpuint(rule->first, ==, good[i].first);
                g_assert_cmpuint(rule->last, ==, good[i].last);
                g_assert_cmpuint(rule->protocols, ==, good[i].protocols);
                g_assert_cmpstr(rule->text, ==, good[i].text);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                g_test_message("%s", bad[i]);
                g_assert_null(net_rule_parse(false, bad[i], &error));
                g_assert_true(g_str_has_prefix(error->message, "--deny: '"));
        }
        static const char *const names[][2] = { { "a.example", "a.example" }, { "host.usbox", "host.usbox" }, { "build1", "build1" }, { "lan", "lan." },
                                                { "any", "any." }, { "host", "host." }, { "allow-any", "allow-any." } };
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *text = net_rule_name_text(names[i][0]);
                g_assert_cmpstr(text, ==, names[i][1]);
                g_autoptr(NetRule) rule = net_rule_parse(true, text, NULL);
                g_assert_cmpstr(rule->name, ==, names[i][0]);
        }
        g_autofree char *label = g_strnfill(64, 'a'), *much = g_strnfill(254, 'a');
        for (size_t i = 63; i < 254; i += 64)
                much[i] = '.';
        g_assert_null(net_rule_parse(true, label, NULL));
        g_assert_null(net_rule_parse(true, much, NULL));
        g_autoptr(NetRule) longest = net_rule_parse(true, much + 1, NULL);
        g_assert_nonnull(longest);
}

static void test_defaults(void) {
        g_auto(World) w = { 0 };
        world_init(&w, NULL);

        assert_open(&w, "198.51.100.1", 80);
        assert_open(&w, "192.168.1.6", 80);
        assert_closed(&w, "192.168.1.5", 80, CLASS);
        assert_closed(&w, "127.0.0.1", 80, CLASS);
        assert_closed(&w, "0.0.0.0", 80, CLASS);
        assert_closed(&w, "10.0.2.2", 80, CLASS);
        assert_closed(&w, "fd00::2", 80, CLASS);
        assert_closed(&w, "169.254.169.254", 80, CLASS);
        assert_closed(&w, "fd00:ec2::254", 80, CLASS);
        assert_closed(&w, "2002:c0a8:105::1", 80, CLASS); /* 6to4 of the host's own */
        assert_closed(&w, "::ffff:192.0.2.1", 80, ADDRESS); /* in an IPv6 packet */
        assert_closed(&w, "fe80::1", 80, ADDRESS);
        assert_closed(&w, "10.0.2.77", 80, ADDRESS);
        assert_closed(&w, "10.0.2.3", 54, ADDRESS);
        g_assert_cmpint(decide(&w, IPPROTO_TCP, "10.0.2.3", 53).verdict, ==, POLICY_DNS);
        g_assert_cmpint(decide(&w, IPPROTO_UDP, "fd00::3", 53).verdict, ==, POLICY_DNS);
        g_assert_cmpint(decide(&w, IPPROTO_ICMP, "10.0.2.3", 0).verdict, ==, POLICY_REFUSE);
}

static void test_order(void) {
        g_auto(World) w = { 0 };
        world_init(&w, RULES("deny 192.0.2.1:80", "allow 192.0.2.0/24:80-81", "deny any:81", "allow 198.51.100.0/24/udp", "allow 203.0.113.1"));

        assert_closed(&w, "192.0.2.1", 80, RULE);
        assert_open(&w, "192.0.2.1", 81);
        assert_open(&w, "192.0.2.2", 80);
        assert_closed(&w, "192.0.2.2", 82, UNMATCHED);
        assert_closed(&w, "203.0.113.1", 81, RULE);
        assert_closed(&w, "198.51.100.1", 80, UNMATCHED);
        g_assert_cmpint(decide(&w, IPPROTO_UDP, "198.51.100.1", 80).verdict, ==, POLICY_PASS);
        g_assert_cmpint(decide(&w, IPPROTO_ICMP, "198.51.100.1", 0).verdict, ==, POLICY_REFUSE);
        g_assert_cmpint(decide(&w, IPPROTO_ICMP, "203.0.113.1", 0).verdict, ==, POLICY_PASS);
        g_assert_cmpint(decide(&w, IPPROTO_ICMP, "192.0.2.1", 0).verdict, ==, POLICY_REFUSE);
        assert_closed(&w, "192.0.2.1", 80, RULE);
        g_assert_cmpstr(decide(&w, IPPROTO_TCP, "192.0.2.1", 80).rule->text, ==, "192.0.2.1:80");
}

/* An IPv4 address as a translator on the way takes it, NAT64, 6to4 and the like, is that address to a rule that denies; one that allows says what it means. */
static void test_spellings(void) {
        g_auto(World) deny = { 0 }, classes = { 0 }, allow = { 0 }, six = { 0 };
        world_init(&deny, RULES("deny 203.0.113.0/24:80", "deny 198.51.100.7"));
        world_init(&classes, RULES("deny private"));
        world_init(&allow, RULES("allow 203.0.113.1"));
        world_init(&six, RULES("deny 64:ff9b::203.0.113.1"));

        static const char *const spelled[] = { "203.0.113.1", "64:ff9b::203.0.113.1", "64:ff9b:1::203.0.113.1", "2002:cb00:7101::1", "64:ff9b:1:2::203.0.113.1",
                                               "64:ff9b:1:cb00:71:100::", "2001:0:101:101:0:ffff:34ff:8efe", "2001:db8::5efe:203.0.113.1" };
        for (size_t i = 0; i < G_N_ELEMENTS(spelled); i++) {
                g_test_message("%s", spelled[i]);
                assert_closed(&deny, spelled[i], 80, RULE);
                assert_open(&deny, spelled[i], 81);
                if (i > 0)
                        assert_closed(&allow, spelled[i], 80, UNMATCHED);
        }
        assert_closed(&deny, "64:ff9b::198.51.100.7", 81, RULE);
        assert_open(&deny, "64:ff9b::198.51.100.8", 81);
        assert_open(&deny, "2001:db8::203.0.113.1", 80); /* no translator's */
        assert_open(&allow, "203.0.113.1", 80);
        assert_open(&six, "203.0.113.1", 80);

        /* 64:ff9b:1::/48 is for what is private behind a translator, whatever it has there (RFC 8215). */
        static const char *const private[] = { "10.0.3.1", "100.64.0.1", "fd01::1", "64:ff9b::10.0.3.1", "64:ff9b:1::1", "64:ff9b:1:a00:3:100::" };
        for (size_t i = 0; i < G_N_ELEMENTS(private); i++) {
                g_test_message("%s", private[i]);
                assert_closed(&classes, private[i], 80, RULE);
        }
        assert_open(&classes, "64:ff9b:2::1", 80);
        assert_open(&classes, "64:ff9b::203.0.113.1", 80);
        assert_open(&classes, "198.18.0.1", 80);
}

/* A short prefix of IPv6 is none of IPv4, which is kept as a part of it. */
static void test_families(void) {
        g_auto(World) allow = { 0 }, deny = { 0 }, both = { 0 }, low = { 0 };
        world_init(&allow, RULES("allow ::/0"));
        world_init(&deny, RULES("deny ::/0"));
        world_init(&both, RULES("deny [::/0]:80", "allow 0.0.0.0/0", "deny any"));
        world_init(&low, RULES("deny ::/3", "deny [::/80]:443"));

        assert_open(&allow, "2001:db8::1", 80);
        assert_closed(&allow, "192.0.2.1", 80, UNMATCHED);
        assert_closed(&deny, "2001:db8::1", 80, RULE);
        assert_open(&deny, "192.0.2.1", 80);
        assert_open(&both, "192.0.2.1", 80);
        assert_closed(&both, "2001:db8::1", 80, RULE);
        assert_open(&low, "192.0.2.1", 443);
        assert_open(&low, "2001:db8::1", 443);
        assert_closed(&low, "64:ff9b::192.0.2.1", 80, RULE);
}

static void test_guarded(void) {
        g_auto(World) wide = { 0 }, host = { 0 }, named = { 0 }, metadata = { 0 }, expose = { 0 };
        world_init(&wide, RULES("allow any", "allow private", "allow link-local", "allow 0.0.0.0/0", "allow ::/0", "allow 192.168.0.0/16"));
        world_init(&host, RULES("allow host:80"));
        world_init(&named, RULES("allow 192.168.1.5", "allow 169.254.169.254:80", "allow host.usbox:5432"));
        world_init(&metadata, RULES("allow metadata", "deny private"));
        world_init(&expose, RULES("expose 5432"));

        static const char *const guarded[] = { "127.0.0.1", "192.168.1.5", "10.0.2.2", "169.254.169.254", "fd00:ec2::254", "::1", "2001:db8::5" };
        for (size_t i = 0; i < G_N_ELEMENTS(guarded); i++)
                assert_closed(&wide, guarded[i], 80, CLASS);
        assert_open(&wide, "192.168.1.6", 80);
        assert_open(&wide, "2001:db8::6", 80);
        assert_closed(&wide, "fe80::1", 80, ADDRESS);

        assert_open(&host, "10.0.2.2", 80);
        assert_open(&host, "192.168.1.5", 80);
        assert_closed(&host, "192.168.1.5", 81, CLASS);
        assert_closed(&host, "169.254.169.254", 80, CLASS);
        assert_closed(&host, "192.0.2.1", 80, UNMATCHED);

        assert_open(&named, "192.168.1.5", 80);
        assert_open(&named, "169.254.169.254", 80);
        assert_open(&named, "fd00::2", 5432);
        assert_closed(&named, "10.0.2.2", 5433, CLASS);
        assert_closed(&named, "127.0.0.1", 5432, CLASS);

        assert_open(&metadata, "169.254.169.254", 80);
        assert_open(&metadata, "fd00:ec2::254", 80);
        assert_closed(&metadata, "10.0.2.2", 80, CLASS);

        /* Nothing else is closed by --expose-host, and both loopbacks are where the gateway leads. */
        assert_open(&expose, "192.0.2.1", 80);
        assert_closed(&expose, "10.0.2.2", 80, CLASS);
        g_autofree char *v4 = NULL, *v6 = NULL;
        PolicyDecision d = decide(&expose, IPPROTO_TCP, "10.0.2.2", 5432);
        g_assert_cmpint(d.verdict, ==, POLICY_PASS);
        v4 = address_text(&d.to);
        g_assert_cmpstr(v4, ==, "127.0.0.1");
        d = decide(&expose, IPPROTO_UDP, "fd00::2", 5432);
        g_assert_cmpint(d.verdict, ==, POLICY_PASS);
        v6 = address_text(&d.to);
        g_assert_cmpstr(v6, ==, "::1");
        g_assert_cmpint(decide(&expose, IPPROTO_ICMP, "10.0.2.2", 0).verdict, ==, POLICY_REFUSE);
}

static void test_names(void) {
        g_auto(World) w = { 0 };
        world_init(&w, RULES("deny ads.example.org", "allow *.example.org:443", "allow github.com", "allow given.lan"));
        learn(&w, "192.0.2.1", "github.com", NAME_ASKED);
        learn(&w, "192.0.2.2", "www.example.org", NAME_ASKED);
        learn(&w, "192.0.2.3", "example.org", NAME_ASKED);
        learn(&w, "192.0.2.4", "github.com", NAME_ALIAS);
        learn(&w, "192.0.2.5", "www.example.org", NAME_ASKED);
        learn(&w, "192.0.2.5", "ads.example.org", NAME_ALIAS);
        learn(&w, "192.0.2.6", "notexample.org", NAME_ASKED);

        assert_open(&w, "192.0.2.1", 22);
        g_assert_cmpstr(decide(&w, IPPROTO_TCP, "192.0.2.1", 22).name, ==, "github.com");
        g_assert_cmpint(decide(&w, IPPROTO_ICMP, "192.0.2.1", 0).verdict, ==, POLICY_PASS);
        assert_open(&w, "192.0.2.2", 443);
        assert_closed(&w, "192.0.2.2", 80, UNMATCHED);
        assert_closed(&w, "192.0.2.3", 443, UNMATCHED); /* the wildcard's own parent */
        assert_closed(&w, "192.0.2.4", 443, UNMATCHED); /* only on the way to another name */
        assert_closed(&w, "192.0.2.5", 443, RULE);      /* denied by what stood on the way */
        assert_closed(&w, "192.0.2.6", 443, UNMATCHED);
        assert_closed(&w, "192.0.2.7", 443, UNMATCHED); /* an address that no answer gave */

        /* Rebinding: whoever owns the name may not choose the user's own. */
        static const char *const inside[] = { "127.0.0.1", "192.168.1.5", "192.168.1.6", "10.1.2.3", "169.254.1.1", "169.254.169.254", "::1", "fd12::1",
                                              "10.0.2.2" };
        for (size_t i = 0; i < G_N_ELEMENTS(inside); i++) {
                learn(&w, inside[i], "github.com", NAME_ASKED);
                assert_closed(&w, inside[i], 443, REBINDING);
        }
        learn(&w, "10.1.2.4", "given.lan", NAME_GIVEN);
        assert_open(&w, "10.1.2.4", 443);
        learn(&w, "127.0.0.9", "given.lan", NAME_GIVEN);
        assert_closed(&w, "127.0.0.9", 443, REBINDING);

        g_auto(World) private = { 0 };
        world_init(&private, RULES("allow github.com", "allow private:443"));
        learn(&private, "10.1.2.3", "github.com", NAME_ASKED);
        assert_open(&private, "10.1.2.3", 443);
        assert_closed(&private, "10.1.2.3", 80, REBINDING);
}

static void test_questions(void) {
        const NetRule *rule;
        g_auto(World) closed = { 0 }, open = { 0 }, mixed = { 0 };
        world_init(&closed, RULES("deny ads.example.org", "allow *.example.org:443", "deny github.com:22", "allow github.com", "allow host.usbox"));
        world_init(&open, RULES("deny ads.example.org", "deny tracker.example:80"));
        world_init(&mixed, RULES("deny ads.example.org", "allow private", "deny any", "allow late.example"));

        g_assert_false(net_rules_name_asked(closed.rules, "ads.example.org", &rule));
        g_assert_cmpstr(rule->text, ==, "ads.example.org");
        g_assert_true(net_rules_name_asked(closed.rules, "www.example.org", &rule));
        g_assert_false(net_rules_name_asked(closed.rules, "example.org", &rule));
        g_assert_null(rule);
        g_assert_true(net_rules_name_asked(closed.rules, "github.com", &rule));
        g_assert_false(net_rules_name_asked(closed.rules, "other.example", &rule));

        g_assert_false(net_rules_name_asked(open.rules, "ads.example.org", &rule));
        g_assert_true(net_rules_name_asked(open.rules, "tracker.example", &rule));
        g_assert_true(net_rules_name_asked(open.rules, "other.example", &rule));

        g_assert_false(net_rules_name_asked(mixed.rules, "ads.example.org", &rule));
        g_assert_true(net_rules_name_asked(mixed.rules, "other.example", &rule)); /* its address may be a private one */
        g_auto(World) none = { 0 };
        world_init(&none, RULES("deny any", "allow late.example"));
        g_assert_false(net_rules_name_asked(none.rules, "late.example", &rule));
}

/* What the box asks for cannot grow the table without end, nor push out what the user gave. */
static void test_table(void) {
        g_autoptr(Names) names = names_new();
        struct in6_addr given = { .s6_addr = { 0xfd } }, addr = { .s6_addr = { 0x20, 1 } };

        names_add(names, &given, "given.lan", NULL, 0, 0);
        for (unsigned i = 0; i < 30000; i++) {
                g_autofree char *name = g_strdup_printf("n%u.example", i);
                memcpy(addr.s6_addr + 8, &i, sizeof i);
                names_add(names, &addr, name, name, i, i);
                g_assert_cmpstr(names_of(names, &addr)->name, ==, name);
        }
        unsigned kept = 0;
        for (unsigned i = 0; i < 30000; i++) {
                memcpy(addr.s6_addr + 8, &i, sizeof i);
                kept += names_of(names, &addr) != NULL;
        }
        g_assert_cmpuint(kept, >, 4000);
        g_assert_cmpuint(kept, <=, 8192);
        for (unsigned i = 0; i < 1000; i++) {
                g_autofree char *name = g_strdup_printf("n%u.example", i);
                names_add(names, &given, name, name, 60, 30000);
        }
        unsigned n = 0;
        bool still = false;
        for (const NameEntry *e = names_of(names, &given); e; e = e->next, n++)
                still |= g_str_equal(e->name, "given.lan");
        g_assert_true(still);
        g_assert_cmpuint(n, <=, 32);

        /* For the TTL and five minutes more. */
        struct in6_addr short_lived = { .s6_addr = { 0x20, 2 } };
        names_add(names, &short_lived, "short.example", "short.example", 10, 1000000);
        names_expire(names, 1000000 + 309000);
        g_assert_nonnull(names_of(names, &short_lived));
        names_expire(names, 1000000 + 309000 + 20000);
        g_assert_null(names_of(names, &short_lived));
        g_assert_nonnull(names_of(names, &given));
}

static bool has_name(const Names *names, const struct in6_addr *addr, const char *name) {
        for (const NameEntry *e = names_of(names, addr); e; e = e->next)
                if (g_str_equal(e->name, name))
                        return true;
        return false;
}

/* Answers to one name, of many addresses that hold for long, and of ever new aliases, leave others what they have. */
static void test_table_is_shared(void) {
        g_autoptr(Names) names = names_new();
        struct in6_addr other = { .s6_addr = { 0x20, 2 } }, addr = { .s6_addr = { 0x20, 1 } };

        for (unsigned i = 0; i < 40; i++) {
                other.s6_addr[15] = (uint8_t) i;
                names_add(names, &other, "other.example", "other.example", 30, 0);
        }
        for (unsigned i = 0; i < 20000; i++) {
                g_autofree char *alias = g_strdup_printf("n%u.example", i);
                memcpy(addr.s6_addr + 8, &i, sizeof i);
                names_add(names, &addr, "many.example", "many.example", 86400, i);
                names_add(names, &addr, alias, "many.example", 86400, i);
                g_assert_true(has_name(names, &addr, "many.example"));
                names_add(names, &other, alias, "many.example", 86400, i);
        }
        for (unsigned i = 0; i < 40; i++) {
                other.s6_addr[15] = (uint8_t) i;
                g_assert_true(has_name(names, &other, "other.example"));
        }
}

static void test_live(void) {
        g_auto(World) w = { 0 };
        int family;
        world_init(&w, RULES("allow 192.0.2.0/24", "allow github.com"));
        struct in6_addr a = address("192.0.2.1", &family), b = address("203.0.113.9", &family);
        g_autoptr(NetRule) by_name = net_rule_parse(false, "github.com:443", NULL), by_address = net_rule_parse(false, "192.0.2.1", NULL);

        g_assert_true(policy_rule_speaks(&w.policy, by_address, IPPROTO_TCP, AF_INET, &a, 80, NULL));
        g_assert_false(policy_rule_speaks(&w.policy, by_address, IPPROTO_TCP, AF_INET, &b, 80, NULL));
        g_assert_false(policy_rule_speaks(&w.policy, by_name, IPPROTO_TCP, AF_INET, &b, 443, NULL));
        /* The name was forgotten, but the flow was opened by it. */
        g_assert_true(policy_rule_speaks(&w.policy, by_name, IPPROTO_TCP, AF_INET, &b, 443, "github.com"));
        g_assert_false(policy_rule_speaks(&w.policy, by_name, IPPROTO_TCP, AF_INET, &b, 80, "github.com"));
        learn(&w, "203.0.113.9", "github.com", NAME_ALIAS);
        g_assert_true(policy_rule_speaks(&w.policy, by_name, IPPROTO_TCP, AF_INET, &b, 443, NULL));

        assert_open(&w, "192.0.2.1", 80);
        net_rules_insert(w.rules, 0, g_steal_pointer(&by_address));
        assert_closed(&w, "192.0.2.1", 80, RULE);
        assert_open(&w, "192.0.2.2", 80);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/net-rules/text", test_text);
        g_test_add_func("/net-rules/defaults", test_defaults);
        g_test_add_func("/net-rules/order", test_order);
        g_test_add_func("/net-rules/spellings", test_spellings);
        g_test_add_func("/net-rules/families", test_families);
        g_test_add_func("/net-rules/guarded", test_guarded);
        g_test_add_func("/net-rules/names", test_names);
        g_test_add_func("/net-rules/questions", test_questions);
        g_test_add_func("/net-rules/table", test_table);
        g_test_add_func("/net-rules/table-is-shared", test_table_is_shared);
        g_test_add_func("/net-rules/live", test_live);
        return g_test_run();
}
