/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <fcntl.h>
#include <glib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors that can be told from others wherever they are moved to: files of a size of their own. */

#define FD_LOOK_MAX 256 /* tests use none above; valgrind's own are */

static inline int marked_fd(int size) {
        int fd = memfd_create("mark", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(ftruncate(fd, size), ==, 0);
        return fd;
}

static inline int mark_of(int fd) {
        struct stat st;
        return fstat(fd, &st) == 0 ? (int) st.st_size : -1;
}

/* A marked descriptor under that number, which must be free. */
static inline void mark_number(int number, int size) {
        g_assert_cmpint(fcntl(number, F_GETFD), ==, -1);
        int fd = marked_fd(size);
        if (fd == number)
                return;
        g_assert_cmpint(dup3(fd, number, O_CLOEXEC), ==, number);
        close(fd);
}
