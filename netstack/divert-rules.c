/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The nftables rules of the TCP fast path as the messages that make them, compiled at build time.
 *
 * Role: build. Privileges: none needed. Threads: one. Order: before divert.c is compiled, which sends them.
 *
 * They are the same in each box but for one port, so a run needs neither libnftnl nor the time to load it. Written as C: the bytes, where the port
 * is in them, and what each message is for.
 */
#include <arpa/inet.h>
#include <glib.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netstack/divert.h"

#define BATCH_SIZE 4096

/* The messages, and what each of them is, for errors. */
typedef struct {
        char buf[2 * BATCH_SIZE];
        struct mnl_nlmsg_batch *batch;
        const char *what[16]; /* NULL: the kernel does not answer it */
        uint32_t n;
} Batch;

/* Where the next message goes; its sequence number is b->n - 1. */
static char *next_message(Batch *b, const char *what) {
        g_assert(b->n < G_N_ELEMENTS(b->what));
        b->what[b->n++] = what;
        return mnl_nlmsg_batch_current(b->batch);
}

static void message_done(Batch *b) {
        bool fits = mnl_nlmsg_batch_next(b->batch);
        g_assert(fits);
}

static const uint8_t tcp = IPPROTO_TCP;

static void add_meta(struct nftnl_rule *rule, uint32_t key, const void *wanted, uint32_t size) {
        struct nftnl_expr *e = nftnl_expr_alloc("meta"), *cmp = nftnl_expr_alloc("cmp");

        nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
        nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, e);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
        nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, wanted, size);
        nftnl_rule_add_expr(rule, cmp);
}

static void add_immediate(struct nftnl_rule *rule, const void *data, uint32_t size) {
        struct nftnl_expr *e = nftnl_expr_alloc("immediate");

        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
        nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, data, size);
        nftnl_rule_add_expr(rule, e);
}

/* SYN and not ACK. */
static void add_is_syn(struct nftnl_rule *rule) {
        struct nftnl_expr *load = nftnl_expr_alloc("payload"), *mask = nftnl_expr_alloc("bitwise"), *cmp = nftnl_expr_alloc("cmp");
        const uint8_t syn_ack = TH_SYN | TH_ACK, zero = 0, syn = TH_SYN;

        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, 13);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, 1);
        nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, load);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
        nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_LEN, 1);
        nftnl_expr_set(mask, NFTNL_EXPR_BITWISE_MASK, &syn_ack, 1);
        nftnl_expr_set(mask, NFTNL_EXPR_BITWISE_XOR, &zero, 1);
        nftnl_rule_add_expr(rule, mask);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
        nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, &syn, 1);
        nftnl_rule_add_expr(rule, cmp);
}

static struct nftnl_rule *new_rule(const char *chain) {
        struct nftnl_rule *rule = nftnl_rule_alloc();

        nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, DIVERT_TABLE);
        nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
        nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
        return rule;
}

static struct nlmsghdr *nft_message(Batch *b, const char *what, uint16_t type, uint16_t flags) {
        char *at = next_message(b, what);
        return nftnl_nlmsg_build_hdr(at, type, NFPROTO_INET, NLM_F_CREATE | NLM_F_ACK | flags, b->n - 1);
}

static void add_rule_take(Batch *b, const char *what, struct nftnl_rule *rule) {
        struct nlmsghdr *h = nft_message(b, what, NFT_MSG_NEWRULE, NLM_F_APPEND);
        nftnl_rule_nlmsg_build_payload(h, rule);
        nftnl_rule_free(rule);
        message_done(b);
}

static void add_chain(Batch *b, const char *what, const char *name, const char *type, uint32_t hook) {
        struct nftnl_chain *chain = nftnl_chain_alloc();

        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, DIVERT_TABLE);
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, type);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
        nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, -150); /* mangle's */
        struct nlmsghdr *h = nft_message(b, what, NFT_MSG_NEWCHAIN, 0);
        nftnl_chain_nlmsg_build_payload(h, chain);
        nftnl_chain_free(chain);
        message_done(b);
}

/* A SYN that is routed to lo and not let go yet: to be held. */
static struct nftnl_rule *rule_hold(void) {
        struct nftnl_rule *rule = new_rule("hold");
        struct nftnl_expr *set = nftnl_expr_alloc("meta");
        const uint32_t lo = DIVERT_LO_INDEX, none = 0, mark = DIVERT_MARK_HELD;

        add_meta(rule, NFT_META_OIF, &lo, sizeof lo);
        add_meta(rule, NFT_META_L4PROTO, &tcp, sizeof tcp);
        add_meta(rule, NFT_META_MARK, &none, sizeof none);
        add_is_syn(rule);
        add_immediate(rule, &mark, sizeof mark);
        nftnl_expr_set_u32(set, NFTNL_EXPR_META_KEY, NFT_META_MARK);
        nftnl_expr_set_u32(set, NFTNL_EXPR_META_SREG, NFT_REG_1);
        nftnl_rule_add_expr(rule, set);
        return rule;
}

/* One that is let go meets the listener. */
static struct nftnl_rule *rule_meet(uint16_t port) {
        struct nftnl_rule *rule = new_rule("meet");
        struct nftnl_expr *tproxy = nftnl_expr_alloc("tproxy");
        const uint32_t lo = DIVERT_LO_INDEX, mark = DIVERT_MARK_FREE;
        const uint16_t port_be = htons(port);

        add_meta(rule, NFT_META_IIF, &lo, sizeof lo);
        add_meta(rule, NFT_META_MARK, &mark, sizeof mark);
        add_meta(rule, NFT_META_L4PROTO, &tcp, sizeof tcp);
        add_immediate(rule, &port_be, sizeof port_be);
        nftnl_expr_set_u32(tproxy, NFTNL_EXPR_TPROXY_FAMILY, NFPROTO_UNSPEC);
        nftnl_expr_set_u32(tproxy, NFTNL_EXPR_TPROXY_REG_PORT, NFT_REG_1);
        nftnl_rule_add_expr(rule, tproxy);
        return rule;
}

static void make_batch(Batch *b, uint16_t port) {
        struct nftnl_table *table = nftnl_table_alloc();

        *b = (Batch){ .n = 0 };
        b->batch = mnl_nlmsg_batch_start(b->buf, BATCH_SIZE);
        nftnl_table_set_str(table, NFTNL_TABLE_NAME, DIVERT_TABLE);
        nftnl_batch_begin(next_message(b, NULL), 0);
        message_done(b);
        struct nlmsghdr *h = nft_message(b, "make an nftables table", NFT_MSG_NEWTABLE, 0);
        nftnl_table_nlmsg_build_payload(h, table);
        nftnl_table_free(table);
        message_done(b);
        add_chain(b, "make an nftables chain for output", "hold", "route", NF_INET_LOCAL_OUT);
        add_chain(b, "make an nftables chain for input", "meet", "filter", NF_INET_PRE_ROUTING);
        add_rule_take(b, "nftables rule that holds SYNs", rule_hold());
        add_rule_take(b, "nftables rule with TPROXY", rule_meet(port));
        nftnl_batch_end(next_message(b, NULL), b->n);
        message_done(b);
}

int main(void) {
        static Batch one, other;

        make_batch(&one, 0x0101);
        make_batch(&other, 0x0202);
        const uint8_t *a = mnl_nlmsg_batch_head(one.batch), *b = mnl_nlmsg_batch_head(other.batch);
        size_t len = mnl_nlmsg_batch_size(one.batch), port = 0;
        for (size_t i = len - 1; i > 0; i--)
                port = a[i] != b[i] ? i : port;
        g_assert(len == mnl_nlmsg_batch_size(other.batch) && port > 0 && memcmp(a + port + 2, b + port + 2, len - port - 2) == 0);

        printf("static const uint8_t divert_rules[] = {");
        for (size_t i = 0; i < len; i++)
                printf("%s%u,", i % 32 ? " " : "\n        ", a[i]);
        printf("\n};\n\n/* Where it has the listener's port, two bytes in the network's order. */\n#define DIVERT_RULES_PORT %zu\n\n", port);
        printf("static const char *const divert_rules_what[] = {\n");
        for (uint32_t i = 0; i < one.n; i++)
                one.what[i] ? printf("        \"%s\",\n", one.what[i]) : printf("        NULL,\n");
        printf("};\n");
        return fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
}
