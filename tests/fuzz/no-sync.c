/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instead of the C library's, for fuzz targets that write files: nothing is waited for.
 *
 * Role: tests only. Privileges: none. Threads: any. What a target makes ends with it, and a disk that others use, too, would have it try some inputs a
 * second instead of hundreds. What a power cut would leave is looked at by tests/fs/powercut.py.
 */
#include <unistd.h>

int fsync(int fd) {
        return 0;
}

int fdatasync(int fd) {
        return 0;
}

int syncfs(int fd) {
        return 0;
}
