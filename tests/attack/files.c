/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes that read what a box is not to show: files outside, and names that are hidden within the working directory, by every
 * route; what the caller leaves by accident: environment, descriptors, stdio.
 *
 * Role: tests only, runs as the payload, in the working directory that the suite made. Privileges: what the box gives. Threads: one.
 * A hidden name is project/.ssh/PROBE, one for each, since some take it away; hidden by a pattern, where there are any. Those in other
 * directories are hidden by their paths.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe.h"

/* files outside */
static long probe_file_home(void) {
        return reached_secret_file(AT_FDCWD, target_path("home", "secret"));
}
static long probe_file_outside(void) {
        return reached_secret_file(AT_FDCWD, target_path("outside", "secret"));
}
static long probe_file_dotdot(void) {
        return reached_secret_file(AT_FDCWD, "../outside/secret");
}
static long probe_file_tmp(void) {
        return reached_secret_file(AT_FDCWD, target_path("tmp", "secret"));
}
static long probe_file_var_tmp(void) {
        return reached_secret_file(AT_FDCWD, target_path("vartmp", "secret"));
}
static long probe_file_shm(void) {
        return reached_secret_file(AT_FDCWD, target_path("shm", "secret"));
}
static long probe_file_runtime(void) {
        return reached_secret_file(AT_FDCWD, target_path("runtime", "secret"));
}
/* A symlink that the project has already, to what lies outside. */
static long probe_file_link(void) {
        return reached_secret_file(AT_FDCWD, "link-outside");
}

/* A directory above both us and the secret, by another name: what is shown of it was said by path. */
static long probe_file_move_parent(void) {
        char from[512], to[520], secret[540];
        const char *outside = target("outside");
        if (!outside || snprintf(from, sizeof from, "%s", outside) < 0)
                return -1;
        *strrchr(from, '/') = 0;
        snprintf(to, sizeof to, "%s-moved", from);
        snprintf(secret, sizeof secret, "%s/outside/secret", to);
        if (rename(from, to) < 0)
                return -1;
        long ret = reached_secret_file(AT_FDCWD, secret);
        return rename(to, from) < 0 ? -1 : ret;
}
/* A directory by the name of one that is not shown: does it merge with that? */
static long probe_file_merge(void) {
        (void) !mkdir(target("outside") ? target("outside") : "", 0755);
        return reached_secret_file(AT_FDCWD, target_path("outside", "secret"));
}
static long probe_file_merge_home(void) {
        (void) !mkdir(target("home") ? target("home") : "", 0755);
        return reached_secret_file(AT_FDCWD, target_path("home", "secret"));
}
/* The root of the box has a second name, for the kernel's sake. */
static long probe_file_second_root(void) {
        char path[600];
        if (!target("second_root") || !target("outside"))
                return -1;
        snprintf(path, sizeof path, "%s%s/secret", target("second_root"), target("outside"));
        return reached_secret_file(AT_FDCWD, path);
}

/* What is in a directory that is closed to others, and above the working directory; by its name, and its name itself. */
static long probe_file_above(void) {
        return reached_secret_file(AT_FDCWD, "../above");
}
static long probe_file_above_listed(void) {
        DIR *dir = opendir("..");
        if (!dir)
                return -1;
        long ret = -1;
        errno = ENOENT;
        for (struct dirent *entry; (entry = readdir(dir));)
                if (reached_secret(entry->d_name, strlen(entry->d_name)) >= 0)
                        ret = 0;
        closedir(dir);
        return ret;
}

/* private files where a box shows what everybody may read: neither home nor working directory */
static long probe_file_place(void) {
        return reached_secret_file(AT_FDCWD, target_path("place", "secret"));
}
static long probe_file_place_deep(void) {
        return reached_secret_file(AT_FDCWD, target_path("place", "a/b/c/d/e/secret"));
}
static long probe_file_place_group(void) {
        return reached_secret_file(AT_FDCWD, target_path("place", "group"));
}
static long probe_file_place_closed(void) {
        return reached_secret_file(AT_FDCWD, target_path("place", "closed/secret"));
}
static long probe_file_place_link(void) {
        const char *name = target_path("place", "seen-link");
        return !name || link(target_path("place", "linked"), name) < 0 ? -1 : reached_secret_file(AT_FDCWD, name);
}
static long probe_file_place_rename(void) {
        const char *name = target_path("place", "seen-renamed/renamed");
        return !name || rename(target_path("place", "to-rename"), target_path("place", "seen-renamed")) < 0 ? -1 : reached_secret_file(AT_FDCWD, name);
}
/* Closed by nobody but its mode, which is ours to change where it is ours. */
static long probe_file_place_mode(void) {
        const char *name = target_path("place", "mode");
        return !name || chmod(name, 0644) < 0 ? -1 : reached_secret_file(AT_FDCWD, name);
}
static long probe_file_place_merge(void) {
        (void) !mkdir(target("place") ? target_path("place", "merged") : "", 0755);
        return reached_secret_file(AT_FDCWD, target_path("place", "merged/secret"));
}

/* credentials in toolchains of the home, which a box shows */
static long probe_file_tool_place(void) {
        return target("tool_place") ? reached_secret_file(AT_FDCWD, target("tool_place")) : -1;
}
static long probe_file_tool_name(void) {
        return target("tool_name") ? reached_secret_file(AT_FDCWD, target("tool_name")) : -1;
}

/* names hidden within the working directory */
#define HIDDEN(id) "project/.ssh/" #id

static long probe_hidden_open(void) {
        return reached_secret_file(AT_FDCWD, HIDDEN(hidden_open));
}
static long probe_hidden_list(void) {
        int project = open("project", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = project < 0 ? NULL : fdopendir(project);
        if (!dir)
                return -1;
        errno = ENOENT;
        for (struct dirent *entry; (entry = readdir(dir));) {
                char path[NAME_MAX + 32];
                snprintf(path, sizeof path, "%s/hidden_list", entry->d_name);
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && reached_secret_file(project, path) >= 0)
                        return 0;
        }
        return -1;
}
static long probe_hidden_spelling(void) {
        return reached_secret_file(AT_FDCWD, "project//./.ssh/../../project/./.ssh//hidden_spelling");
}
static long probe_hidden_opath(void) {
        char path[64];
        int fd = open(HIDDEN(hidden_opath), O_PATH | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        return fd < 0 ? -1 : reached_secret_file(AT_FDCWD, path);
}
static long probe_hidden_dir_opath(void) {
        int fd = open("project/.ssh", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -1 : reached_secret_file(fd, "hidden_dir_opath");
}
/* By its handle, which depends on nothing but the file system: who has seen another of the kind makes it up. Each mount may be of the host's. */
static long probe_hidden_handle(void) {
        static const char *const mounts[] = { ".", "/", "/usr", "/etc", "/tmp", "/var", "/opt" };
        struct {
                struct file_handle head;
                unsigned char room[MAX_HANDLE_SZ];
        } handle = { .head.handle_bytes = 0 };
        const char *text = target("handle");
        int at = 0, n = 0;

        if (!text || sscanf(text, "%d:%n", &handle.head.handle_type, &at) != 1)
                return -1;
        for (text += at; handle.head.handle_bytes < sizeof handle.room && sscanf(text, "%2hhx%n", handle.room + handle.head.handle_bytes, &n) == 1; text += n)
                handle.head.handle_bytes++;
        for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
                int mount = open(mounts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                int fd = mount < 0 ? -1 : (int) syscall(SYS_open_by_handle_at, mount, &handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd >= 0 && reached_secret_file(fd, "hidden_handle") > 0)
                        return 0;
        }
        return -1;
}
static long probe_hidden_symlink(void) {
        return symlink(".ssh", "project/door") < 0 ? -1 : reached_secret_file(AT_FDCWD, "project/door/hidden_symlink");
}
static long probe_hidden_hard_link(void) {
        return link(HIDDEN(hidden_hard_link), "project/seen-hard-link") < 0 ? -1 : reached_secret_file(AT_FDCWD, "project/seen-hard-link");
}
static long probe_hidden_rename(void) {
        return rename(HIDDEN(hidden_rename), "project/seen-rename") < 0 ? -1 : reached_secret_file(AT_FDCWD, "project/seen-rename");
}
static long probe_hidden_exchange(void) {
        int fd = open("project/seen-exchange", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
                return -1;
        close(fd);
        return renameat2(AT_FDCWD, HIDDEN(hidden_exchange), AT_FDCWD, "project/seen-exchange", RENAME_EXCHANGE) < 0
                       ? -1
                       : reached_secret_file(AT_FDCWD, "project/seen-exchange");
}
/* By a rule about a name in a directory: is it still hidden when that has another name? */
static long probe_hidden_move_parent(void) {
        return rename("moving", "moved") < 0 ? -1 : reached_secret_file(AT_FDCWD, "moved/keys/hidden_move_parent");
}
static long probe_hidden_exchange_parent(void) {
        return renameat2(AT_FDCWD, "exchanged-a", AT_FDCWD, "exchanged-b", RENAME_EXCHANGE) < 0
                       ? -1
                       : reached_secret_file(AT_FDCWD, "exchanged-b/keys/hidden_exchange_parent");
}
/* A directory by the hidden one's name: does it merge with that? */
static long probe_hidden_merge(void) {
        (void) mkdir("merged/keys", 0755);
        return reached_secret_file(AT_FDCWD, "merged/keys/hidden_merge");
}
static long probe_hidden_remove_merge(void) {
        (void) mkdir("removed/keys", 0755);
        (void) rename("removed/keys", "removed/other");
        (void) mkdir("removed/keys", 0755);
        return reached_secret_file(AT_FDCWD, "removed/keys/hidden_remove_merge") >= 0 ? 0 : reached_secret_file(AT_FDCWD, "removed/other/hidden_remove_merge");
}
static long probe_hidden_mmap(void) {
        int fd = open(HIDDEN(hidden_mmap), O_RDONLY | O_CLOEXEC);
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, 64, PROT_READ, MAP_PRIVATE, fd, 0);
        return map == MAP_FAILED ? -1 : reached_secret(map, strnlen(map, 64));
}
/* By the way that each process has to where it is. */
static long probe_hidden_proc_cwd(void) {
        return reached_secret_file(AT_FDCWD, "/proc/self/cwd/" HIDDEN(hidden_proc_cwd));
}
static long probe_hidden_proc_root(void) {
        char cwd[512], path[640];
        if (!getcwd(cwd, sizeof cwd))
                return -1;
        snprintf(path, sizeof path, "/proc/self/root%s/%s", cwd, HIDDEN(hidden_proc_root));
        return reached_secret_file(AT_FDCWD, path);
}
/* A file put over it and taken away again: is there what was there? Where nothing hides it, it is open before. */
static long probe_hidden_rename_over(void) {
        int before = open(HIDDEN(hidden_rename_over), O_RDONLY | O_CLOEXEC);
        int fd = open("project/over", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0)
                return -1;
        close(fd);
        (void) !mkdir("project/.ssh", 0755);
        (void) !rename("project/over", HIDDEN(hidden_rename_over));
        (void) !unlink(HIDDEN(hidden_rename_over));
        if (before >= 0)
                return reached_secret_fd(before);
        return reached_secret_file(AT_FDCWD, HIDDEN(hidden_rename_over));
}
static long probe_hidden_create_over(void) {
        int fd = open(HIDDEN(hidden_create_over), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        return fd < 0 ? -1 : reached_secret_fd(fd);
}
/* The marks by which overlays find their files, made by the payload itself. */
static long probe_overlay_redirect(void) {
        char value[512];
        snprintf(value, sizeof value, "%s", target("outside") ? target("outside") : "/");
        if (mkdir("redirected", 0755) < 0 && errno != EEXIST)
                return -1;
        if (syscall(SYS_setxattr, "redirected", "user.overlay.redirect", value, strlen(value), 0) < 0)
                return -1;
        return reached("user.overlay.redirect is set");
}
static long probe_overlay_opaque(void) {
        /* usbox-fs marks new directories so itself, with another value. */
        if (mkdir("opaque", 0755) < 0 && errno != EEXIST)
                return -1;
        return syscall(SYS_setxattr, "opaque", "user.overlay.opaque", "attack", 6, 0) < 0 ? -1 : reached("user.overlay.opaque is set");
}

/* what the caller leaves */
static long probe_environment(void) {
        const char *value = getenv("USBOX_ATTACK_SECRET");
        errno = ENOENT;
        return value ? reached_secret(value, strlen(value)) : -1;
}
static long probe_fd_file(void) {
        static char data[4096];
        long ret = -1;
        for (int fd = 3; fd < 1024; fd++) {
                ssize_t n = pread(fd, data, sizeof data, 0);
                if (n > 0 && reached_secret(data, (size_t) n) >= 0)
                        ret = 0;
        }
        return ret;
}
static long probe_fd_directory(void) {
        for (int fd = 3; fd < 1024; fd++)
                if (reached_secret_file(fd, "secret") >= 0)
                        return 0;
        return -1;
}
static long probe_fd_socket(void) {
        for (int fd = 3; fd < 1024; fd++) {
                struct stat st;
                if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && reached_secret_fd(fd) >= 0)
                        return 0;
        }
        errno = EBADF;
        return -1;
}
/* stdin is a file of the caller's, opened for reading. */
static long probe_stdin_reopen_write(void) {
        int fd = open("/proc/self/fd/0", O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -1 : write(fd, "owned", 5);
}
/* stderr is another, opened for appending, with a secret from before. */
static long probe_stderr_reopen_read(void) {
        char data[4096];
        int fd = open("/proc/self/fd/2", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data);
        return n < 0 ? -1 : reached_secret(data, (size_t) n);
}
static long probe_stderr_reopen_truncate(void) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_TRUNC | O_CLOEXEC);
        return fd < 0 ? -1 : 0;
}

const Probe files_probes[] = {
        PROBE(file_home),           PROBE(file_outside),       PROBE(file_dotdot),        PROBE(file_tmp),
        PROBE(file_var_tmp),        PROBE(file_shm),           PROBE(file_runtime),       PROBE(file_link),
        PROBE(file_move_parent),    PROBE(file_merge),         PROBE(file_merge_home),    PROBE(file_second_root),
        PROBE(file_above),          PROBE(file_above_listed),  PROBE(file_place),          PROBE(file_place_deep),
        PROBE(file_place_group),    PROBE(file_place_closed),  PROBE(file_place_link),     PROBE(file_place_rename),
        PROBE(file_place_mode),     PROBE(file_place_merge),   PROBE(file_tool_place),     PROBE(file_tool_name),
        PROBE(hidden_open),         PROBE(hidden_list),        PROBE(hidden_spelling),    PROBE(hidden_opath),
        PROBE(hidden_dir_opath),    PROBE(hidden_symlink),     PROBE(hidden_hard_link),   PROBE(hidden_rename),
        PROBE(hidden_exchange),     PROBE(hidden_move_parent), PROBE(hidden_exchange_parent), PROBE(hidden_merge),
        PROBE(hidden_mmap),         PROBE(hidden_create_over), PROBE(hidden_remove_merge), PROBE(overlay_redirect),
        PROBE(hidden_proc_cwd),     PROBE(hidden_proc_root),   PROBE(hidden_rename_over), PROBE(hidden_handle),
        PROBE(overlay_opaque),      PROBE(environment),        PROBE(fd_file),            PROBE(fd_directory),
        PROBE(fd_socket),           PROBE(stdin_reopen_write), PROBE(stderr_reopen_read), PROBE(stderr_reopen_truncate),
        { NULL, NULL },
};
