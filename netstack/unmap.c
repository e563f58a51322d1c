/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only the start needed of the program and its libraries is given back.
 *
 * Role: usbox-net and its agent. Privileges: none. Threads: one. Order: once, when all is set up.
 *
 * Most of what a small process has in memory is code and constants of its libraries that ran once: the dynamic linker's tables, the parsing of a
 * configuration, what makes rules and namespaces. They are pages of files; what is still wanted of them comes back from the page cache
 * by a fault each, and the rest counts for nobody any more.
 */
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "netstack/unmap.h"

#define SEGMENTS_MAX 8

/* One object: its segments that nobody can have written to. What the linker has relocated is in writable ones, RELRO too, and stays. They are
 * noted first, since the table of segments is in one of them. */
static int forget_object(struct dl_phdr_info *info, size_t size, void *data) {
        size_t page = (size_t) getpagesize(), n = 0;
        struct {
                uintptr_t from;
                size_t len;
        } segments[SEGMENTS_MAX];

        for (ElfW(Half) i = 0; i < info->dlpi_phnum && n < SEGMENTS_MAX; i++) {
                const ElfW(Phdr) *p = &info->dlpi_phdr[i];
                if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
                        continue;
                uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
                segments[n].from = from;
                segments[n++].len = info->dlpi_addr + p->p_vaddr + p->p_memsz - from;
        }
        while (n-- > 0) /* a refusal costs memory and nothing else */
                (void) madvise((void *) segments[n].from, segments[n].len, MADV_DONTNEED);
        return 0;
}

void unmap_start(void) {
        (void) malloc_trim(0);
        (void) dl_iterate_phdr(forget_object, NULL);
}
