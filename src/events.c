/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file of events: what `usbox events` shows.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: after the command was started, and in step 11. Each line is one write(2)
 * with O_APPEND, so that the lines of two launchers never mix.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "events.h"
#include "jsontext.h"

/* The size at which the file becomes the old one. */
#define EVENTS_MAX (512 * 1024)

/* Once for each file. By its name alone a launcher that was told of the size a moment ago would put the new file, with next to nothing in it, in the old one's
 * place. Never waited for: who has it locked may be stopped, and whoever writes next rotates. */
static void rotate(int runtime_fd, int fd, const struct stat *written) {
        struct stat now;

        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstatat(runtime_fd, EVENTS_FILE, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == written->st_ino)
                (void) renameat(runtime_fd, EVENTS_FILE, runtime_fd, EVENTS_OLD);
}

void events_append(int runtime_fd, const char *event, const char *id, const char *name, json_t *fields_take) {
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();
        g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
        json_t *object = json_object();
        struct stat st;

        json_object_set_new(object, "time", json_string(time));
        json_object_set_new(object, "event", json_string(event));
        json_object_set_new(object, "id", json_string(id));
        json_object_set_new(object, "name", name ? json_string(name) : json_null());
        if (fields_take)
                json_object_update_missing(object, fields_take);
        json_decref(fields_take);
        g_autofree char *line = jsontext_line(object);

        _cleanup_close_ int fd = openat(runtime_fd, EVENTS_FILE, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        size_t len = strlen(line);
        if (fd < 0 || write(fd, line, len) != (ssize_t) len || fstat(fd, &st) < 0)
                log_step("events: %s", err_text(errno));
        else if (st.st_size > EVENTS_MAX)
                rotate(runtime_fd, fd, &st);
}
