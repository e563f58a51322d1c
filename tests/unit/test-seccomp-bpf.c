/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small interpreter of classic BPF for the seccomp tests, written from bpf(4) and Documentation/networking/filter,
 * not from the generator: the two know nothing of each other.
 *
 * Role: unit tests. Threads: one.
 */
#include <glib.h>
#include <linux/bpf_common.h>
#include <string.h>

#include "spec.h"
#include "test-seccomp-bpf.h"

static uint32_t load(const struct seccomp_data *data, uint32_t offset) {
        uint32_t word;
        g_assert_cmpuint(offset % 4, ==, 0);
        g_assert_cmpuint(offset, <=, sizeof *data - 4);
        memcpy(&word, (const char *) data + offset, sizeof word);
        return word;
}

static bool compare(uint16_t op, uint32_t a, uint32_t k) {
        switch (BPF_OP(op)) {
        case BPF_JEQ:
                return a == k;
        case BPF_JGT:
                return a > k;
        case BPF_JGE:
                return a >= k;
        case BPF_JSET:
                return (a & k) != 0;
        default:
                g_error("unknown jump 0x%02x", op);
        }
}

BpfVerdict bpf_run(const struct sock_filter *filter, size_t n, const struct seccomp_data *data) {
        BpfVerdict verdict = { 0 };
        uint32_t a = 0;

        for (size_t pc = 0;; pc++) {
                g_assert_cmpuint(pc, <, n);
                const struct sock_filter *insn = &filter[pc];
                verdict.steps++;
                if (insn->code == (BPF_LD | BPF_W | BPF_ABS)) {
                        verdict.looked_at_args |= insn->k >= offsetof(struct seccomp_data, args);
                        a = load(data, insn->k);
                } else if (insn->code == (BPF_ALU | BPF_AND | BPF_K)) {
                        a &= insn->k;
                } else if (insn->code == (BPF_JMP | BPF_JA)) {
                        pc += insn->k;
                } else if (BPF_CLASS(insn->code) == BPF_JMP && BPF_SRC(insn->code) == BPF_K) {
                        pc += compare(insn->code, a, insn->k) ? insn->jt : insn->jf;
                } else if (insn->code == (BPF_RET | BPF_K)) {
                        verdict.action = insn->k;
                        return verdict;
                } else {
                        g_error("instruction %zu: unknown code 0x%02x", pc, insn->code);
                }
        }
}

const char *bpf_action_name(uint32_t action) {
        switch (action & SECCOMP_RET_ACTION_FULL) {
        case SECCOMP_RET_ALLOW:
                return "allow";
        case SECCOMP_RET_ERRNO:
                return strerrorname_np((int) (action & SECCOMP_RET_DATA));
        case SECCOMP_RET_KILL_THREAD:
                return "kill-thread";
        case SECCOMP_RET_KILL_PROCESS:
                return "kill-process";
        case SECCOMP_RET_TRAP:
                return "trap";
        case SECCOMP_RET_LOG:
                return "log";
        default:
                return "?";
        }
}

/* src/seccomp.c is linked here with its option's row but without the parser: no test applies the row. */
char *option_host_path(const Spec *draft, const char *text) {
        g_error("option_host_path(%s)", text);
}
