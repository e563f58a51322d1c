/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes that change a file of the host in the working directory, which the box has by copy on write: each goes at canary/PROBE/file by
 * another call. Whether the host's file has changed the suite sees.
 *
 * Role: tests only, runs as the payload, in the working directory that the suite made. Privileges: what the box gives. Threads: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "probe.h"

#define DIR_OF(id) "canary/" #id
#define FILE_OF(id) DIR_OF(id) "/file"

static long write_and_close(int fd) {
        long ret = fd < 0 ? -1 : write(fd, "owned", 5);
        if (fd >= 0 && close(fd) < 0)
                ret = -1;
        return ret;
}

static long probe_write_open(void) {
        return write_and_close(open(FILE_OF(write_open), O_WRONLY | O_CLOEXEC));
}
static long probe_write_append(void) {
        return write_and_close(open(FILE_OF(write_append), O_WRONLY | O_APPEND | O_CLOEXEC));
}
static long probe_write_truncate(void) {
        return truncate(FILE_OF(write_truncate), 1);
}
static long probe_write_mmap(void) {
        int fd = open(FILE_OF(write_mmap), O_RDWR | O_CLOEXEC);
        char *map = fd < 0 ? MAP_FAILED : mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -1;
        memcpy(map, "OWND", 4);
        return msync(map, 4, MS_SYNC);
}
/* Mapped before the first change: the host's pages, if the copy comes later. */
static long probe_write_mmap_before_copy(void) {
        int shown = open(FILE_OF(write_mmap_before_copy), O_RDONLY | O_CLOEXEC);
        char *map = shown < 0 ? MAP_FAILED : mmap(NULL, 4, PROT_READ, MAP_SHARED, shown, 0);
        if (map == MAP_FAILED || mprotect(map, 4, PROT_READ) < 0)
                return -1;
        int fd = open(FILE_OF(write_mmap_before_copy), O_RDWR | O_CLOEXEC);
        return fd < 0 ? -1 : pwrite(fd, "owned", 5, 0);
}
static long probe_write_openat2(void) {
        struct open_how how = { .flags = O_WRONLY | O_CLOEXEC };
        return write_and_close((int) syscall(SYS_openat2, AT_FDCWD, FILE_OF(write_openat2), &how, sizeof how));
}
/* A descriptor for reading, opened again for writing. */
static long probe_write_reopen(void) {
        char path[64];
        int fd = open(FILE_OF(write_reopen), O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        return fd < 0 ? -1 : write_and_close(open(path, O_WRONLY | O_CLOEXEC));
}
static long probe_write_hard_link(void) {
        return link(FILE_OF(write_hard_link), DIR_OF(write_hard_link) "/other") < 0
                       ? -1
                       : write_and_close(open(DIR_OF(write_hard_link) "/other", O_WRONLY | O_CLOEXEC));
}
static long probe_write_symlink(void) {
        return symlink("file", DIR_OF(write_symlink) "/other") < 0 ? -1 : write_and_close(open(DIR_OF(write_symlink) "/other", O_WRONLY | O_CLOEXEC));
}
static long probe_write_fallocate(void) {
        int fd = open(FILE_OF(write_fallocate), O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -1 : fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4);
}
static long probe_write_copy_range(void) {
        int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(FILE_OF(write_copy_range), O_WRONLY | O_CLOEXEC);
        return from < 0 || to < 0 ? -1 : sendfile(to, from, NULL, 16);
}
static long probe_write_rename_over(void) {
        long ret = write_and_close(open(DIR_OF(write_rename_over) "/new", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
        return ret < 0 ? -1 : rename(DIR_OF(write_rename_over) "/new", FILE_OF(write_rename_over));
}
static long probe_write_unlink(void) {
        return unlink(FILE_OF(write_unlink));
}
static long probe_write_move_directory(void) {
        return rename(DIR_OF(write_move_directory), "canary/moved-away");
}
static long probe_write_create(void) {
        return write_and_close(open(DIR_OF(write_create) "/new", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
}
static long probe_write_tmpfile(void) {
        char path[64];
        int fd = open(DIR_OF(write_tmpfile), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        return fd < 0 ? -1 : linkat(AT_FDCWD, path, AT_FDCWD, DIR_OF(write_tmpfile) "/new", AT_SYMLINK_FOLLOW);
}
static long probe_write_chmod(void) {
        return chmod(FILE_OF(write_chmod), 0777);
}
static long probe_write_chmod_at(void) {
        return syscall(SYS_fchmodat, AT_FDCWD, FILE_OF(write_chmod_at), 0777);
}
static long probe_write_chmod_opath(void) {
        char path[64];
        int fd = open(FILE_OF(write_chmod_opath), O_PATH | O_NOFOLLOW | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        return fd < 0 ? -1 : chmod(path, 0777);
}
static long probe_write_times(void) {
        struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
        return utimensat(AT_FDCWD, FILE_OF(write_times), times, 0);
}
static long probe_write_times_fd(void) {
        struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
        int fd = open(FILE_OF(write_times_fd), O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -1 : futimens(fd, times);
}
/* By a call of Linux 6.13. */
static long probe_write_xattr_at(void) {
        struct {
                uint64_t value;
                uint32_t size, flags;
        } args = { .value = (uintptr_t) "1", .size = 1 };
        return syscall(463 /* setxattrat */, AT_FDCWD, FILE_OF(write_xattr_at), 0, "user.owned", &args, sizeof args);
}
/* Of Linux 6.17: what chattr sets, but by a path. */
static long probe_write_flags_at(void) {
        struct {
                uint64_t xflags;
                uint32_t extsize, nextents, projid, cowextsize;
        } attributes = { .xflags = FS_XFLAG_NODUMP };
        return syscall(469 /* file_setattr */, AT_FDCWD, FILE_OF(write_flags_at), &attributes, sizeof attributes, 0);
}
static long probe_write_xattr(void) {
        return setxattr(FILE_OF(write_xattr), "user.owned", "1", 1, 0);
}
static long probe_write_acl(void) {
        /* version 2; user::rwx group::rwx other::rwx */
        static const unsigned char acl[] = { 2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255 };
        return setxattr(FILE_OF(write_acl), "system.posix_acl_access", acl, sizeof acl, 0);
}
static long probe_write_flags(void) {
        int flags = 0, fd = open(FILE_OF(write_flags), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
                return -1;
        /* One more: without ext4's own one among them that would ask for another form of the file, which is not always to be had. */
        flags |= FS_NODUMP_FL;
        return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}
static long probe_write_remove_directory(void) {
        (void) unlink(FILE_OF(write_remove_directory));
        return rmdir(DIR_OF(write_remove_directory));
}

const Probe writes_probes[] = {
        PROBE(write_open),      PROBE(write_append),     PROBE(write_truncate),         PROBE(write_mmap),        PROBE(write_mmap_before_copy),
        PROBE(write_reopen),    PROBE(write_hard_link),  PROBE(write_symlink),          PROBE(write_fallocate),   PROBE(write_copy_range),
        PROBE(write_rename_over), PROBE(write_unlink),   PROBE(write_move_directory),   PROBE(write_create),      PROBE(write_tmpfile),
        PROBE(write_chmod),     PROBE(write_chmod_opath), PROBE(write_times),           PROBE(write_xattr),       PROBE(write_acl),
        PROBE(write_flags),     PROBE(write_remove_directory), PROBE(write_openat2),    PROBE(write_chmod_at),    PROBE(write_times_fd),
        PROBE(write_xattr_at),  PROBE(write_flags_at),
        { NULL, NULL },
};
