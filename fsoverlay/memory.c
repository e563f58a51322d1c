/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Out of memory: a request is refused, and usbox-fs goes on.
 *
 * Role: usbox-fs. Privileges: none. Threads: any. Order: memory_init() before the first request.
 *
 * GLib ends the program where malloc(3) says no (g_malloc()). So it hears that only when a reserve is gone as well: malloc(3) and its kin, here before the C
 * library's own, let go of the reserve when there is nothing else. What is at work then ends well, and the next requests get ENOMEM until the
 * reserve can be had again; those that give memory back are served all the time.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "fsoverlay/memory.h"

#define RESERVE ((size_t) 1024 * 1024) /* more than the requests of all threads take, listings aside, which ask memory_for() */

static _Atomic(void *) reserve;

#ifdef USBOX_SANITIZED /* it has a malloc(3) of its own */
#define REAL(name) name
#else
#ifdef USBOX_STATIC /* ld --wrap: whoever calls malloc() comes to __wrap_malloc() */
#define FRONT(name) __wrap_##name
#define REAL(name) __real_##name
#else
#define FRONT(name) name
#define REAL(name) __libc_##name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *old, size_t size);
void *FRONT(malloc)(size_t size);
void *FRONT(calloc)(size_t n, size_t size);
void *FRONT(realloc)(void *old, size_t size);

/* Whether there was one: then it is worth another try. */
static bool let_go(void) {
        void *was = atomic_exchange(&reserve, NULL);

        free(was);
        return was != NULL;
}

void *FRONT(malloc)(size_t size) {
        void *p = REAL(malloc)(size);
        return p || !let_go() ? p : REAL(malloc)(size);
}

void *FRONT(calloc)(size_t n, size_t size) {
        void *p = REAL(calloc)(n, size);
        return p || !let_go() ? p : REAL(calloc)(n, size);
}

void *FRONT(realloc)(void *old, size_t size) {
        void *p = REAL(realloc)(old, size);
        return p || size == 0 || !let_go() ? p : REAL(realloc)(old, size);
}
#endif

void memory_init(void) {
        (void) memory_short();
}

bool memory_short(void) {
        if (atomic_load_explicit(&reserve, memory_order_relaxed))
                return false;
        void *again = REAL(malloc)(RESERVE), *none = NULL;
        if (again && !atomic_compare_exchange_strong(&reserve, &none, again))
                free(again); /* another thread was first */
        return !again;
}

bool memory_for(size_t size) {
        void *trial = REAL(malloc)(size);

        free(trial);
        return trial != NULL;
}
