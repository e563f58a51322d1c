/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The built-in filters' verdicts, held against a golden file: every system call number of both ABIs, the numbers of
 * x32, foreign ABIs, and a table of calls whose arguments decide. What a change of seccomp/default.json (or of the
 * generator) opens or closes is a difference in the golden file, to be read and committed with it:
 *
 *      BUILD/tests/unit/test-seccomp --update tests/unit/seccomp-golden.txt
 *
 * It is made on x86_64. Another machine's filters are held against its rows by the calls' names: what both have is as open there.
 *
 * Role: unit test; nothing is installed here (test-seccomp-live.c does). Threads: one.
 */
#include <glib.h>
#include <linux/audit.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seccomp.h"
#include "test-seccomp-bpf.h"

#ifdef __x86_64__
#define NATIVE_AUDIT AUDIT_ARCH_X86_64
#define NATIVE_SCMP SCMP_ARCH_X86_64
#else
#define NATIVE_AUDIT AUDIT_ARCH_AARCH64
#define NATIVE_SCMP SCMP_ARCH_AARCH64
#endif

#define NUMBERS 1024
#define X32 0x40000000u
#define VARIANTS 4

static const char *golden_path;

/* The four filters of an ABI, and what the golden file calls them. */
static const struct {
        const char *label;
        bool nested, root;
} variants[VARIANTS] = {
        { "plain", false, false }, { "root", false, true }, { "nested", true, false }, { "nested+root", true, true }
};

/* What the oldest library of names that we build with lacks; the numbers are the same on every ABI but the first two. */
static const struct {
        const char *name;
        int number;
        bool x86_64_only;
} late[] = {
        { "uretprobe", 335, true },          { "uprobe", 336, true },
        { "cachestat", 451, false },         { "fchmodat2", 452, false },
        { "map_shadow_stack", 453, false },  { "futex_wake", 454, false },
        { "futex_wait", 455, false },        { "futex_requeue", 456, false },
        { "statmount", 457, false },         { "listmount", 458, false },
        { "lsm_get_self_attr", 459, false }, { "lsm_set_self_attr", 460, false },
        { "lsm_list_modules", 461, false },  { "mseal", 462, false },
        { "setxattrat", 463, false },        { "getxattrat", 464, false },
        { "listxattrat", 465, false },       { "removexattrat", 466, false },
        { "open_tree_attr", 467, false },    { "file_getattr", 468, false },
        { "file_setattr", 469, false },
};

static char *number_name(bool i386, unsigned number) {
        for (size_t i = 0; i < G_N_ELEMENTS(late); i++)
                if (late[i].number == (int) number && !(late[i].x86_64_only && (i386 || NATIVE_AUDIT != AUDIT_ARCH_X86_64)))
                        return g_strdup(late[i].name);
        char *name = number < 470
                             ? seccomp_syscall_resolve_num_arch(i386 ? SCMP_ARCH_X86 : NATIVE_SCMP, (int) number)
                             : NULL;
        char *copy = g_strdup(name ? name : "-");
        free(name);
        return copy;
}

static int name_number(bool i386, const char *name) {
        for (unsigned number = 0; number < 470; number++) {
                g_autofree char *is = number_name(i386, number);
                if (g_str_equal(is, name))
                        return (int) number;
        }
        return -1;
}

/* 0 to VARIANTS - 1, and those with the 32-bit ABI. */
static SeccompFeatures features_of(unsigned v) {
        return (SeccompFeatures){ .compat32 = v >= VARIANTS, .nested = variants[v % VARIANTS].nested, .root_payload = variants[v % VARIANTS].root };
}

static BpfVerdict ask(bool compat32, unsigned variant, const struct seccomp_data *data) {
        const struct sock_filter *filter;
        size_t n;
        seccomp_builtin(features_of(variant + (compat32 ? VARIANTS : 0)), &filter, &n);
        return bpf_run(filter, n, data);
}

static const char *verdict_name(BpfVerdict v) {
        return v.looked_at_args ? "args" : bpf_action_name(v.action);
}

/* "EPERM nested:allow": the plain filter's verdict, and those of the others where they differ. */
static char *verdicts(bool compat32, const struct seccomp_data *data, bool by_action) {
        GString *text = g_string_new(NULL);
        const char *plain = NULL;
        for (unsigned v = 0; v < VARIANTS; v++) {
                BpfVerdict verdict = ask(compat32, v, data);
                const char *name = by_action ? bpf_action_name(verdict.action) : verdict_name(verdict);
                if (v == 0)
                        g_string_append(text, plain = name);
                else if (!g_str_equal(name, plain))
                        g_string_append_printf(text, " %s:%s", variants[v].label, name);
        }
        return g_string_free(text, FALSE);
}

#ifdef __x86_64__
static void list_range(GString *out, const char *abi, unsigned from, unsigned to, const char *name, const char *text) {
        g_autofree char *number = from == to ? g_strdup_printf("%u", from) : g_strdup_printf("%u-%u", from, to);
        g_string_append_printf(out, "%-7s %-9s %-28s %s\n", abi, number, name, text);
}

/* All numbers of an ABI: one line each, but one for a run of numbers without a name that have the same verdict. */
static void list_numbers(GString *out, const char *abi, uint32_t audit, bool compat32, unsigned base) {
        g_autofree char *run_text = NULL;
        unsigned run_from = 0;

        for (unsigned number = 0; number <= NUMBERS; number++) {
                struct seccomp_data data = { .nr = (int) (base + number), .arch = audit };
                bool named = base == 0 && audit == (compat32 ? AUDIT_ARCH_I386 : NATIVE_AUDIT);
                g_autofree char *name = named ? number_name(audit == AUDIT_ARCH_I386, number) : g_strdup("-");
                g_autofree char *text = number < NUMBERS ? verdicts(compat32, &data, false) : NULL;
                bool unnamed = g_str_equal(name, "-");

                if (run_text && !(text && unnamed && g_str_equal(run_text, text))) {
                        list_range(out, abi, run_from, number - 1, "-", run_text);
                        g_clear_pointer(&run_text, g_free);
                }
                if (!text)
                        break;
                if (!unnamed)
                        list_range(out, abi, number, number, name, text);
                else if (!run_text) {
                        run_from = number;
                        run_text = g_steal_pointer(&text);
                }
        }
}
#endif

/* Calls whose arguments decide: both sides of every conditional rule. */
static const struct {
        const char *name;
        uint64_t args[4];
        unsigned n;
} cases[] = {
        { "clone", { 0x01200011 }, 1 }, /* fork: CHILD_CLEARTID | CHILD_SETTID | SIGCHLD */
        { "clone", { 0x003d0f00 }, 1 }, /* pthread_create */
        { "clone", { 0x00004111 }, 1 }, /* posix_spawn: VM | VFORK */
        { "clone", { 0x00000080 }, 1 }, /* part of the signal's bits: not CLONE_NEWTIME */
        { "clone", { 0x00020011 }, 1 }, /* NEWNS */
        { "clone", { 0x02000011 }, 1 }, /* NEWCGROUP */
        { "clone", { 0x04000011 }, 1 }, /* NEWUTS */
        { "clone", { 0x08000011 }, 1 }, /* NEWIPC */
        { "clone", { 0x10000011 }, 1 }, /* NEWUSER */
        { "clone", { 0x20000011 }, 1 }, /* NEWPID */
        { "clone", { 0x40000011 }, 1 }, /* NEWNET */
        { "clone", { 0x7e020011 }, 1 },
        { "unshare", { 0x00000600 }, 1 }, /* FS | FILES */
        { "unshare", { 0x00000080 }, 1 }, /* NEWTIME */
        { "unshare", { 0x00020000 }, 1 },
        { "unshare", { 0x02000000 }, 1 },
        { "unshare", { 0x04000000 }, 1 },
        { "unshare", { 0x08000000 }, 1 },
        { "unshare", { 0x10000000 }, 1 },
        { "unshare", { 0x20000000 }, 1 },
        { "unshare", { 0x40000000 }, 1 },
        { "ioctl", { 0, 0x5401 }, 2 }, /* TCGETS */
        { "ioctl", { 0, 0x5411 }, 2 },
        { "ioctl", { 0, 0x5412 }, 2 }, /* TIOCSTI */
        { "ioctl", { 0, 0x5413 }, 2 }, /* TIOCGWINSZ */
        { "ioctl", { 0, 0x541b }, 2 }, /* FIONREAD */
        { "ioctl", { 0, 0x541c }, 2 }, /* TIOCLINUX */
        { "ioctl", { 0, 0x541d }, 2 }, /* TIOCCONS */
        { "ioctl", { 0, 0x541e }, 2 },
        { "ioctl", { 0, 0x5421 }, 2 }, /* FIONBIO */
        { "ioctl", { 0, 0x5423 }, 2 }, /* TIOCSETD */
        { "ioctl", { 0, 0x5424 }, 2 }, /* TIOCGETD */
        { "personality", { 0 }, 1 },
        { "personality", { 8 }, 1 },
        { "personality", { 0xffffffff }, 1 },
        { "personality", { 1 }, 1 },
        { "personality", { 0x0040000 }, 1 }, /* ADDR_NO_RANDOMIZE */
        { "personality", { 0x0400000 }, 1 }, /* READ_IMPLIES_EXEC */
        { "prctl", { 15 }, 1 },              /* PR_SET_NAME */
        { "prctl", { 35 }, 1 },              /* PR_SET_MM */
        { "chmod", { 0, 01777 }, 2 },
        { "chmod", { 0, 04755 }, 2 },
        { "chmod", { 0, 02755 }, 2 },
        { "fchmod", { 0, 0755 }, 2 },
        { "fchmod", { 0, 04000 }, 2 },
        { "fchmod", { 0, 02000 }, 2 },
        { "fchmodat", { 0, 06000, 0755 }, 3 },
        { "fchmodat", { 0, 0, 04755 }, 3 },
        { "fchmodat", { 0, 0, 02755 }, 3 },
        { "fchmodat2", { 0, 06000, 0755, 06000 }, 4 },
        { "fchmodat2", { 0, 0, 04755 }, 4 },
        { "fchmodat2", { 0, 0, 02755 }, 4 },
        { "mknod", { 0, 0100644 }, 2 },
        { "mknod", { 0, 0104755 }, 2 },
        { "mknod", { 0, 0102755 }, 2 },
        { "mknodat", { 0, 0, 010644 }, 3 },
        { "mknodat", { 0, 0, 0104755 }, 3 },
        { "mknodat", { 0, 0, 0102755 }, 3 },
        { "creat", { 0, 0644 }, 2 },
        { "creat", { 0, 04755 }, 2 },
        { "creat", { 0, 02755 }, 2 },
        { "open", { 0, 0, 06000 }, 3 }, /* without O_CREAT the third is no mode */
        { "open", { 0, 0102, 0644 }, 3 },
        { "open", { 0, 0102, 04755 }, 3 },
        { "open", { 0, 0102, 02755 }, 3 },
        { "open", { 0, 020200002, 04755 }, 3 }, /* O_TMPFILE */
        { "open", { 0, 0200002, 04755 }, 3 },   /* O_DIRECTORY alone */
        { "openat", { 0, 0, 0, 06000 }, 4 },
        { "openat", { 0, 0, 0102, 0644 }, 4 },
        { "openat", { 0, 0, 0102, 04755 }, 4 },
        { "openat", { 0, 0, 0102, 02755 }, 4 },
        { "openat", { 0, 0, 020200002, 0600 }, 4 },
        { "openat", { 0, 0, 020200002, 02755 }, 4 },
        { "openat", { 0, 0, 0200002, 02755 }, 4 },
        { "socket", { 1, 1, 0 }, 3 },        /* UNIX */
        { "socket", { 1, 02004005, 0 }, 3 }, /* UNIX, SEQPACKET, CLOEXEC | NONBLOCK */
        { "socket", { 2, 1, 0 }, 3 },        /* INET */
        { "socket", { 2, 02004001, 6 }, 3 },
        { "socket", { 2, 2, 0 }, 3 },
        { "socket", { 2, 2, 17 }, 3 },
        { "socket", { 2, 2, 1 }, 3 }, /* ping */
        { "socket", { 2, 3, 1 }, 3 }, /* raw */
        { "socket", { 2, 02004003, 255 }, 3 },
        { "socket", { 2, 10, 0x300 }, 3 }, /* SOCK_PACKET */
        { "socket", { 2, 1, 262 }, 3 },    /* MPTCP */
        { "socket", { 2, 1, 132 }, 3 },    /* SCTP */
        { "socket", { 2, 5, 132 }, 3 },
        { "socket", { 2, 6, 33 }, 3 },  /* DCCP */
        { "socket", { 2, 2, 136 }, 3 }, /* UDP-Lite */
        { "socket", { 2, 2, 115 }, 3 }, /* L2TP */
        { "socket", { 2, 1, 263 }, 3 }, /* SMC */
        { "socket", { 10, 1, 0 }, 3 },  /* INET6 */
        { "socket", { 10, 2, 58 }, 3 },
        { "socket", { 10, 3, 58 }, 3 },
        { "socket", { 10, 10, 0 }, 3 },
        { "socket", { 10, 1, 132 }, 3 },
        { "socket", { 16, 3, 0 }, 3 }, /* NETLINK_ROUTE */
        { "socket", { 16, 02000002, 0 }, 3 },
        { "socket", { 16, 3, 9 }, 3 },  /* NETLINK_AUDIT */
        { "socket", { 16, 3, 12 }, 3 }, /* NETLINK_NETFILTER */
        { "socket", { 16, 3, 15 }, 3 }, /* NETLINK_KOBJECT_UEVENT */
        { "socket", { 16, 3, 16 }, 3 }, /* NETLINK_GENERIC */
        { "socket", { 0, 1, 0 }, 3 },
        { "socket", { 3, 5, 0 }, 3 },  /* AX25 */
        { "socket", { 17, 3, 0 }, 3 }, /* PACKET */
        { "socket", { 29, 3, 1 }, 3 }, /* CAN */
        { "socket", { 30, 5, 0 }, 3 }, /* TIPC */
        { "socket", { 31, 3, 1 }, 3 }, /* BLUETOOTH */
        { "socket", { 38, 5, 0 }, 3 }, /* ALG */
        { "socket", { 40, 1, 0 }, 3 }, /* VSOCK */
        { "socket", { 44, 3, 0 }, 3 }, /* XDP */
        { "socketpair", { 1, 1, 0 }, 3 },
        { "socketpair", { 2, 1, 0 }, 3 },
        { "socketpair", { 30, 5, 0 }, 3 },
        { "socketcall", { 1 }, 1 }, /* SYS_SOCKET */
        { "socketcall", { 2 }, 1 },
        { "socketcall", { 3 }, 1 },
        { "socketcall", { 8 }, 1 }, /* SYS_SOCKETPAIR */
        { "socketcall", { 17 }, 1 },
        { "setrlimit", { 4, 0x1000 }, 2 }, /* RLIMIT_CORE */
        { "setrlimit", { 7, 0x1000 }, 2 },
        { "prlimit64", { 0, 4, 0x1000, 0x2000 }, 4 },
        { "prlimit64", { 0, 7, 0x1000, 0x2000 }, 4 },
};

static void list_case(GString *out, bool i386, size_t i) {
        struct seccomp_data data = { .arch = i386 ? AUDIT_ARCH_I386 : NATIVE_AUDIT };
        g_autoptr(GString) call = g_string_new(cases[i].name);

        data.nr = name_number(i386, cases[i].name);
        if (data.nr < 0)
                return;
        for (unsigned k = 0; k < cases[i].n; k++) {
                data.args[k] = cases[i].args[k];
                g_string_append_printf(call, "%s%s%" G_GINT64_MODIFIER "x", k ? "," : "(", cases[i].args[k] ? "0x" : "",
                                       cases[i].args[k]);
        }
        g_string_append_c(call, ')');
        g_autofree char *text = verdicts(i386, &data, true);
        g_string_append_printf(out, "%-7s %-38s %s\n", i386 ? "i386" : "x86_64", call->str, text);

        /* Each of these arguments is an int (or less) to the kernel: what stands above it must not count. */
        for (unsigned bit = 32; bit < 65; bit++) {
                for (unsigned k = 0; k < 6; k++)
                        data.args[k] = (data.args[k] & UINT32_MAX) | (bit < 64 ? 1ULL << bit : 0xffffffffULL << 32);
                g_autofree char *garbage = verdicts(i386, &data, true);
                g_assert_cmpstr(garbage, ==, text);
        }
}

#ifdef __x86_64__
static char *listing(void) {
        GString *out = g_string_new(
                "# SPDX-License-Identifier: LGPL-2.1-or-later\n"
                "# Verdicts of the built-in seccomp filters; made by test-seccomp --update (see there).\n"
                "# The plain filter's verdict, then those of --nested and of a root payload where they differ.\n"
                "# \"args\": the arguments decide; see the calls at the end. i386: with default+32bit.\n");
        list_numbers(out, "x86_64", AUDIT_ARCH_X86_64, false, 0);
        list_numbers(out, "x32", AUDIT_ARCH_X86_64, true, X32);
        list_numbers(out, "i386", AUDIT_ARCH_I386, true, 0);
        list_numbers(out, "i386off", AUDIT_ARCH_I386, false, 0);
        list_numbers(out, "arm", AUDIT_ARCH_ARM, true, 0);
        list_numbers(out, "none", 0, true, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                list_case(out, false, i);
                list_case(out, true, i);
        }
        return g_string_free(out, FALSE);
}

static void test_golden(void) {
        g_autofree char *now = listing(), *golden = NULL;
        g_assert_true(g_file_get_contents(golden_path, &golden, NULL, NULL));
        g_auto(GStrv) a = g_strsplit(golden, "\n", -1);
        g_auto(GStrv) b = g_strsplit(now, "\n", -1);
        for (size_t i = 0; a[i] && b[i]; i++)
                g_assert_cmpstr(b[i], ==, a[i]);
        g_assert_cmpstr(now, ==, golden);
}
#else
/* "x86_64  0         read                         allow", and of the calls at the end "x86_64  ioctl(0,0x5401)  allow". */
static void test_golden(void) {
        g_autoptr(GHashTable) rows = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_autofree char *golden = NULL;
        unsigned same = 0;

        g_assert_true(g_file_get_contents(golden_path, &golden, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(golden, "\n", -1);
        for (size_t i = 0; lines[i]; i++) {
                int verdict = 0;
                char name[64];
                if ((sscanf(lines[i], "x86_64 %*u %63s %n", name, &verdict) == 1 || sscanf(lines[i], "x86_64 %63s %n", name, &verdict) == 1) && verdict)
                        g_hash_table_insert(rows, g_strdup(name), g_strdup(lines[i] + verdict));
        }
        for (unsigned number = 0; number < NUMBERS; number++) {
                struct seccomp_data data = { .nr = (int) number, .arch = NATIVE_AUDIT };
                g_autofree char *name = number_name(false, number), *text = verdicts(false, &data, false);
                const char *theirs = g_hash_table_lookup(rows, name);
                if (g_str_equal(name, "-") || !theirs)
                        theirs = "ENOSYS"; /* nobody's, or this machine's alone */
                else
                        same++;
                g_test_message("%s: %s", name, text);
                g_assert_cmpstr(text, ==, theirs);
        }
        g_assert_cmpuint(same, >, 300);

        g_autoptr(GString) calls = g_string_new(NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                list_case(calls, false, i);
        g_auto(GStrv) of_calls = g_strsplit(calls->str, "\n", -1);
        for (size_t i = 0; of_calls[i] && *of_calls[i]; i++) {
                int verdict = 0;
                char call[64];
                g_assert_cmpint(sscanf(of_calls[i], "%*s %63s %n", call, &verdict), ==, 1);
                g_assert_cmpstr(of_calls[i] + verdict, ==, g_hash_table_lookup(rows, call));
        }
}
#endif

/* The 32-bit ABI comes beside the native one and changes nothing of it. */
static void test_compat_adds_only(void) {
        for (unsigned number = 0; number < NUMBERS; number++)
                for (unsigned v = 0; v < VARIANTS; v++) {
                        struct seccomp_data data = { .nr = (int) number,
                                                     .arch = NATIVE_AUDIT,
                                                     .args = { number, 0x5412, 1 } };
                        g_assert_cmphex(ask(false, v, &data).action, ==, ask(true, v, &data).action);
                }
}

/* What no table of numbers reaches: the edges of the number's range, as an int and as the kernel's tracer sets it. */
static void test_odd_numbers(void) {
        static const uint32_t numbers[] = { 1024,      65535,     65536,      X32 - 1,    X32,
                                            X32 | 512, X32 | 547, 0x7fffffff, 0x80000000, 0xffffffff };
        static const uint32_t archs[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0, 0xffffffff };
        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
                for (size_t k = 0; k < G_N_ELEMENTS(archs); k++)
                        for (unsigned v = 0; v < 2 * VARIANTS; v++) {
                                struct seccomp_data data = { .nr = (int) numbers[i], .arch = archs[k] };
                                g_assert_cmphex(ask(v >= VARIANTS, v % VARIANTS, &data).action, ==,
                                                SECCOMP_RET_ERRNO | 38);
                        }
}

/* The limit of core dumps can be asked for, and is only changed where that was asked for. */
static void test_core_limit(void) {
        for (unsigned v = 0; v < 2 * VARIANTS; v++) {
                SeccompFeatures features = features_of(v);
                struct seccomp_data get = { .nr = name_number(false, "prlimit64"), .arch = NATIVE_AUDIT, .args = { 0, 4, 0, 1ULL << 32 } };
                struct seccomp_data set = get, both = get;
                const struct sock_filter *filter;
                size_t n;
                set.args[2] = both.args[2] = 1ULL << 32; /* pointers, and no ints */
                set.args[3] = 0;
                seccomp_builtin(features, &filter, &n);
                g_assert_cmphex(bpf_run(filter, n, &get).action, ==, SECCOMP_RET_ALLOW);
                g_assert_cmphex(bpf_run(filter, n, &set).action, ==, SECCOMP_RET_ERRNO | 0);
                g_assert_cmphex(bpf_run(filter, n, &both).action, ==, SECCOMP_RET_ERRNO | 1);
                features.core_dumps = true;
                seccomp_builtin(features, &filter, &n);
                g_assert_cmphex(bpf_run(filter, n, &set).action, ==, SECCOMP_RET_ALLOW);
                g_assert_cmphex(bpf_run(filter, n, &both).action, ==, SECCOMP_RET_ALLOW);
        }
}

/* A run pays for each call whose verdict the kernel cannot keep, and for the rest on kernels before 5.11. */
static void test_short(void) {
        for (unsigned v = 0; v < 2 * VARIANTS; v++) {
                const struct sock_filter *filter;
                size_t n;
                unsigned most = 0, most_args = 0;
                seccomp_builtin(features_of(v), &filter, &n);
                for (unsigned number = 0; number < NUMBERS; number++) {
                        struct seccomp_data data = { .nr = (int) number,
                                                     .arch = NATIVE_AUDIT,
                                                     .args = { 99, 99, 99, 99 } };
                        BpfVerdict verdict = bpf_run(filter, n, &data);
                        unsigned *most_of = verdict.looked_at_args ? &most_args : &most;
                        *most_of = MAX(*most_of, verdict.steps);
                }
                g_test_message("%s%s: %zu instructions; at most %u for a call, %u with arguments",
                               v >= VARIANTS ? "compat32 " : "", variants[v % VARIANTS].label, n, most, most_args);
                g_assert_cmpuint(most, <=, 16);
                g_assert_cmpuint(most_args, <=, 64);
        }
}

int main(int argc, char **argv) {
#ifdef __x86_64__
        if (argc == 3 && g_str_equal(argv[1], "--update")) {
                g_autofree char *now = listing();
                return g_file_set_contents(argv[2], now, -1, NULL) ? EXIT_SUCCESS : EXIT_FAILURE;
        }
#endif
        g_test_init(&argc, &argv, NULL);
        golden_path = argc > 1 ? argv[1] : "seccomp-golden.txt";
        g_test_add_func("/seccomp/golden", test_golden);
        g_test_add_func("/seccomp/compat-adds-only", test_compat_adds_only);
        g_test_add_func("/seccomp/odd-numbers", test_odd_numbers);
        g_test_add_func("/seccomp/core-limit", test_core_limit);
        g_test_add_func("/seccomp/short", test_short);
        return g_test_run();
}
