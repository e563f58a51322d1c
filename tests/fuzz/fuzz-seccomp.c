/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: an OCI seccomp profile, from JSON to BPF.
 *
 * Role: tests only. Privileges: none. Threads: one. A program that comes out must be one that the kernel could take.
 */
#include <jansson.h>

#include "fuzz.h"
#include "seccomp/codegen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        json_error_t place;
        json_t *root = json_loadb((const char *) data, size, JSON_REJECT_DUPLICATES, &place);
        if (!root)
                return 0;

        g_autoptr(GPtrArray) features = g_ptr_array_new(), caps = g_ptr_array_new(), notes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GError) error = NULL;
        const PolicyConditions conditions = { .features = features, .caps = caps };
        g_autoptr(Policy) policy = policy_parse(root, &conditions, notes, &error);
        g_assert_true((policy == NULL) == (error != NULL));
        if (policy) {
                GArray *program = codegen(policy, false, notes, &error);
                g_assert_true((program == NULL) == (error != NULL));
                if (program) {
                        g_assert_true(program->len > 0 && program->len <= BPF_MAXINSNS);
                        g_array_unref(program);
                }
        }
        json_decref(root);
        return 0;
}
