/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From draft to Spec: what each module's check decides and refuses; subordinate ids; --dry-run.
 */
#include <glib/gstdio.h>
#include <jansson.h>
#include <unistd.h>

#include "draft.h"
#include "netstack/rules.h"
#include "netstack/values.h"
#include "home.h"
#include "jsontext.h"
#include "subid.h"
#include "user-map.h"

#define RANGES "# a comment\nann:100000:65536\nbob:200000:65536\n"

/* user_build_maps() with these files' texts, as the caller ann. */
static bool build_maps(Spec *draft, const char *subuid, const char *subgid, GError **error) {
        g_autoptr(GArray) uids = subid_parse(subuid, "ann", ANN_UID), gids = subid_parse(subgid, "ann", ANN_UID);
        return user_build_maps(draft, uids, gids, error);
}

static void assert_maps(const char *const *words, uid_t uid, gid_t gid, bool subids, const char *uidmap,
                        const char *gidmap) {
        g_autoptr(Spec) draft = draft_of(words);
        g_autoptr(GError) error = NULL;
        build_maps(draft, RANGES, RANGES, &error);
        g_assert_no_error(error);

        g_autofree char *uids = user_map_text(draft->user.uidmap), *gids = user_map_text(draft->user.gidmap);
        g_assert_cmpstr(uids, ==, uidmap);
        g_assert_cmpstr(gids, ==, gidmap);
        g_assert_cmpuint(draft->user.uid, ==, uid);
        g_assert_cmpuint(draft->user.gid, ==, gid);
        g_assert_true(draft->user.subids == subids);
        g_assert_cmpint(draft->user.mode, ==, subids ? USERNS_SUBIDS : USERNS_SELF);
}

#define AROUND_UID "0-999=100000-100999 1000=1000 1001-65536=101000-165535"
#define AROUND_GID "0-1000=100000-101000 1001=1001 1002-65536=101001-165535"
#define ROOT_UID "0=1000 1-65536=100000-165535"
#define ROOT_GID "0=1001 1-65536=100000-165535"

static void test_maps(void) {
        assert_maps(WORDS("cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("-u", "self", "cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("-u", "self", "--overlay", "kernel", "cmd"), 1000, 1001, false, "1000=1000", "1001=1001");
        assert_maps(WORDS("-u", "1000", "cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("-u", "1000", "--overlay", "kernel", "cmd"), 1000, 1001, false, "1000=1000", "1001=1001");
        assert_maps(WORDS("-u", "root", "--userns", "self", "cmd"), 0, 0, false, "0=1000", "0=1001");
        assert_maps(WORDS("-u", "7:8", "--userns", "self", "cmd"), 7, 8, false, "7=1000", "8=1001");
        assert_maps(WORDS("-u", "root", "cmd"), 0, 0, true, ROOT_UID, ROOT_GID);
        assert_maps(WORDS("-u", "0", "cmd"), 0, 0, true, ROOT_UID, ROOT_GID);
        assert_maps(WORDS("-u", "0:5", "cmd"), 0, 5, true, ROOT_UID, ROOT_GID);
        /* The one that was root in another runtime: CVE-2026-30892. */
        assert_maps(WORDS("-u", "1", "cmd"), 1, 1, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("-u", "1000:5", "cmd"), 1000, 5, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("--userns", "subids", "cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("--overlay", "fuse", "cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("--overlay", "kernel", "cmd"), 1000, 1001, false, "1000=1000", "1001=1001");
        assert_maps(WORDS("--overlay", "fuse", "--userns", "self", "cmd"), 1000, 1001, false, "1000=1000", "1001=1001");
        assert_maps(WORDS("--uidmap", "0:1000:1", "--uidmap", "1:100000:10", "-u", "3:4", "cmd"), 3, 4, true,
                    "0=1000 1-10=100000-100009", AROUND_GID);
        /* The last --user counts, all of it. */
        assert_maps(WORDS("-u", "7:8", "-u", "self", "cmd"), 1000, 1001, true, AROUND_UID, AROUND_GID);
        assert_maps(WORDS("-u", "7:8", "-u", "self", "--overlay", "kernel", "cmd"), 1000, 1001, false, "1000=1000", "1001=1001");
        assert_maps(WORDS("-u", "7:8", "-u", "9", "--userns=self", "cmd"), 9, 9, false, "9=1000", "9=1001");
}

static void assert_maps_refused(const char *const *words, const char *needle) {
        g_autoptr(Spec) draft = draft_of(words);
        g_autoptr(GError) error = NULL;
        g_assert_false(build_maps(draft, RANGES, RANGES, &error));
        assert_usage(error, needle, NULL);
}

static void test_bad_maps(void) {
        static const char *const users[] = { "1:",   ":5",         ":",          "-1",           "+1",   "1:2:3",
                                             "1: 2", "0x0",        "1e3",        "ann",          "Self", "root:0",
                                             "1,2",  "4294967295", "4294967296", "0:4294967295", "1:-1", NULL };
        for (const char *const *user = users; *user; user++)
                assert_refused(WORDS("-u", *user, "cmd"), "--user: ", NULL);

        static const char *const maps[] = { "0:1000",
                                            "0:1000:1:1",
                                            "0:1000:0",
                                            "-1:1000:1",
                                            "0:4294967295:1",
                                            "4294967295:0:1",
                                            "0:1000:4294967295",
                                            "4294967294:1000:2",
                                            "::",
                                            "0:1000:x",
                                            NULL };
        for (const char *const *map = maps; *map; map++)
                assert_refused(WORDS("--uidmap", *map, "cmd"), "--uidmap: ", NULL);
        assert_refused(WORDS("--gidmap", "0:1001:1", "--gidmap", "0:100000:5", "cmd"), "overlaps 0:1001:1", NULL);
        assert_refused(WORDS("--gidmap", "0:100000:5", "--gidmap", "9:100004:1", "cmd"), "overlaps", NULL);

        assert_maps_refused(WORDS("-u", "70000", "cmd"), "uid 70000 is not in the box's uid map: " AROUND_UID);
        assert_maps_refused(WORDS("-u", "0:70000", "cmd"), "gid 70000 is not in the box's gid map");
        assert_maps_refused(WORDS("--uidmap", "0:0:1", "cmd"), "neither your own (1000) nor given to 'ann'");
        assert_maps_refused(WORDS("--uidmap", "0:1000:1", "--uidmap", "1:200000:5", "cmd"), "200000-200004");
        assert_maps_refused(WORDS("--uidmap", "0:165535:2", "cmd"), "165535-165536");
        assert_maps_refused(WORDS("--uidmap", "0:100000:5", "cmd"), "your own id 1000 is not among");
        assert_maps_refused(WORDS("--userns=self", "--uidmap", "0:1000:1", "cmd"), "--userns=self and --uidmap");
        assert_maps_refused(WORDS("--userns", "self", "--groups", "none", "cmd"), "--groups=none");
        assert_maps_refused(WORDS("--overlay", "kernel", "--groups", "none", "cmd"), "--groups=none");
}

/* Files that somebody else wrote badly: no range beyond the last id, no id twice in a map, none of the caller's own
 * twice. */
static void test_hostile_subids(void) {
        g_autoptr(GArray) ranges =
                subid_parse("\n:\n::\nann\nann:1\nann:1:2:3\nann:-1:5\nann:0x10:5\nann: 1:5\nann:1:0\n"
                            "ann:4294967295:1\nann:4294967294:2\nann:99999999999999999999:1\n"
                            "annx:1:1\nan:1:1\n1000:300000:10\nann:5:5\r\nann:400000:1",
                            "ann", ANN_UID);
        g_assert_cmpuint(ranges->len, ==, 2);
        g_assert_cmpuint(g_array_index(ranges, SubidRange, 0).start, ==, 300000);
        g_assert_cmpuint(g_array_index(ranges, SubidRange, 1).start, ==, 400000);

        g_autoptr(Spec) draft = draft_of(WORDS("-u", "root", "cmd"));
        g_autoptr(GError) error = NULL;
        g_assert_true(
                build_maps(draft, "ann:990:20\nann:1000:1\nann:995:30\nann:0:4294967295\n", "ann:100000:1\n", &error));
        const GArray *map = draft->user.uidmap;
        for (guint i = 0; i < map->len; i++)
                for (guint j = 0; j < i; j++) {
                        const IdRange *a = &g_array_index(map, IdRange, i), *b = &g_array_index(map, IdRange, j);
                        g_assert_true(a->host >= (guint64) b->host + b->count ||
                                      b->host >= (guint64) a->host + a->count);
                        g_assert_true(a->box >= (guint64) b->box + b->count || b->box >= (guint64) a->box + a->count);
                }
        guint32 host;
        g_assert_false(user_map_to_host(map, 4294967295u, &host));
        g_assert_true(user_map_to_host(map, 0, &host));
        g_assert_cmpuint(host, ==, ANN_UID);

        /* More lines than the kernel takes. */
        g_autoptr(GString) many = g_string_new(NULL);
        for (int i = 0; i < 1000; i++)
                g_string_append_printf(many, "ann:%d:1\n", 100000 + 2 * i);
        g_autoptr(Spec) wide = draft_of(WORDS("--userns", "subids", "cmd"));
        g_assert_true(build_maps(wide, many->str, many->str, &error));
        g_assert_cmpuint(wide->user.uidmap->len, ==, 340);
        g_assert_true(user_map_to_host(wide->user.uidmap, ANN_UID, &host));
}

static void test_subid_helpers(void) {
        g_assert_cmpuint(subid_propose("", ""), ==, 100000);
        g_assert_cmpuint(subid_propose("x:100000:65536\n", ""), ==, 165536);
        g_assert_cmpuint(subid_propose("x:100000:65536\n", "y:200000:10\n"), ==, 231072);
        g_assert_cmpuint(subid_propose("x:0:4294967295\n", ""), ==, 0);

        g_autoptr(GArray) ranges = subid_parse("ann:100:10\nann:110:10\n", "ann", 1);
        g_assert_true(subid_contains(ranges, 100, 20));
        g_assert_true(subid_contains(ranges, 119, 1));
        g_assert_false(subid_contains(ranges, 100, 21));
        g_assert_false(subid_contains(ranges, 99, 2));
        g_assert_false(subid_contains(ranges, 4294967294u, 1));
}

static const MountOp *only_op(const Spec *draft) {
        g_assert_cmpuint(draft->mount.ops->len, ==, 1);
        return draft->mount.ops->pdata[0];
}

static void assert_mount(const char *const *words, MountKind kind, const char *src, const char *dst, bool read_only) {
        g_autoptr(Spec) draft = draft_of(words);
        const MountOp *op = only_op(draft);
        g_assert_cmpint(op->kind, ==, kind);
        g_assert_cmpstr(op->src, ==, src);
        g_assert_cmpstr(op->dst, ==, dst);
        g_assert_true(op->read_only == read_only);
}

static void test_mounts(void) {
        assert_mount(WORDS("-v", "/a:/b", "cmd"), MOUNT_BIND, "/a", "/b", false);
        assert_mount(WORDS("-v", "sub:/b/../../c//d/:ro", "cmd"), MOUNT_BIND, "/home/ann/project/sub", "/c/d", true);
        assert_mount(WORDS("-v", "~/x:/b:rw", "cmd"), MOUNT_BIND, "/home/ann/x", "/b", false);
        assert_mount(WORDS("--ro-bind", "/a:b", "/c:d", "cmd"), MOUNT_BIND, "/a:b", "/c:d", true);
        assert_mount(WORDS("--rw", ".", "cmd"), MOUNT_BIND, "/home/ann/project", "/home/ann/project", false);
        assert_mount(WORDS("--ro", "../../bob/./x", "cmd"), MOUNT_BIND, "/home/bob/x", "/home/bob/x", true);
        assert_mount(WORDS("--mount", "type=bind,source=/a,target=/b,readonly", "cmd"), MOUNT_BIND, "/a", "/b", true);
        assert_mount(WORDS("--mount", "dst=/b,ro=false,src=/a,type=bind", "cmd"), MOUNT_BIND, "/a", "/b", false);
        assert_mount(WORDS("--mount", "type=proc,destination=/b", "cmd"), MOUNT_PROC, NULL, "/b", false);
        assert_mount(WORDS("--symlink", "../t", "/l", "cmd"), MOUNT_SYMLINK, "../t", "/l", false);
        assert_mount(WORDS("--device", "/dev/fuse", "cmd"), MOUNT_DEVICE, "/dev/fuse", "/dev/fuse", false);

        g_autoptr(Spec) tmpfs = draft_of(WORDS("--tmpfs", "/t:size=1M,mode=1777,ro", "cmd"));
        g_assert_cmpuint(only_op(tmpfs)->size, ==, 1 << 20);
        g_assert_cmpuint(only_op(tmpfs)->mode, ==, 01777);
        g_assert_true(only_op(tmpfs)->read_only);
        g_autoptr(Spec) optional = draft_of(WORDS("--mount", "type=bind,src=/a,dst=/b,optional,dev", "cmd"));
        g_assert_true(only_op(optional)->optional && only_op(optional)->devices);

        g_autoptr(Spec) order =
                draft_of(WORDS("--tmpfs", "/1", "-v", "/a:/2", "--symlink", "x", "/3", "--ro", "/4", "cmd"));
        g_assert_cmpuint(order->mount.ops->len, ==, 4);
        for (guint i = 0; i < 4; i++)
                g_assert_cmpint(((MountOp *) order->mount.ops->pdata[i])->dst[1], ==, (int) ('1' + i));
}

static void test_bad_mounts(void) {
        assert_refused(WORDS("-v", "/a", "cmd"), "--volume: '/a' is not SRC:DST", "--rw PATH");
        assert_refused(WORDS("-v", "/a:b", "cmd"), "'b' is not an absolute path", NULL);
        assert_refused(WORDS("-v", ":/b", "cmd"), "is not SRC:DST", NULL);
        assert_refused(WORDS("-v", "/a:", "cmd"), "not an absolute path", NULL);
        assert_refused(WORDS("-v", "/a:/b:z", "cmd"), "'z' is not one of ro, rw", NULL);
        assert_refused(WORDS("-v", "/a:/b:ro:x", "cmd"), "is not SRC:DST", "--bind");
        assert_refused(WORDS("-v", "/a:/", "cmd"), "root itself", "--rootfs");
        assert_refused(WORDS("--bind", "/a", "/x/../..", "cmd"), "root itself", NULL);
        assert_refused(WORDS("--rw", "/", "cmd"), "root itself", NULL);
        assert_refused(WORDS("--hide", "/", "cmd"), "root itself", NULL);
        assert_refused(WORDS("--device", "/dev/../etc/shadow", "cmd"), "not a path below /dev", NULL);
        assert_refused(WORDS("--device", "/dev", "cmd"), "not a path below /dev", NULL);
        assert_refused(WORDS("--mount", "src=/a,dst=/b", "cmd"), "type= is missing", NULL);
        assert_refused(WORDS("--mount", "type=bind,src=/a", "cmd"), "dst= is missing", NULL);
        assert_refused(WORDS("--mount", "type=bind,dst=/a", "cmd"), "src= is missing", NULL);
        assert_refused(WORDS("--mount", "type=volume,dst=/a", "cmd"), "'volume' is not one of", NULL);
        assert_refused(WORDS("--mount", "type=bind,src=/a,dts=/b", "cmd"), "unknown key 'dts'", "dst");
        assert_refused(WORDS("--mount", "type=tmpfs,dst=/a,src=/b", "cmd"), "for type=bind", NULL);
        assert_refused(WORDS("--mount", "type=bind,src=/a,dst=/b,size=1M", "cmd"), "for type=tmpfs", NULL);
        assert_refused(WORDS("--mount", "type=tmpfs,dst=/a,mode=6755", "cmd"), "mode", NULL);
        assert_refused(WORDS("--tmpfs", "/a:mode=8", "cmd"), "mode", NULL);
        assert_refused(WORDS("--tmpfs", "/a:sise=1", "cmd"), "'sise=1'", NULL);
        assert_refused(WORDS("--file", "77", "/x", "cmd"), "descriptor 77 is not open", NULL);

        static const char *const homes[] = { "~", "/home/ann/", "/home", "/home/ann/project/..", NULL };
        for (const char *const *home = homes; *home; home++) {
                g_autoptr(Spec) draft = draft_of(WORDS("--rw", *home, "cmd"));
                g_autoptr(GError) error = NULL;
                g_assert_false(mount_check(draft, &error));
                assert_usage(error, "that is your whole home", "--bind");
        }
        g_autoptr(Spec) sibling = draft_of(WORDS("--rw", "/home/an", "--rw", "/home/ann/project", "cmd"));
        g_assert_true(mount_check(sibling, NULL));
        g_assert_true(((MountOp *) sibling->mount.ops->pdata[1])->hooks_cow);
        g_autoptr(Spec) hooks = draft_of(WORDS("--rw", "/x", "--rw-hooks", "cmd"));
        g_assert_true(mount_check(hooks, NULL));
        g_assert_false(only_op(hooks)->hooks_cow);
}

static void test_published_ranges(void) {
        g_autoptr(Spec) draft = draft_of(WORDS("-p", "[::1]:8000-8002:9000-9002/udp", "-p", "127.0.0.1:7-7:9-9", "-p", "1-512:1001-1512", "cmd"));
        const GPtrArray *ports = draft->net.publish;
        const NetPublish *third = ports->pdata[2], *single = ports->pdata[3], *last = ports->pdata[ports->len - 1];

        g_assert_cmpuint(ports->len, ==, 3 + 1 + 512);
        g_assert_true(third->host_port == 8002 && third->box_port == 9002 && third->udp);
        g_assert_cmpstr(third->host_addr, ==, "::1");
        g_autofree char *third_text = net_value_publish_text(third), *last_text = net_value_publish_text(last);
        g_assert_cmpstr(third_text, ==, "[::1]:8002:9002/udp");
        g_assert_true(single->host_port == 7 && single->box_port == 9);
        g_assert_true(last->host_port == 512 && last->box_port == 1512 && g_str_equal(last->host_addr, "*") && !last->udp);
        g_assert_cmpstr(last_text, ==, "512:1512");
        g_autoptr(GError) error = NULL;
        g_assert_false(net_check(draft, &error));
        g_assert_cmpstr(error->message, ==, "--publish: 516 ports, more than 512");

        assert_refused(WORDS("-p", "80-82:90-93", "cmd"), "--publish: 80-82:90-93: 3 ports of the host for 4 of the box", NULL);
        assert_refused(WORDS("-p", "80-82:90", "cmd"), "--publish: 80-82:90: 3 ports of the host for 1 of the box", NULL);
        assert_refused(WORDS("-p", "0:80-82", "cmd"), "--publish: 0:80-82: port 0, any free one", "once for each");
        assert_refused(WORDS("-p", "0-2:80-82", "cmd"), "--publish: 0-2:80-82: port 0, any free one", "once for each");
        assert_refused(WORDS("-p", "1-513:1-513", "cmd"), "--publish: 1-513:1-513: 513 ports, more than 512", NULL);
        static const char *const wrong[] = { "82-80:92-90", "80-:90-", "-80:-90", "80-81-82:1-3", "80-81:0-1", "1-65536:1-65536", NULL };
        for (const char *const *text = wrong; *text; text++)
                assert_refused(WORDS("-p", *text, "cmd"), "is not [IP:]HOSTPORT:BOXPORT", "8000-8010:9000-9010");
}

static void test_net(void) {
        g_autoptr(Spec) draft = draft_of(WORDS("-p", "8080:80", "-p", "127.0.0.1:0:53/udp", "-p", "[::1]:1:2/tcp",
                                               "--add-host", "db:2001:db8::1", "--add-host", "x.y:[::2]", "--dns",
                                               "9.9.9.9", "--mtu", "1280", "cmd"));
        const NetPublish *p = draft->net.publish->pdata[0], *q = draft->net.publish->pdata[1],
                          *r = draft->net.publish->pdata[2];
        g_assert_true(g_str_equal(p->host_addr, "*") && p->host_port == 8080 && p->box_port == 80 && !p->udp);
        g_assert_true(q->host_port == 0 && q->box_port == 53 && q->udp);
        g_assert_cmpstr(q->host_addr, ==, "127.0.0.1");
        g_assert_cmpstr(r->host_addr, ==, "::1");
        const NetHost *db = draft->net.hosts->pdata[0], *xy = draft->net.hosts->pdata[1];
        g_assert_true(g_str_equal(db->name, "db") && g_str_equal(db->address, "2001:db8::1"));
        g_assert_true(g_str_equal(xy->name, "x.y") && g_str_equal(xy->address, "::2"));
        g_assert_true(net_check(draft, NULL));

        static const char *const ports[] = { "80",       "80:",          ":80",           "8080:0",
                                             "65536:80", "8080:80/sctp", "8080:80/",      "x:1:2",
                                             "::1:1:2",  "[::1:1:2",     "1.2.3:1:2",     "[1.2.3.4]:1:2",
                                             "-1:2",     "8080: 80",     "127.0.0.1::80", NULL };
        for (const char *const *port = ports; *port; port++)
                assert_refused(WORDS("-p", *port, "cmd"), "--publish: '", "for example");
        test_published_ranges();
        static const char *const hosts[] = { "db",         "db:",          ":1.2.3.4",   "a b:1.2.3.4", "a\n:1.2.3.4",
                                             "a#:1.2.3.4", "db:1.2.3.4 x", "-a:1.2.3.4", NULL };
        for (const char *const *host = hosts; *host; host++)
                assert_refused(WORDS("--add-host", *host, "cmd"), "--add-host: '", NULL);
        assert_refused(WORDS("--dns", "example.org", "cmd"), "--dns: ", NULL);
        assert_refused(WORDS("--allow", "a.example:0", "cmd"), "--allow: 'a.example:0'", "TARGET is a name");
        static const char *const rates[] = { "10", "10M/left", "M", "1e6", "-1M", "10M,", "10MM", "1M/up/down", "", NULL };
        for (const char *const *rate = rates; *rate; rate++)
                assert_refused(WORDS("--net-rate", *rate, "cmd"), "--net-rate", NULL);
        static const char *const losses[] = { "101", "%", "-1%", "1%%", "1e1", "x", NULL };
        for (const char *const *loss = losses; *loss; loss++)
                assert_refused(WORDS("--net-loss", *loss, "cmd"), "--net-loss: '", NULL);
        assert_refused(WORDS("--net-delay", "10ms+-20ms", "cmd"), "the jitter is more than the delay", NULL);
        assert_refused(WORDS("--net-delay", "2m", "cmd"), "more than a minute", NULL);
        g_autoptr(Spec) bad_net = draft_of(WORDS("--net-rate", "1.5M/up,512k/down", "--net-delay", "50ms\u00b110ms", "--net-loss", "0.5%", "cmd"));
        g_assert_true(net_check(bad_net, NULL));
        g_assert_true(bad_net->net.shape.up_bps == 1500000 && bad_net->net.shape.down_bps == 512000 && bad_net->net.shape.delay_us == 50000 &&
                      bad_net->net.shape.jitter_us == 10000 && bad_net->net.shape.loss_ppm == 5000 && bad_net->net.mtu == 1500 && bad_net->net.fast_path);
        static const char *const exposed[] = { "0", "65536", "-1", "80/tcp", "host:80", NULL };
        for (const char *const *port = exposed; *port; port++)
                assert_refused(WORDS("--expose-host", *port, "cmd"), "--expose-host: '", NULL);
        g_autoptr(Spec) ruled = draft_of(WORDS("--deny", "b.example", "--allow", "c.example:443", "--expose-host", "5432", "--net-log", "n.log", "cmd"));
        const NetRule *deny = ruled->net.rules->list->pdata[0], *allow = ruled->net.rules->list->pdata[1];
        g_assert_true(!deny->allow && allow->allow && ruled->net.rules->closed && ruled->net.rules->list->len == 2);
        g_assert_cmpstr(deny->text, ==, "b.example");
        g_assert_cmpuint(g_array_index(ruled->net.expose, guint16, 0), ==, 5432);
        g_assert_cmpstr(ruled->net.log_file, ==, "/home/ann/project/n.log");
        /* What is said later is asked first: the next source of options begins anew. */
        g_assert_cmpint(draft_parse(ruled, WORDS("--allow", "d.example", "--deny", "e.example", "cmd"), NULL), >=, 0);
        g_assert_cmpstr(((NetRule *) ruled->net.rules->list->pdata[0])->text, ==, "d.example");
        g_assert_cmpstr(((NetRule *) ruled->net.rules->list->pdata[1])->text, ==, "e.example");
        g_assert_cmpstr(((NetRule *) ruled->net.rules->list->pdata[2])->text, ==, "b.example");
        assert_refused(WORDS("--mtu", "1279", "cmd"), "1280 to 65520", NULL);
        assert_refused(WORDS("--mtu", "65521", "cmd"), "1280 to 65520", NULL);
        assert_refused(WORDS("--network", "bridge", "cmd"), "'bridge'", NULL);
}

/* Each checker, on its own words: NULL means that they go together. */
static void test_together(void) {
        static const struct {
                bool (*check)(Spec *, GError **);
                const char *words[8];
                const char *needle;
        } rows[] = {
                { net_check, { "-p", "1:2", "--network", "none", "cmd" }, "--publish needs --network=user" },
                { net_check, { "--dns", "9.9.9.9", "--network", "host", "cmd" }, "--dns needs --network=user" },
                { net_check, { "--mtu", "1500", "--network", "none", "cmd" }, "--mtu needs" },
                { net_check, { "--deny", "a.example", "--network", "none", "cmd" }, "--deny needs --network=user" },
                { net_check, { "--allow", "a.example", "--network", "host", "cmd" }, "--allow needs --network=user" },
                { net_check, { "--expose-host", "80", "--network", "host", "cmd" }, "--expose-host needs" },
                { net_check, { "--net-log", "x", "--network", "none", "cmd" }, "--net-log needs" },
                { net_check, { "--net-loss", "1%", "--network", "none", "cmd" }, "--net-loss needs" },
                { net_check, { "--pcap", "x", "--network", "host", "cmd" }, "--pcap needs" },
                { net_check, { "--no-ipv6", "--network", "host", "cmd" }, "--no-ipv6 needs" },
                { net_check, { "--no-ipv6", "--network", "none", "cmd" }, NULL },
                { net_check, { "--no-ipv6", "-p", "[::1]:1:2", "cmd" }, "--no-ipv6" },
                { net_check, { "-p", "1:2", "-p", "1:3", "cmd" }, "the same port" },
                { net_check, { "-p", "1:2", "-p", "1:2/udp", "cmd" }, NULL },
                { net_check, { "-p", "0:2", "-p", "0:3", "cmd" }, NULL },
                { pod_check, { "--network", "pod", "cmd" }, "--network=pod without a pod" },
                { pod_check, { "--network", "pod", "--pod", "p", "cmd" }, NULL },
                { pod_check, { "--pod", "p", "--deny", "a.example", "cmd" }, "--deny and --pod" },
                { pod_check, { "--pod", "p", "--mtu", "1500", "cmd" }, "--mtu and --pod" },
                { pod_check, { "--pod", "p", "--no-fast-path", "cmd" }, "--no-fast-path and --pod" },
                { pod_check, { "--pod", "p", "--tls-names", "cmd" }, "--tls-names and --pod" },
                { pod_check, { "--pod", "p", "--net-log", "x", "cmd" }, "--net-log and --pod" },
                { pod_check, { "--pod", "p", "--pcap", "x", "cmd" }, "--pcap and --pod" },
                { pod_check, { "--pod", "p", "--net-delay", "1s", "cmd" }, "--net-delay and --pod" },
                { pod_check, { "--pod", "p", "--net-loss", "1%", "cmd" }, "--net-loss and --pod" },
                { pod_check, { "--pod", "p", "--uts", "host", "cmd" }, "--uts=host and --pod" },
                { namespaces_check, { "--uts", "host", "--hostname", "x", "cmd" }, "--hostname and --uts=host" },
                { timens_check, { "--time-offset", "monotonic=-4611686018", "cmd" }, "before zero" },
                { timens_check, { "--time-offset", "boottime=86400,monotonic=5", "cmd" }, NULL },
                { caps_check, { "--cap-add", "NET_RAW", "--cap-drop", "cap_net_raw", "cmd" }, "both name CAP_NET_RAW" },
                { process_check,
                  { "--sysctl", "net.ipv4.ip_forward=1", "--network", "host", "cmd" },
                  "--network=host" },
                { process_check, { "--sysctl", "kernel.sem=1", "--ipc", "host", "cmd" }, "--ipc=host" },
                { process_check, { "--sysctl", "kernel.shmmax=1", "cmd" }, NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(Spec) draft = draft_of(rows[i].words);
                g_autoptr(GError) error = NULL;
                g_test_message("row %zu", i);
                rows[i].check(draft, &error);
                if (rows[i].needle)
                        assert_usage(error, rows[i].needle, NULL);
                else
                        g_assert_no_error(error);
        }
}

static void test_limits(void) {
        struct rlimit own;
        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &own), ==, 0);
        g_autoptr(Spec) draft = draft_of(WORDS("--ulimit", "nofile=10:20", "--ulimit", "core=0", "--ulimit", "nofile=5",
                                               "--ulimit", "stack=1:unlimited", "cmd"));
        g_assert_cmpuint(draft->process.ulimits->len, ==, 3);
        const UlimitSpec *u = &g_array_index(draft->process.ulimits, UlimitSpec, 1);
        g_assert_true(u->resource == RLIMIT_NOFILE && u->soft == 5 && u->hard == 5);
        g_assert_true(g_array_index(draft->process.ulimits, UlimitSpec, 2).hard == RLIM_INFINITY);

        static const char *const bad[] = { "nofile",    "nofile=", "nofile=5:4", "nofile=1:2:3", "nofile=-2",
                                           "nofile=1k", "=5",      "nofiles=5",  "NOFILE=1",     NULL };
        for (const char *const *text = bad; *text; text++)
                assert_refused(WORDS("--ulimit", *text, "cmd"), "--ulimit: ", NULL);
        assert_refused(WORDS("--ulimit", "nofiles=5", "cmd"), "unknown limit 'nofiles'", "nofile");

        if (own.rlim_max != RLIM_INFINITY) {
                g_autofree char *text = g_strdup_printf("nofile=1:%llu", (unsigned long long) own.rlim_max + 1);
                g_autoptr(Spec) above = draft_of(WORDS("--ulimit", text, "cmd"));
                g_autoptr(GError) error = NULL;
                g_assert_false(process_check(above, &error));
                assert_usage(error, "above your own hard limit", NULL);
        }
        assert_refused(WORDS("--oom-score-adj", "-1", "cmd"), "needs privilege", NULL);
        assert_refused(WORDS("--oom-score-adj", "1001", "cmd"), "-1000 to 1000", NULL);
}

static void test_sysctls(void) {
        static const char *const good[][2] = {
                { "net.ipv4.ip_forward=1", "net/ipv4/ip_forward=1" },
                { "net/ipv4/conf/eth0.1/rp_filter=0", "net/ipv4/conf/eth0.1/rp_filter=0" },
                { "net.ipv4.conf.eth0/1.rp_filter=0", "net/ipv4/conf/eth0.1/rp_filter=0" },
                { "kernel.msgmax=a=b", "kernel/msgmax=a=b" },
                { "fs.mqueue.msg_max=5", "fs/mqueue/msg_max=5" },
        };
        static const char *const bad[] = { "net.ipv4.ip_forward",
                                           "net.x=",
                                           "=1",
                                           "net..x=1",
                                           ".net.x=1",
                                           "net/../kernel/core_pattern=x",
                                           "net/./x=1",
                                           "net.//.kernel=1",
                                           "kernel.core_pattern=|/x",
                                           "kernel.hostname=x",
                                           "kernel.shmx/../y=1",
                                           "vm.swappiness=1",
                                           "kernel.semantics=1",
                                           "user.max_user_namespaces=1",
                                           "net=1",
                                           NULL };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                g_autoptr(Spec) draft = draft_of(WORDS("--sysctl", good[i][0], "cmd"));
                g_assert_cmpstr(draft->process.sysctls->pdata[0], ==, good[i][1]);
        }
        for (const char *const *text = bad; *text; text++) {
                g_autoptr(Spec) draft = draft_new();
                g_autoptr(GError) error = NULL;
                if (draft_parse(draft, WORDS("--sysctl", *text, "cmd"), &error) >= 0)
                        g_error("taken: %s as %s", *text, (char *) draft->process.sysctls->pdata[0]);
        }
}

static void test_caps(void) {
        static const struct {
                const char *words[8];
                guint64 keep;
        } rows[] = {
                { { "cmd" }, 0 },
                { { "--cap-add", "net_raw", "cmd" }, 1ULL << CAP_NET_RAW },
                { { "--cap-add", "CAP_CHOWN,kill", "cmd" }, 1ULL << CAP_CHOWN | 1ULL << CAP_KILL },
                { { "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN", "cmd" },
                  ((1ULL << 41) - 1) & ~(1ULL << CAP_SYS_ADMIN) },
                { { "-u", "root", "--userns=self", "cmd" }, CAPS_ROOT_DEFAULT },
                { { "-u", "root", "--userns=self", "--cap-drop", "chown", "cmd" },
                  CAPS_ROOT_DEFAULT & ~(1ULL << CAP_CHOWN) },
                { { "-u", "root", "--userns=self", "--cap-drop", "ALL", "--cap-add", "kill", "cmd" },
                  1ULL << CAP_KILL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(Spec) draft = draft_of(rows[i].words);
                g_assert_true(user_build_maps(draft, NULL, NULL, NULL));
                g_assert_true(caps_check(draft, NULL));
                g_assert_cmphex(draft->caps.keep, ==, rows[i].keep);
        }
        assert_refused(WORDS("--cap-add", "NET_RAWW", "cmd"), "not a capability", "NET_RAW");
        assert_refused(WORDS("--cap-add", "CAP_CAP_CHOWN", "cmd"), "not a capability", NULL);
        assert_refused(WORDS("--cap-add", "chown,", "cmd"), "not a capability", NULL);
}

/* The value of name in the environment in force for words, with outside as the caller's; NULL where it is not set. */
static char *env_value(const char *const *words, const char *const *outside, const char *name) {
        g_autoptr(Spec) draft = draft_of(words);
        g_assert_true(user_build_maps(draft, NULL, NULL, NULL));
        process_fill_environment(draft, outside);
        return g_strdup(g_environ_getenv(draft->process.envp, name));
}

static void test_environment(void) {
        static const char *const outside[] = { "PATH=/x/bin:/bin",
                                               "LC_ALL=C",
                                               "SECRET=1",
                                               "HOME=/h",
                                               "USER=liar",
                                               "garbage",
                                               "=odd",
                                               "USBOX=no",
                                               "USBOX_BOX=no",
                                               "LD_PRELOAD=/x.so",
                                               "TERM=x\033",
                                               "LANGUAGE=de",
                                               "TERM=late",
                                               NULL };
        static const char *const empty[] = { NULL };
        static const struct {
                const char *words[8], *name, *value;
                bool nothing_outside;
        } rows[] = {
                { { "cmd" }, "PATH", "/x/bin:/bin", false },
                { { "cmd" }, "LC_ALL", "C", false },
                { { "cmd" }, "SECRET", NULL, false },
                { { "cmd" }, "LD_PRELOAD", NULL, false },
                { { "cmd" }, "LANGUAGE", NULL, false },
                { { "cmd" }, "HOME", "/h", false },
                { { "cmd" }, "USER", "ann", false },
                { { "cmd" }, "TERM", "x\033", false },
                { { "cmd" }, "USBOX", "1", false },
                { { "cmd" }, "USBOX_BOX", NULL, false },
                { { "cmd" }, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", true },
                { { "cmd" }, "HOME", "/home/ann", true },
                { { "cmd" }, "SHELL", "/bin/bash", true },
                { { "-u", "root", "--userns=self", "cmd" }, "HOME", "/root", false },
                { { "-u", "root", "--userns=self", "cmd" }, "USER", "root", false },
                { { "-u", "root", "--userns=self", "cmd" }, "LOGNAME", "root", false },
                { { "-u", "root", "--userns=self", "cmd" },
                  "PATH",
                  "/x/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                  false },
                { { "-u", "root", "--userns=self", "--env-inherit", "cmd" }, "HOME", "/root", false },
                { { "--env-inherit", "cmd" }, "SECRET", "1", false },
                { { "--env-inherit", "--env-inherit=false", "cmd" }, "SECRET", NULL, false },
                { { "--clearenv", "cmd" }, "PATH", NULL, false },
                { { "--clearenv", "cmd" }, "USBOX", "1", false },
                { { "--clearenv", "--env-inherit", "cmd" }, "SECRET", "1", false },
                { { "-e", "A=b=c", "cmd" }, "A", "b=c", false },
                { { "-e", "A=", "cmd" }, "A", "", false },
                { { "-e", "A=1", "--unsetenv", "A", "cmd" }, "A", NULL, false },
                { { "--unsetenv", "A", "-e", "A=1", "cmd" }, "A", "1", false },
                { { "--unsetenv", "PATH", "cmd" }, "PATH", NULL, false },
                { { "-e", "USBOX=5", "cmd" }, "USBOX", "1", false },
                { { "-e", "HOME=/y", "-u", "root", "--userns=self", "cmd" }, "HOME", "/y", false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *value =
                        env_value(rows[i].words, rows[i].nothing_outside ? empty : outside, rows[i].name);
                g_test_message("row %zu", i);
                g_assert_cmpstr(value, ==, rows[i].value);
        }

        g_setenv("USBOX_TEST_SET", "from outside", TRUE);
        g_unsetenv("USBOX_TEST_UNSET");
        g_autofree char *set = env_value(WORDS("-e", "USBOX_TEST_SET", "cmd"), empty, "USBOX_TEST_SET");
        g_autofree char *unset = env_value(WORDS("-e", "USBOX_TEST_UNSET", "cmd"), empty, "USBOX_TEST_UNSET");
        g_assert_cmpstr(set, ==, "from outside");
        g_assert_null(unset);
        g_autofree char *all = env_value(WORDS("-e", "USBOX_TEST_S*", "cmd"), empty, "USBOX_TEST_SET");
        g_autofree char *none = env_value(WORDS("-e", "USBOX_TEST_SETS*", "cmd"), empty, "USBOX_TEST_SET");
        g_autofree char *plain = env_value(WORDS("-e", "USBOX_TEST_S*=x", "cmd"), empty, "USBOX_TEST_SET");
        g_assert_cmpstr(all, ==, "from outside");
        g_assert_null(none);
        g_assert_null(plain);
        assert_refused(WORDS("-e", "=x", "cmd"), "--env: '=x'", NULL);
        assert_refused(WORDS("--unsetenv", "A=1", "cmd"), "not a name", NULL);
}

static void test_env_file(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-test-XXXXXX", NULL),
                        *file = g_build_filename(dir, "a b.env", NULL);
        static const char *const empty[] = { NULL };

        g_setenv("USBOX_TEST_SET", "from outside", TRUE);
        g_assert_true(g_file_set_contents(file, "# comment\n\n  A=1 # not a comment\nUSBOX_TEST_SET\nB='q'", -1, NULL));
        g_autofree char *a = env_value(WORDS("--env-file", file, "cmd"), empty, "A");
        g_autofree char *b = env_value(WORDS("--env-file", file, "cmd"), empty, "B");
        g_autofree char *set = env_value(WORDS("--env-file", file, "cmd"), empty, "USBOX_TEST_SET");
        g_assert_cmpstr(a, ==, "1 # not a comment");
        g_assert_cmpstr(b, ==, "'q'");
        g_assert_cmpstr(set, ==, "from outside");

        g_assert_true(g_file_set_contents(file, "A=1\n=x\n", -1, NULL));
        assert_refused(WORDS("--env-file", file, "cmd"), "a b.env line 2: '=x'", NULL);
        g_assert_true(g_file_set_contents(file, "A=1\0B=2", 7, NULL));
        assert_refused(WORDS("--env-file", file, "cmd"), "NUL", NULL);
        g_unlink(file);
        assert_refused(WORDS("--env-file", file, "cmd"), "No such file", NULL);
        g_rmdir(dir);
}

static void test_build(void) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) draft = draft_of(WORDS("--overlay", "none", "-w", "sub/../x"));
        g_assert_null(spec_build(draft, (char *[]){ NULL }, &error));
        assert_usage(error, "no command to run", NULL);
        g_clear_error(&error);

        char word[] = "cmd";
        const Spec *spec = spec_build(draft, (char *[]){ word, word, NULL }, &error);
        g_assert_no_error(error);
        word[0] = 'X';
        g_assert_cmpstr(spec->process.argv[1], ==, "cmd");
        g_assert_true(spec->root.read_only);
        g_assert_cmpstr(spec->root.workdir, ==, "/home/ann/project/x");
        g_assert_cmpstr(spec->namespaces.hostname, ==, "usbox");
        g_assert_nonnull(spec->process.envp);
}

/* What the kernel writes, and a container's. */
static void test_own_map(void) {
        g_autoptr(GArray) all = subid_parse_map("         0          0 4294967295\n"),
                          some = subid_parse_map("         0       1000          1\n         1     100000      65536\nbad\n1 2\n1 2 3 4\n"),
                          none = subid_parse_map("");

        g_assert_cmpuint(all->len, ==, 1);
        g_assert_true(subid_contains(all, 100000, 65536));
        g_assert_cmpuint(some->len, ==, 2);
        g_assert_true(subid_contains(some, 0, 65537));
        g_assert_false(subid_contains(some, 0, 65538));
        g_assert_false(subid_contains(some, 100000, 65536));
        g_assert_cmpuint(none->len, ==, 0);
}

static GArray *map_of(const IdRange *lines, guint n) {
        GArray *map = g_array_new(FALSE, FALSE, sizeof(IdRange));
        return g_array_append_vals(map, lines, n);
}

/* A box's map in the ids of its pod: lines are cut where the pod's end, and what the pod has not is an error. */
static void test_map_within(void) {
        const IdRange pod_lines[] = { { 0, 1000, 1 }, { 1, 100000, 10 }, { 11, 200000, 5 }, { 16, 100010, 6 } };
        const IdRange box_lines[] = { { 1000, 1000, 1 }, { 0, 100002, 12 }, { 50, 200001, 4 } };
        const IdRange foreign[] = { { 0, 100000, 10 }, { 10, 200003, 3 } };
        const IdRange expected[] = { { 1000, 0, 1 }, { 0, 3, 8 }, { 8, 16, 4 }, { 50, 12, 4 } };
        g_autoptr(GArray) pod = map_of(pod_lines, G_N_ELEMENTS(pod_lines)), map = map_of(box_lines, G_N_ELEMENTS(box_lines)),
                          bad = map_of(foreign, G_N_ELEMENTS(foreign)), out = map_of(NULL, 0), unused = map_of(NULL, 0);
        g_autoptr(GError) error = NULL;
        guint32 first, last;

        g_assert_true(user_map_within(map, pod, out, &error));
        g_assert_no_error(error);
        g_assert_cmpmem(out->data, out->len * sizeof(IdRange), expected, sizeof expected);
        g_assert_false(user_map_within(bad, pod, unused, &error));
        g_assert_nonnull(strstr(error->message, "the host's id 200005"));
        user_map_ends(pod, &first, &last);
        g_assert_cmpuint(first, ==, 0);
        g_assert_cmpuint(last, ==, 15);
}

/* With usbox-fs auto takes ranges where the caller has some of both kinds; who has none keeps its own id, without an error. */
static void test_auto_subids(void) {
        static const struct {
                const char *subuid, *subgid;
                bool subids;
        } rows[] = { { RANGES, RANGES, true }, { "", RANGES, false }, { RANGES, "bob:1:1\n", false }, { "", "", false } };

        for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(Spec) draft = draft_of(WORDS("--overlay", "fuse", "cmd"));
                g_autoptr(GError) error = NULL;
                g_assert_true(build_maps(draft, rows[i].subuid, rows[i].subgid, &error));
                g_assert_no_error(error);
                g_assert_cmpint(draft->user.subids, ==, rows[i].subids);
                g_assert_cmpuint(draft->user.uid, ==, 1000);
        }
}

/* What only usbox-fs can do, with each of the others; and how it comes out with usbox-fs. */
static void test_fuse_only(void) {
        static const struct {
                const char *words[3], *needle;
        } rows[] = {
                { { "--hide", "**/.env", NULL }, "--hide: '**/.env' is a pattern" },
                { { "--disk", "1.5G", NULL }, "--disk is for --overlay=fuse" },
                { { "--trace-files", "t.json", NULL }, "--trace-files is for --overlay=fuse" },
        };

        for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
                for (gsize j = 0; j < 3; j++) {
                        static const char *const drivers[] = { "fuse", "kernel", "none" };
                        g_autoptr(Spec) draft =
                                draft_of(WORDS("--overlay", drivers[j], rows[i].words[0], rows[i].words[1], "cmd"));
                        g_autoptr(GError) error = NULL;
                        if (root_check(draft, &error))
                                g_assert_cmpint(j, ==, 0);
                        else
                                assert_usage(error, rows[i].needle, "add --overlay=fuse");
                        g_assert_cmpint(!error, ==, j == 0);
                }

        g_autoptr(Spec) draft = draft_of(WORDS("--overlay=fuse", "--hide", "*.pem", "--hide", "./a/../b*", "--hide", "~/x?",
                                               "--hide", "sub/[ab]", "--hide", "plain", "--disk", "1.5G", "--trace-files", "t.json"));
        const GPtrArray *globs = draft->root.hide_globs;
        g_assert_cmpuint(globs->len, ==, 4);
        g_assert_cmpstr(globs->pdata[0], ==, "*.pem");
        g_assert_cmpstr(globs->pdata[1], ==, "/home/ann/project/b*");
        g_assert_cmpstr(globs->pdata[2], ==, "/home/ann/x?");
        g_assert_cmpstr(globs->pdata[3], ==, "sub/[ab]");
        g_assert_cmpuint(draft->root.hide->len, ==, 1);
        g_assert_cmpstr(draft->root.hide->pdata[0], ==, "/home/ann/project/plain");
        g_assert_cmpuint(draft->root.disk, ==, G_GUINT64_CONSTANT(3) << 29);
        g_assert_cmpstr(draft->root.trace_file, ==, "/home/ann/project/t.json");
}

static void test_overlay_names(void) {
        g_autoptr(Spec) draft = draft_of(WORDS("cmd"));
        g_auto(GStrv) names = g_strsplit(OVERLAY_DRIVERS, "|", -1);

        g_assert_cmpint(draft->root.overlay, ==, OVERLAY_DEFAULT);
        g_assert_cmpstr(root_overlay_name(OVERLAY_DEFAULT), ==, OVERLAY_DEFAULT_NAME);
        for (int i = 0; names[i]; i++)
                g_assert_cmpstr(root_overlay_name((OverlayDriver) i), ==, names[i]);
}

/* Whatever bytes come in, --dry-run=json is JSON, and its text has no control characters but line ends. */
static void test_describe(void) {
        static const char *const words[] = {
                "--hide", "/a\nb\"c\\d\377\033]31m", "-e", "X=\302\205\001", "--symlink", "\t", "/l", NULL
        };
        g_autoptr(Spec) draft = draft_of(words);
        g_autoptr(GError) error = NULL;
        draft->user.mode = USERNS_SELF;
        const Spec *spec = spec_build(draft, (char *[]){ (char *) "c\nm\377d", NULL }, &error);
        g_assert_no_error(error);

        g_autofree char *json = jsontext_line(spec_to_json(spec)), *text = spec_describe(spec);
        json_error_t why;
        json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &why);
        if (!root)
                g_error("%s: %s", why.text, json);
        g_assert_cmpstr(json_string_value(json_object_get(json_object_get(root, "user"), "uid_map")), ==, "1000=1000");
        g_assert_cmpuint(json_array_size(json_object_get(json_object_get(root, "root"), "mounts")), ==, 1);
        json_decref(root);
        for (const char *p = text; *p; p++)
                g_assert_true(*p == '\n' || !g_ascii_iscntrl(*p));
        g_assert_nonnull(strstr(text, "\n  hide             /a\\nb\"c\\\\d\\xff\\x1b]31m\n"));
        g_assert_null(strstr(text, "\302\205"));
}

/* Lists of the home: relative, without "..", and none shows what another hides. */
static void test_home_lists(void) {
        static const char *const *const lists[] = { home_tools, home_tool_secrets, home_hidden };

        for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
                for (const char *const *path = lists[i]; *path; path++) {
                        g_autofree char *rooted = g_strconcat("/", *path, NULL), *normal = option_normal_path(rooted);
                        g_assert_cmpstr(rooted, ==, normal);
                }
        for (const char *const *tool = home_tools; *tool; tool++)
                for (const char *const *hidden = home_hidden; *hidden; hidden++) {
                        g_autofree char *below = g_strconcat(*hidden, "/", NULL);
                        g_assert_cmpstr(*tool, !=, *hidden);
                        g_assert_false(g_str_has_prefix(*tool, below));
                }
        static const char *const must[] = { ".ssh",
                                            ".gnupg",
                                            ".aws",
                                            ".kube",
                                            ".docker",
                                            ".netrc",
                                            ".npmrc",
                                            ".pypirc",
                                            ".mozilla",
                                            ".password-store",
                                            ".local/share/keyrings",
                                            ".config/gcloud",
                                            NULL };
        for (const char *const *name = must; *name; name++)
                g_assert_true(g_strv_contains(home_hidden, *name));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/spec/maps", test_maps);
        g_test_add_func("/spec/bad-maps", test_bad_maps);
        g_test_add_func("/spec/hostile-subids", test_hostile_subids);
        g_test_add_func("/spec/subid-helpers", test_subid_helpers);
        g_test_add_func("/spec/mounts", test_mounts);
        g_test_add_func("/spec/bad-mounts", test_bad_mounts);
        g_test_add_func("/spec/net", test_net);
        g_test_add_func("/spec/together", test_together);
        g_test_add_func("/spec/limits", test_limits);
        g_test_add_func("/spec/sysctls", test_sysctls);
        g_test_add_func("/spec/caps", test_caps);
        g_test_add_func("/spec/environment", test_environment);
        g_test_add_func("/spec/env-file", test_env_file);
        g_test_add_func("/spec/own-map", test_own_map);
        g_test_add_func("/spec/map-within", test_map_within);
        g_test_add_func("/spec/auto-subids", test_auto_subids);
        g_test_add_func("/spec/fuse-only", test_fuse_only);
        g_test_add_func("/spec/overlay-names", test_overlay_names);
        g_test_add_func("/spec/build", test_build);
        g_test_add_func("/spec/describe", test_describe);
        g_test_add_func("/spec/home-lists", test_home_lists);
        return g_test_run();
}
