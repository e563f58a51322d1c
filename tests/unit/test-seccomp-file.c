/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --seccomp FILE: seccomp_prepare() and usbox-seccomp over profiles as the container engines have them, over broken and
 * hostile ones, and over comparisons whose verdicts are held against libseccomp's own generator.
 *
 * Role: unit test; runs usbox-seccomp from $USBOX_LIBEXECDIR. Threads: one.
 */
#include <errno.h>
#include <glib.h>
#include <linux/audit.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "seccomp.h"
#include "test-seccomp-bpf.h"

#define E(number) (SECCOMP_RET_ERRNO | (number))

static char *directory;

static char *write_profile(const char *text, gssize length) {
        char *path = g_build_filename(directory, "profile \n\xc3\xa4.json", NULL);
        g_assert_true(g_file_set_contents(path, text, length, NULL));
        return path;
}

static bool prepare_text(const char *text, gssize length, bool nested, bool root, SeccompProgram *ret, GError **error) {
        g_autofree char *path = write_profile(text, length);
        SeccompSpec spec = { .mode = SECCOMP_FILE, .file = path };
        return seccomp_prepare(&spec, (SeccompFeatures){ .nested = nested, .root_payload = root }, ret, error);
}

static uint32_t ask(const SeccompProgram *program, int number, uint64_t arg0, uint64_t arg1) {
        struct seccomp_data data = { .nr = number, .arch = seccomp_arch_native(), .args = { arg0, arg1 } };
        return bpf_run(program->filter, program->n, &data).action;
}

/* The shape of Docker's and podman's default profile, every construct of it once. */
static const char engine_profile[] =
        "{ \"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38, \"defaultErrno\": \"ENOSYS\",\n"
        "  \"archMap\": [ { \"architecture\": \"SCMP_ARCH_X86_64\", \"subArchitectures\": [\"SCMP_ARCH_X86\", "
        "\"SCMP_ARCH_X32\"] },\n"
        "                 { \"architecture\": \"SCMP_ARCH_AARCH64\", \"subArchitectures\": [\"SCMP_ARCH_ARM\"] } ],\n"
        "  \"syscalls\": [\n"
        "    { \"names\": [\"kexec_load\", \"bdflush\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": [], \"comment\": "
        "\"\",\n"
        "      \"includes\": {}, \"excludes\": {}, \"errnoRet\": 1, \"errno\": \"EPERM\" },\n"
        "    { \"names\": [\"read\", \"write\", \"setns\", \"no_such_call\"], \"action\": \"SCMP_ACT_ALLOW\", "
        "\"args\": null },\n"
        "    { \"names\": [\"personality\"], \"action\": \"SCMP_ACT_ALLOW\",\n"
        "      \"args\": [ { \"index\": 0, \"value\": 8, \"valueTwo\": 0, \"op\": \"SCMP_CMP_EQ\" } ] },\n"
        "    { \"names\": [\"personality\"], \"action\": \"SCMP_ACT_ALLOW\",\n"
        "      \"args\": [ { \"index\": 0, \"value\": 131072, \"op\": \"SCMP_CMP_EQ\" },\n"
        "                  { \"index\": 0, \"value\": 4294967295, \"op\": \"SCMP_CMP_EQ\" } ] },\n"
        "    { \"names\": [\"mount\", \"setns\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": { \"caps\": "
        "[\"CAP_SYS_ADMIN\"] } },\n"
        "    { \"names\": [\"mount\", \"setns\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 1, \"excludes\": { "
        "\"caps\": [\"CAP_SYS_ADMIN\"] } },\n"
        "    { \"name\": \"chroot\", \"action\": \"SCMP_ACT_ALLOW\", \"includes\": { \"caps\": [\"CAP_SYS_CHROOT\"] } "
        "},\n"
        "    { \"names\": [\"clone\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": { \"caps\": [\"CAP_SYS_ADMIN\"], "
        "\"arches\": [\"s390\", \"s390x\"] },\n"
        "      \"args\": [ { \"index\": 0, \"value\": 2114060288, \"valueTwo\": 0, \"op\": \"SCMP_CMP_MASKED_EQ\" } ] "
        "},\n"
        "    { \"names\": [\"sync_file_range\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": { \"arches\": "
        "[\"ppc64le\"] } },\n"
        "    { \"names\": [\"ptrace\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": { \"minKernel\": \"4.8\" } },\n"
        "    { \"names\": [\"kcmp\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": { \"minKernel\": \"99.1\" } },\n"
        "    { \"names\": [\"sync\"], \"action\": \"SCMP_ACT_LOG\" }, { \"names\": [\"syncfs\"], \"action\": "
        "\"SCMP_ACT_KILL\" },\n"
        "    { \"names\": [\"reboot\"], \"action\": \"SCMP_ACT_KILL_PROCESS\" }, { \"names\": [\"acct\"], \"action\": "
        "\"SCMP_ACT_TRAP\" } ] }\n";

static void test_engine(void) {
        g_auto(SeccompProgram) p = { 0 };
        g_autoptr(GError) error = NULL;
        g_assert_true(prepare_text(engine_profile, -1, false, false, &p, &error));
        g_assert_no_error(error);

        g_assert_cmphex(ask(&p, SYS_read, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&p, SYS_kexec_load, 0, 0), ==, E(EPERM));
        g_assert_cmphex(ask(&p, SYS_close, 0, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_personality, 8, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&p, SYS_personality, 131072, 0), ==, SECCOMP_RET_ALLOW); /* one argument twice: either */
        g_assert_cmphex(ask(&p, SYS_personality, 0xffffffff, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&p, SYS_personality, 0, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_setns, 0, 0), ==, SECCOMP_RET_ALLOW); /* the first unconditional one */
        g_assert_cmphex(ask(&p, SYS_mount, 0, 0), ==, E(EPERM));
        g_assert_cmphex(ask(&p, SYS_chroot, 0, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_clone, 0x11, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&p, SYS_clone, 0x10000011, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_sync_file_range, 0, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_ptrace, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&p, SYS_kcmp, 0, 0), ==, E(ENOSYS));
        g_assert_cmphex(ask(&p, SYS_sync, 0, 0), ==, SECCOMP_RET_LOG);
        g_assert_cmphex(ask(&p, SYS_syncfs, 0, 0), ==, SECCOMP_RET_KILL_THREAD);
        g_assert_cmphex(ask(&p, SYS_reboot, 0, 0), ==, SECCOMP_RET_KILL_PROCESS);
        g_assert_cmphex(ask(&p, SYS_acct, 0, 0), ==, SECCOMP_RET_TRAP);
}

/* What the payload has in namespaces of its own counts as its capabilities. */
static void test_caps(void) {
        g_auto(SeccompProgram) nested = { 0 }, root = { 0 };
        g_assert_true(prepare_text(engine_profile, -1, true, false, &nested, NULL));
        g_assert_true(prepare_text(engine_profile, -1, false, true, &root, NULL));
        g_assert_cmphex(ask(&nested, SYS_mount, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&nested, SYS_chroot, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&root, SYS_mount, 0, 0), ==, E(EPERM));
        g_assert_cmphex(ask(&root, SYS_chroot, 0, 0), ==, SECCOMP_RET_ALLOW);
}

#ifdef __x86_64__
static uint32_t ask_i386(const SeccompProgram *program, int number) {
        struct seccomp_data data = { .nr = number, .arch = AUDIT_ARCH_I386 };
        return bpf_run(program->filter, program->n, &data).action;
}

/* The 32-bit ABI is there when the file says so, by its own numbers; x32 never. */
static void test_architectures(void) {
        static const char both[] = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\","
                                   "\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],"
                                   "\"syscalls\":[{\"names\":[\"read\",\"socket\"],\"action\":\"SCMP_ACT_ALLOW\"}]}";
        static const char one[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}";
        g_auto(SeccompProgram) p = { 0 }, q = { 0 };
        g_assert_true(prepare_text(both, -1, false, false, &p, NULL));
        g_assert_cmphex(ask_i386(&p, 3), ==, SECCOMP_RET_ALLOW);   /* read */
        g_assert_cmphex(ask_i386(&p, 359), ==, SECCOMP_RET_ALLOW); /* socket */
        g_assert_cmphex(ask_i386(&p, 102), ==, E(EPERM));          /* socketcall is another call */
        g_assert_cmphex(ask_i386(&p, 0), ==, E(EPERM));
        g_assert_cmphex(ask(&p, 0x40000000, 0, 0), ==, E(ENOSYS));
        g_assert_true(prepare_text(one, -1, false, false, &q, NULL));
        g_assert_cmphex(ask(&q, SYS_read, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask(&q, 1023, 0, 0), ==, SECCOMP_RET_ALLOW);
        g_assert_cmphex(ask_i386(&q, 3), ==, E(ENOSYS));
}
#endif

#define RULE(text) "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{" text "}]}"

static const struct {
        const char *name, *text, *message; /* message: a part of the error */
} broken[] = {
        { "empty", "", "line 1 column 0: '[' or '{' expected near end of file" },
        { "syntax", "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n  oops\n}",
          "line 3 column 6: string or '}' expected near 'oops'" },
        { "twice", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultAction\":\"SCMP_ACT_ERRNO\"}",
          "duplicate object key" },
        { "garbage-after", "{\"defaultAction\":\"SCMP_ACT_ALLOW\"} x", "end of file expected" },
        { "big-number", "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":99999999999999999999}",
          "too big integer" },
        { "bad-utf8", "{\"defaultAction\":\"\xff\"}", "unable to decode byte 0xff" },
        { "list", "[]", "top level: not an object" },
        { "no-default", "{\"syscalls\":[]}", "top level: no \"defaultAction\"" },
        { "unknown-key", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscals\":[]}",
          "top level: unknown key \"syscals\"" },
        { "unknown-key-escape", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"\\u001b[2J\":[]}",
          "unknown key \"\\x1b[2J\"" },
        { "unknown-action", "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", "unknown action \"SCMP_ACT_MAYBE\"" },
        { "notify", "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "SCMP_ACT_NOTIFY is not supported" },
        { "trace", RULE("\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRACE\""),
          "syscalls[0].action: SCMP_ACT_TRACE is not supported" },
        { "action-type", "{\"defaultAction\":7}", "defaultAction: not a string" },
        { "errno-range", "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":4096}",
          "defaultErrnoRet: more than 4095" },
        { "errno-negative", "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":-1}",
          "defaultErrnoRet: not a number" },
        { "errno-name", "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrno\":\"EWHAT\"}",
          "top level: unknown errno \"EWHAT\"" },
        { "errno-allow", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}",
          "an errno with SCMP_ACT_ALLOW" },
        { "arch", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_VAX\"]}",
          "unknown architecture \"SCMP_ARCH_VAX\"" },
        { "arch-map", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"archMap\":[{\"subArchitectures\":[]}]}",
          "archMap[0]: no \"architecture\"" },
        { "syscalls-type", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}", "syscalls: not a list" },
        { "rule-type", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[3]}", "syscalls[0]: not an object" },
        { "rule-key",
          RULE("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\","
               "\"arg\":[]"),
          "syscalls[0]: unknown key \"arg\"" },
        { "no-names", RULE("\"names\":[],\"action\":\"SCMP_ACT_KILL\""), "syscalls[0]: no names" },
        { "names-type", RULE("\"names\":[\"read\",1],\"action\":\"SCMP_ACT_KILL\""),
          "syscalls[0].names: not a list of strings" },
        { "no-action", RULE("\"names\":[\"read\"]"), "syscalls[0]: no \"action\"" },
#define ARG(text) RULE("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[" text "]")
        { "arg-index", ARG("{\"index\":6,\"op\":\"SCMP_CMP_EQ\",\"value\":1}"),
          "syscalls[0].args[0].index: more than 5" },
        { "arg-op", ARG("{\"index\":0,\"op\":\"==\",\"value\":1}"), "syscalls[0].args[0]: unknown comparison \"==\"" },
        { "arg-value", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":1.5}"), "args[0].value: not a number" },
        { "arg-value-text", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":\"1x\"}"),
          "args[0].value: not a number" },
        { "arg-missing", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\"}"), "index, value and op are needed" },
        { "arg-bits", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":1,\"bits\":16}"), "bits: neither 32 nor 64" },
        { "arg-wide", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":4294967296,\"bits\":32}"),
          "value: more than 4294967295" },
        { "arg-second", ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":1},true"),
          "syscalls[0].args[1]: not an object" },
#undef ARG
        { "feature",
          RULE("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\","
               "\"includes\":{\"features\":[\"x\"]}"),
          "syscalls[0].includes: unknown feature \"x\"" },
        { "kernel",
          RULE("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\","
               "\"excludes\":{\"minKernel\":\"new\"}"),
          "syscalls[0].excludes: unknown kernel version \"new\"" },
        { "order", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"order\":\"last\"}", "unknown order \"last\"" },
        { "number", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"numbers\":[{\"name\":\"read\",\"number\":1000}]}",
          "numbers: read is 1000" },
};

static void expect_error(const char *text, gssize length, const char *message) {
        g_auto(SeccompProgram) p = { 0 };
        g_autoptr(GError) error = NULL;
        g_assert_false(prepare_text(text, length, false, false, &p, &error));
        g_assert_nonnull(error);
        g_test_message("%s", error->message);
        g_assert_cmpstr(err_get_step(error), ==, "seccomp");
        /* The name of the file, made harmless, then what is wrong with it. */
        g_assert_nonnull(strstr(error->message, "/profile \\n\xc3\xa4.json: "));
        g_assert_nonnull(strstr(error->message, message));
        g_assert_null(strpbrk(error->message, "\n\x1b"));
        g_assert_null(p.filter);
}

static void test_broken(gconstpointer data) {
        size_t i = GPOINTER_TO_SIZE(data);
        expect_error(broken[i].text, -1, broken[i].message);
}

static void test_hostile(void) {
        /* 256 KiB and a byte */
        g_autofree char *large = g_strnfill(256 * 1024 + 1, ' ');
        expect_error(large, -1, "larger than 256 KiB");
        /* As deep as can be */
        g_autofree char *deep = g_strnfill(200 * 1024, '[');
        expect_error(deep, -1, "maximum parsing depth reached");
        /* NUL */
        expect_error("{\"defaultAction\":\"SCMP_ACT_ALLOW\\u0000\"}", -1, "\\u0000 is not allowed");
        expect_error("{\0}", 3, "line 1");

        /* More rules for a call than a filter holds */
        g_autoptr(GString) many = g_string_new("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[");
        for (unsigned i = 0; i < 2200; i++)
                g_string_append_printf(many,
                                       "%s{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,"
                                       "\"op\":\"SCMP_CMP_EQ\",\"value\":%u}]}",
                                       i ? "," : "", i);
        g_string_append(many, "]}");
        expect_error(many->str, (gssize) many->len, "the kernel takes 4096");

        /* As many names as fit, unknown all: passed over, in good time */
        g_autoptr(GString) names = g_string_new("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":"
                                                "\"SCMP_ACT_KILL\",\"names\":[\"read\"");
        while (names->len < 255 * 1024)
                g_string_append(names, ",\"x\"");
        g_string_append(names, "]}]}");
        g_auto(SeccompProgram) p = { 0 };
        g_assert_true(prepare_text(names->str, (gssize) names->len, false, false, &p, NULL));
        g_assert_cmphex(ask(&p, SYS_read, 0, 0), ==, SECCOMP_RET_KILL_THREAD);
}

static void test_not_a_file(void) {
        static const struct {
                const char *path;
                int errnum;
        } paths[] = { { "/nonexistent/x.json", ENOENT }, { "/", EISDIR }, { "/dev/zero", EINVAL } };
        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_auto(SeccompProgram) p = { 0 };
                g_autoptr(GError) error = NULL;
                SeccompSpec spec = { .mode = SECCOMP_FILE, .file = (char *) paths[i].path };
                g_assert_false(seccomp_prepare(&spec, (SeccompFeatures){ 0 }, &p, &error));
                g_assert_cmpint(err_get_errno(error), ==, paths[i].errnum);
                g_assert_cmpstr(err_get_step(error), ==, "seccomp");
                g_assert_nonnull(strstr(error->message, paths[i].path));
        }
}

/* <(command) of a shell. */
static void test_pipe(void) {
        int fds[2];
        static const char text[] = "{\"defaultAction\":\"SCMP_ACT_LOG\"}";
        g_assert_cmpint(pipe(fds), ==, 0);
        g_assert_true(fd_write_all(fds[1], text, strlen(text)));
        close(fds[1]);
        g_autofree char *path = g_strdup_printf("/dev/fd/%d", fds[0]);
        SeccompSpec spec = { .mode = SECCOMP_FILE, .file = path };
        g_auto(SeccompProgram) p = { 0 };
        g_assert_true(seccomp_prepare(&spec, (SeccompFeatures){ 0 }, &p, NULL));
        g_assert_cmphex(ask(&p, SYS_read, 0, 0), ==, SECCOMP_RET_LOG);
        close(fds[0]);
}

static void test_modes(void) {
        const struct sock_filter *filter;
        size_t n;
        g_auto(SeccompProgram) p = { 0 };
        SeccompSpec spec = { .mode = SECCOMP_OFF };
        g_assert_true(seccomp_prepare(&spec, (SeccompFeatures){ 0 }, &p, NULL));
        g_assert_cmpuint(p.n, ==, 0);
        spec = (SeccompSpec){ .mode = SECCOMP_DEFAULT, .compat32 = true };
        g_assert_true(seccomp_prepare(&spec, (SeccompFeatures){ .nested = true }, &p, NULL));
        seccomp_builtin((SeccompFeatures){ .compat32 = true, .nested = true }, &filter, &n);
        g_assert_true(p.filter == filter && p.n == n && !p.owned);
}

/* Verdicts of conditions, ours against libseccomp's, at and around the values where they change. */
static void compare_condition(enum scmp_compare op, const char *name, uint64_t value, uint64_t two) {
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        struct scmp_arg_cmp arg = { .arg = 1, .op = op, .datum_a = value, .datum_b = two };
        g_assert_cmpint(seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(7), SCMP_SYS(read), 1, &arg), ==, 0);
        FILE *file = tmpfile();
        g_assert_cmpint(seccomp_export_bpf(ctx, fileno(file)), ==, 0);
        seccomp_release(ctx);
        g_autofree char *theirs = NULL;
        size_t length;
        g_assert_cmpint(lseek(fileno(file), 0, SEEK_SET), ==, 0);
        g_assert_true(fd_read_all(fileno(file), 1024 * 1024, &theirs, &length));
        fclose(file);

        g_auto(SeccompProgram) ours = { 0 };
        g_autofree char *text = g_strdup_printf("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":["
                                                "\"read\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":7,"
                                                "\"args\":[{\"index\":1,\"op\":\"%s\",\"value\":\"%#" G_GINT64_MODIFIER
                                                "x\",\"valueTwo\":\"%#" G_GINT64_MODIFIER "x\"}]}]}",
                                                name, value, two);
        g_assert_true(prepare_text(text, -1, false, false, &ours, NULL));
        SeccompProgram other = { .filter = (const struct sock_filter *) (const void *) theirs,
                                 .n = length / sizeof(struct sock_filter) };

        uint64_t bases[] = { value, two, 0, value ^ two, ~value, value << 32, value >> 32 };
        for (size_t i = 0; i < G_N_ELEMENTS(bases); i++)
                for (int bit = -2; bit < 64; bit++)
                        for (int sign = -1; sign <= 1; sign += 2) {
                                uint64_t at = bit == -2   ? bases[i]
                                              : bit == -1 ? bases[i] + (uint64_t) sign
                                                          : bases[i] ^ 1ULL << bit;
                                g_assert_cmphex(ask(&ours, SYS_read, 0, at), ==, ask(&other, SYS_read, 0, at));
                        }
}

static void test_conditions(void) {
        static const struct {
                enum scmp_compare op;
                const char *name;
        } ops[] = { { SCMP_CMP_NE, "SCMP_CMP_NE" }, { SCMP_CMP_LT, "SCMP_CMP_LT" }, { SCMP_CMP_LE, "SCMP_CMP_LE" },
                    { SCMP_CMP_EQ, "SCMP_CMP_EQ" }, { SCMP_CMP_GE, "SCMP_CMP_GE" }, { SCMP_CMP_GT, "SCMP_CMP_GT" } };
        static const uint64_t values[] = { 0, 1, 0x5412, 0xffffffff, 0x100000000, 0x123456789abcdef0, UINT64_MAX };
        static const uint64_t masks[][2] = { { 0xffffffff, 0x5412 },
                                             { 0xf, 3 },
                                             { 0xff00000000, 0x1200000000 },
                                             { 0xf0f0f0f0f0f0f0f0, 0x1020304050607080 } };
        for (size_t i = 0; i < G_N_ELEMENTS(ops); i++)
                for (size_t k = 0; k < G_N_ELEMENTS(values); k++)
                        compare_condition(ops[i].op, ops[i].name, values[k], 0);
        for (size_t k = 0; k < G_N_ELEMENTS(masks); k++)
                compare_condition(SCMP_CMP_MASKED_EQ, "SCMP_CMP_MASKED_EQ", masks[k][0], masks[k][1]);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        directory = g_dir_make_tmp("usbox-test-seccomp-XXXXXX", NULL);
        g_test_add_func("/seccomp-file/engine", test_engine);
        g_test_add_func("/seccomp-file/caps", test_caps);
#ifdef __x86_64__
        g_test_add_func("/seccomp-file/architectures", test_architectures);
#endif
        for (size_t i = 0; i < G_N_ELEMENTS(broken); i++) {
                g_autofree char *path = g_strconcat("/seccomp-file/broken/", broken[i].name, NULL);
                g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_broken);
        }
        g_test_add_func("/seccomp-file/hostile", test_hostile);
        g_test_add_func("/seccomp-file/not-a-file", test_not_a_file);
        g_test_add_func("/seccomp-file/pipe", test_pipe);
        g_test_add_func("/seccomp-file/modes", test_modes);
        g_test_add_func("/seccomp-file/conditions", test_conditions);
        int r = g_test_run();
        g_autofree char *path = g_build_filename(directory, "profile \n\xc3\xa4.json", NULL);
        unlink(path);
        rmdir(directory);
        return r;
}
