/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Policy → classic BPF.
 *
 * Role: usbox-seccomp, at build time and for --seccomp FILE. Privileges: none. Threads: one. Order: last.
 *
 * Theory of operation. The program checks the ABI, then finds the system call's number by bisection over ranges of
 * numbers that share a verdict, then, in the leaf, looks at arguments where rules ask for it:
 *
 *      ld arch ── native ─ ld nr ─ nr >= limit? ─ jge ─┬─ jge ─┬─ leaf
 *              ├─ 32-bit ─ the same                    └─ ...  └─ leaf
 *              └─ other: ENOSYS
 *
 * Every leaf returns, every jump goes forward and is relative, so that a subtree is made in a buffer of its own and
 * appended; equal returns become one in the end. Leaves that look at the number alone are also what lets the kernel (5.11 and later) work the verdict out
 * once and keep it in a bitmap: such calls then cost nothing.
 *
 * Why libseccomp's generator is not used, only its tables: it has no "else" for a condition on some bits of an argument
 * ("ioctl, but not these four"), refuses a rule whose action is the default's, cannot number a call that it does not
 * know on a second ABI, and opens i386's socketcall(2) whole when socket(2) is allowed with conditions.
 */
#include <endian.h>
#include <errno.h>
#include <linux/bpf_common.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "codegen.h"
#include "names.h"

#define REFUSED (SECCOMP_RET_ERRNO | ENOSYS)

/* Numbers [first, next range's first) share this code. */
typedef struct {
        int first;
        GArray *code;
} Range;

static void append(GArray *code, uint16_t op, uint32_t k, unsigned if_true, unsigned if_false) {
        struct sock_filter insn = { .code = op, .jt = (uint8_t) if_true, .jf = (uint8_t) if_false, .k = k };
        g_assert(if_true <= UINT8_MAX && if_false <= UINT8_MAX);
        g_array_append_val(code, insn);
}

static GArray *code_new(void) {
        return g_array_new(FALSE, FALSE, sizeof(struct sock_filter));
}

static bool code_equal(const GArray *a, const GArray *b) {
        return a->len == b->len && memcmp(a->data, b->data, a->len * sizeof(struct sock_filter)) == 0;
}

static uint32_t arg_offset(unsigned index, bool high) {
        uint32_t base = (uint32_t) (offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
        bool second = (__BYTE_ORDER == __LITTLE_ENDIAN) == high;
        return base + (second ? 4 : 0);
}

static void append_load(GArray *code, unsigned index, bool high, uint32_t mask) {
        append(code, BPF_LD | BPF_W | BPF_ABS, arg_offset(index, high), 0, 0);
        if (mask != UINT32_MAX)
                append(code, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
}

/* The test of a condition: falls through when it holds, else jumps fail instructions beyond its end. The low half alone
 * is looked at where the mask has nothing in the high one: an int argument's high bits are whatever the caller left
 * there. */
static void append_test(GArray *code, const PolicyArg *arg, unsigned fail, bool loaded) {
        uint32_t mask_high = (uint32_t) (arg->mask >> 32), high = (uint32_t) (arg->value >> 32),
                 low = (uint32_t) arg->value;
        bool inverted = arg->op == COMPARE_NE || arg->op == COMPARE_LT || arg->op == COMPARE_LE;
        bool equality = arg->op == COMPARE_EQ || arg->op == COMPARE_NE;
        uint16_t jump = equality ? BPF_JEQ : arg->op == COMPARE_GT || arg->op == COMPARE_LE ? BPF_JGT : BPF_JGE;
        unsigned low_length = (uint32_t) arg->mask != UINT32_MAX ? 3 : 2;
        /* Distances from the last instruction of the high half: over the low half, then to where the verdict leads. */
        unsigned yes = low_length + (inverted ? fail : 0), no = low_length + (inverted ? 0 : fail);

        if (mask_high) {
                append_load(code, arg->index, true, mask_high);
                if (!equality)
                        append(code, BPF_JMP | BPF_JGT | BPF_K, high, yes + 1, 0);
                append(code, BPF_JMP | BPF_JEQ | BPF_K, high, 0, no);
        }
        if (!loaded)
                append_load(code, arg->index, false, (uint32_t) arg->mask);
        append(code, BPF_JMP | jump | BPF_K, low, inverted ? fail : 0, inverted ? 0 : fail);
}

/* One rule: its tests, its action; where a test fails, what follows. Built from the back, as each test must know how
 * much of the rule comes after it. */
static void append_rule(GArray *code, const PolicyRule *rule, bool loaded) {
        g_autoptr(GArray) body = code_new();
        append(body, BPF_RET | BPF_K, rule->action, 0, 0);
        for (guint i = rule->args->len; i-- > 0;) {
                const PolicyArg *arg = &g_array_index(rule->args, PolicyArg, i);
                g_autoptr(GArray) test = code_new();
                append_test(test, arg, body->len, loaded && i == 0);
                g_array_prepend_vals(body, test->data, test->len);
        }
        g_array_append_vals(code, body->data, body->len);
}

/* Does the accumulator hold, after previous has failed, what next's first test loads? Only where previous has a single
 * way to fail. */
static bool load_shared(const PolicyRule *previous, const PolicyRule *next) {
        if (!previous || previous->args->len != 1)
                return false;
        const PolicyArg *a = &g_array_index(previous->args, PolicyArg, 0),
                        *b = &g_array_index(next->args, PolicyArg, 0);
        return a->index == b->index && a->mask == b->mask && a->mask <= UINT32_MAX;
}

/* The leaf of one system call: its rules in order, then the default. */
static GArray *leaf(const GPtrArray *rules, uint32_t default_action) {
        GArray *code = code_new();
        const PolicyRule *previous = NULL;

        for (guint i = 0; rules && i < rules->len; i++) {
                const PolicyRule *rule = rules->pdata[i];
                if (rule->args->len == 0) {
                        default_action = rule->action;
                        break;
                }
                append_rule(code, rule, load_shared(previous, rule));
                previous = rule;
        }
        append(code, BPF_RET | BPF_K, default_action, 0, 0);
        return code;
}

/* File one rule under one number. Without "order" as libseccomp has it, for which the engines' profiles are written:
 * the first unconditional rule is alone, what came before goes and what comes later is passed over. */
static void file_rule(const Policy *policy, GHashTable *by_number, int number, PolicyRule *rule) {
        GPtrArray *rules = g_hash_table_lookup(by_number, GINT_TO_POINTER(number));
        if (!rules) {
                rules = g_ptr_array_new();
                g_hash_table_insert(by_number, GINT_TO_POINTER(number), rules);
        }
        if (!policy->first_match) {
                const PolicyRule *first = rules->len ? rules->pdata[0] : NULL;
                if (first && first->args->len == 0)
                        return;
                if (rule->args->len == 0)
                        g_ptr_array_set_size(rules, 0);
        }
        g_ptr_array_add(rules, rule);
}

static GHashTable *rules_by_number(const Policy *policy, const Arch *arch) {
        GHashTable *by_number = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) g_ptr_array_unref);

        for (guint i = 0; i < policy->rules->len; i++) {
                PolicyRule *rule = policy->rules->pdata[i];
                for (guint k = 0; k < rule->names->len; k++) {
                        int number = name_resolve(policy, arch, rule->names->pdata[k]);
                        if (number >= 0)
                                file_rule(policy, by_number, number, rule);
                }
        }
        return by_number;
}

static void range_clear(gpointer p) {
        g_array_unref(((Range *) p)->code);
}

/* All numbers from 0 up as ranges; neighbours with the same code become one. */
static GArray *ranges(GHashTable *by_number, uint32_t default_action) {
        GArray *list = g_array_new(FALSE, FALSE, sizeof(Range));
        g_autoptr(GList) keys = g_hash_table_get_keys(by_number);
        int last = -1;
        for (GList *key = keys; key; key = key->next)
                last = MAX(last, GPOINTER_TO_INT(key->data));

        g_array_set_clear_func(list, range_clear);
        for (int number = 0; number <= last + 1; number++) {
                Range range = { number, leaf(g_hash_table_lookup(by_number, GINT_TO_POINTER(number)), default_action) };
                if (list->len > 0 && code_equal(g_array_index(list, Range, list->len - 1).code, range.code))
                        range_clear(&range);
                else
                        g_array_append_val(list, range);
        }
        return list;
}

/* The accumulator holds the number, which is in one of the ranges [from, to). */
static GArray *bisect(const GArray *list, guint from, guint to) {
        if (to - from == 1)
                return g_array_ref(g_array_index(list, Range, from).code);

        guint middle = from + (to - from) / 2;
        g_autoptr(GArray) below = bisect(list, from, middle), above = bisect(list, middle, to);
        GArray *code = code_new();
        uint32_t first = (uint32_t) g_array_index(list, Range, middle).first;
        if (below->len <= UINT8_MAX) {
                append(code, BPF_JMP | BPF_JGE | BPF_K, first, below->len, 0);
        } else {
                /* A conditional jump reaches 255 instructions, the other kind any distance. */
                append(code, BPF_JMP | BPF_JGE | BPF_K, first, 0, 1);
                append(code, BPF_JMP | BPF_JA, below->len, 0, 0);
        }
        g_array_append_vals(code, below->data, below->len);
        g_array_append_vals(code, above->data, above->len);
        return code;
}

static GArray *arch_code(const Policy *policy, const Arch *arch) {
        g_autoptr(GHashTable) by_number = rules_by_number(policy, arch);
        g_autoptr(GArray) list = ranges(by_number, policy->default_action);
        g_autoptr(GArray) tree = bisect(list, 0, list->len);

        GArray *code = code_new();
        append(code, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
        append(code, BPF_JMP | BPF_JGE | BPF_K, (uint32_t) arch->number_limit, 0, 1);
        append(code, BPF_RET | BPF_K, REFUSED, 0, 0);
        g_array_append_vals(code, tree->data, tree->len);
        return code;
}

/* "On this ABI, that code": the accumulator holds the ABI and still does in what follows. */
static void append_arch(GArray *code, const Arch *arch, const GArray *body) {
        append(code, BPF_JMP | BPF_JEQ | BPF_K, arch->audit, 1, 0);
        append(code, BPF_JMP | BPF_JA, body->len, 0, 0);
        g_array_append_vals(code, body->data, body->len);
}

static bool check_names(const Policy *policy, bool strict, GPtrArray *notes, GError **error) {
        for (guint i = 0; i < policy->rules->len; i++) {
                const PolicyRule *rule = policy->rules->pdata[i];
                for (guint k = 0; k < rule->names->len; k++) {
                        if (name_resolve(policy, arch_native(), rule->names->pdata[k]) != NAME_UNKNOWN)
                                continue;
                        g_autofree char *quoted = err_quote(rule->names->pdata[k]);
                        if (strict)
                                return err_set(error, 0, "%s: unknown system call \"%.64s\"", rule->place, quoted);
                        g_ptr_array_add(notes, g_strdup_printf("%s: unknown system call \"%.64s\" is passed over",
                                                               rule->place, quoted));
                }
        }
        return true;
}

static bool is_jump(const struct sock_filter *insn) {
        return BPF_CLASS(insn->code) == BPF_JMP && BPF_OP(insn->code) != BPF_JA;
}

/* A conditional jump's offset to a return may as well lead to an equal one further on: to the farthest that it reaches. */
static uint8_t to_last_return(const GArray *code, guint at, uint8_t offset) {
        const struct sock_filter *insns = (const struct sock_filter *) (const void *) code->data, *target = insns + at + 1 + offset;
        uint8_t farthest = offset;

        if (BPF_CLASS(target->code) != BPF_RET)
                return offset;
        for (guint next = offset + 1u; next <= UINT8_MAX && at + 1 + next < code->len; next++)
                if (memcmp(insns + at + 1 + next, target, sizeof *target) == 0)
                        farthest = (uint8_t) next;
        return farthest;
}

/* Take out what nothing leads to. All jumps go forward. */
static GArray *without_dead(const GArray *code) {
        const struct sock_filter *insns = (const struct sock_filter *) (const void *) code->data;
        g_autofree guint *place = g_new0(guint, code->len + 1); /* before each: how many stay */
        g_autofree bool *live = g_new0(bool, code->len + 1);
        GArray *kept = code_new();

        live[0] = true;
        for (guint i = 0; i < code->len; i++) {
                place[i + 1] = place[i] + live[i];
                if (!live[i] || BPF_CLASS(insns[i].code) == BPF_RET)
                        continue;
                if (is_jump(&insns[i]))
                        live[i + 1 + insns[i].jt] = live[i + 1 + insns[i].jf] = true;
                else
                        live[i + 1 + (BPF_CLASS(insns[i].code) == BPF_JMP ? insns[i].k : 0)] = true;
        }
        for (guint i = 0; i < code->len; i++) {
                struct sock_filter insn = insns[i];
                if (!live[i])
                        continue;
                if (is_jump(&insn)) {
                        insn.jt = (uint8_t) (place[i + 1 + insn.jt] - place[i] - 1);
                        insn.jf = (uint8_t) (place[i + 1 + insn.jf] - place[i] - 1);
                } else if (BPF_CLASS(insn.code) == BPF_JMP) {
                        insn.k = place[i + 1 + insn.k] - place[i] - 1;
                }
                g_array_append_val(kept, insn);
        }
        return kept;
}

/* Most leaves are one of a few returns. The kernel compiles each instruction at each start of a box: what leads to one of many goes
 * to one of few. */
static GArray *share_returns(GArray *code_take) {
        guint before;

        do {
                struct sock_filter *insns = (struct sock_filter *) (void *) code_take->data;
                before = code_take->len;
                for (guint i = 0; i < before; i++) {
                        if (!is_jump(&insns[i]))
                                continue;
                        insns[i].jt = to_last_return(code_take, i, insns[i].jt);
                        insns[i].jf = to_last_return(code_take, i, insns[i].jf);
                }
                GArray *kept = without_dead(code_take);
                g_array_unref(code_take);
                code_take = kept;
        } while (code_take->len < before);
        return code_take;
}

GArray *codegen(const Policy *policy, bool strict, GPtrArray *notes, GError **error) {
        if (!check_names(policy, strict, notes, error))
                return NULL;

        g_autoptr(GArray) native = arch_code(policy, arch_native()), code = code_new();
        append(code, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
        append_arch(code, arch_native(), native);
        if (policy->compat) {
                g_autoptr(GArray) compat = arch_code(policy, arch_compat());
                append_arch(code, arch_compat(), compat);
        }
        append(code, BPF_RET | BPF_K, REFUSED, 0, 0);
        code = share_returns(g_steal_pointer(&code));

        if (code->len > BPF_MAXINSNS) {
                err_set(error, 0, "the filter would have %u instructions; the kernel takes %d", code->len,
                        BPF_MAXINSNS);
                return NULL;
        }
        return g_steal_pointer(&code);
}
