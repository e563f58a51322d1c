/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the sanitizers of a sanitized build are told: that each finding ends the process. By variables helpers would not hear it, which get no
 * environment, and what UBSan or ThreadSanitizer find would be a line on stderr at best.
 *
 * Role: every program, in such a build alone; asked by the sanitizer's runtime. Privileges: none. Threads: any. Order: before main().
 */
#define ASKED __attribute__((visibility("default"), used, no_sanitize("address", "undefined", "thread")))

ASKED const char *__asan_default_options(void);
ASKED const char *__ubsan_default_options(void);
ASKED const char *__tsan_default_options(void);

/* Leaks are looked for by ptrace(2), which what is not dumpable refuses, and its filter as well. Who is neither is told by $ASAN_OPTIONS. */
const char *__asan_default_options(void) {
        return "abort_on_error=1:detect_stack_use_after_return=1:detect_leaks=0";
}

const char *__ubsan_default_options(void) {
        return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

/* usbox-fs that is told to end does not await its threads: what they wait for may not come. */
const char *__tsan_default_options(void) {
        return "halt_on_error=1:abort_on_error=1:report_thread_leaks=0";
}
