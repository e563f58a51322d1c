/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box could see of the host: written by its launcher, read by the verbs that review it.
 *
 * Role: launcher; diff, commit. Privileges: the caller's. Threads: one. Order: right after GO; and when all is over.
 *
 * With the kernel's overlays there are no rules for a file system but a plan of nodes, which says the same: so it is written down as the
 * rules that usbox-fs would have got, and who reads them need not know the difference.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/lowers.h"
#include "mountinfo.h"
#include "root-hooks.h"
#include "seen.h"
#include "state.h"

#define SEEN_MAX (16 * 1024 * 1024)
#define SEEN_ROOM 8192
#define SEEN_ROOM_EACH 128
#define SEEN_SIGNATURE "(xuxaybuuaayaayaayaayaya{sv})" /* since, boot, lower, fuse, root's ids, own, ways, through, options, cwd, FsConfig */
/* What two looks at the clocks may differ by where nobody has set one. */
#define CLOCK_SLACK_NS (20 * G_GINT64_CONSTANT(1000000))
#define NS_PER_S G_GINT64_CONSTANT(1000000000)

static void add_path(GVariantBuilder *list, const char *path) {
        g_autofree char *absolute = g_strconcat("/", path, NULL);
        g_variant_builder_add(list, "^ay", absolute);
}

/* What stands in the root, in the words of usbox-fs. */
static GVariant *rules_of_nodes(const RootPlan *plan) {
        g_autoptr(FsConfig) config = fs_config_new();
        g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                char *path = g_strconcat("/", entry->path, NULL);
                if (entry->kind == LAYER_ABSENT)
                        fs_config_add_rule(config, FS_RULE_HIDE, path);
                g_hash_table_add(known, path);
        }
        for (guint i = 0; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                char *path = g_strconcat("/", node->path, NULL);
                if (g_hash_table_add(known, path))
                        fs_config_add_rule(config, node->kind == ROOT_OVERLAY && node->host.path ? FS_RULE_SHOW : FS_RULE_EMPTY, path);
        }
        return fs_config_pack(config);
}

static GVariant *own_files(const RootPlan *plan) {
        GVariantBuilder list;

        g_variant_builder_init(&list, G_VARIANT_TYPE("aay"));
        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                if (entry->kind == LAYER_FILE && !entry->over)
                        add_path(&list, entry->path);
        }
        return g_variant_builder_end(&list);
}

/* path and all above it. */
static void add_ways(GVariantBuilder *list, const char *path) {
        g_autofree char *at = g_strdup(path);

        while (*at) {
                add_path(list, at);
                char *slash = strrchr(at, '/');
                *(slash ? slash : at) = '\0';
        }
}

static GVariant *made_directories(const RootPlan *plan) {
        GVariantBuilder list;

        g_variant_builder_init(&list, G_VARIANT_TYPE("aay"));
        for (guint i = 0; !plan->fs && i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->kind == ROOT_OVERLAY && !node->read_only)
                        add_ways(&list, node->path);
        }
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(source->hooks, j);
                        g_autofree char *parent = g_path_get_dirname(hook->path);
                        add_ways(&list, parent);
                        /* One that comes to be is moved to upper/ from the host. */
                        if (hook->is_dir || !hook->host.path)
                                add_path(&list, hook->path);
                }
        }
        return g_variant_builder_end(&list);
}

/* Trees that were written through, of which upper/ has the hooks: the rules do not speak of them, since usbox-fs does not serve them. */
static GVariant *written_through(const RootPlan *plan) {
        GVariantBuilder list;

        g_variant_builder_init(&list, G_VARIANT_TYPE("aay"));
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                if (source->hooks)
                        g_variant_builder_add(&list, "^ay", source->op->dst);
        }
        return g_variant_builder_end(&list);
}

static guint32 box_root(const GArray *map) {
        guint32 host;
        return user_map_to_host(map, 0, &host) ? host : G_MAXUINT32;
}

/* About what seen_write() writes, and more rather than less. */
static off_t room(const RootPlan *plan) {
        return SEEN_ROOM + (off_t) SEEN_ROOM_EACH * (plan->entries->len + plan->nodes->len + (plan->fs ? plan->fs->rules->len : 0));
}

/*
 * A file's ctime is only as fine as the kernel's tick, unless somebody looked at it since it changed last; then it is exact, and nothing that changes later
 * on any file system of that kind has an earlier one (timekeeping_get_mg_floor, Linux 6.13). So: look, change, look.
 */
bool seen_begin(int box_fd, const RootPlan *plan, int *ret_fd, struct timespec *ret_since, GError **error) {
        struct stat st;

        *ret_fd = openat(box_fd, SEEN_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (*ret_fd < 0 && errno == EEXIST) /* an earlier run's: what that did is in upper/, too */
                return true;
        /* The command may fill the disk before the rest is written. */
        int errnum = *ret_fd < 0 ? errno : posix_fallocate(*ret_fd, 0, room(plan));
        if (errnum != 0) {
                err_set(error, errnum, "note what the box sees of the host");
                return state_hint_full(error);
        }
        if (fstat(*ret_fd, &st) < 0 || fchmod(*ret_fd, 0600) < 0 || fstat(*ret_fd, &st) < 0)
                return err_set(error, errno, "note what the box sees of the host");
        *ret_since = st.st_ctim;
        return true;
}

static gint64 clock_ns(clockid_t id) {
        struct timespec now = { 0 };

        (void) clock_gettime(id, &now);
        return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* When the machine was booted, by the clock that gives files their times: another time when that was set. Of three looks the one that took least. */
static gint64 boot_by_clock(void) {
        gint64 best = G_MAXINT64, boot = 0;

        for (int i = 0; i < 3; i++) {
                gint64 before = clock_ns(CLOCK_BOOTTIME), real = clock_ns(CLOCK_REALTIME), after = clock_ns(CLOCK_BOOTTIME);
                if (after - before < best) {
                        best = after - before;
                        boot = real - after;
                }
        }
        return boot;
}

void seen_set_back(struct timespec *since, gint64 boot_then, gint64 boot_now) {
        gint64 ns = since->tv_sec * NS_PER_S + since->tv_nsec, back = boot_then - boot_now;

        if (back <= CLOCK_SLACK_NS)
                return;
        ns = MAX(ns - back, 0);
        *since = (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

bool seen_write(int fd, const struct timespec *since, const Spec *spec, const RootPlan *plan, GError **error) {
        const char *lower = spec->root.rootfs ? spec->root.rootfs : "/";
        const char *const none[] = { NULL }, *const *typed = spec->box.typed ? (const char *const *) spec->box.typed : none;
        g_autofree char *full = g_canonicalize_filename(lower, spec->caller.cwd), *real = path_real(full);
        GVariant *rules = plan->fs ? fs_config_pack(plan->fs) : rules_of_nodes(plan);
        if (!real) /* it has gone meanwhile */
                real = g_steal_pointer(&full);
        GVariant *body = g_variant_new("(xux^aybuu@aay@aay@aay^aay^ay@a{sv})", (gint64) since->tv_sec, (guint32) since->tv_nsec, boot_by_clock(), real,
                                       plan->fs != NULL, box_root(spec->user.uidmap), box_root(spec->user.gidmap), own_files(plan), made_directories(plan),
                                       written_through(plan), typed, spec->caller.cwd, rules);
        g_autoptr(GVariant) seen = g_variant_ref_sink(body);

        return (fd_write_all(fd, g_variant_get_data(seen), g_variant_get_size(seen)) && ftruncate(fd, (off_t) g_variant_get_size(seen)) == 0) ||
               err_set(error, errno, "note what the box sees of the host");
}

static GHashTable *path_set(GVariant *list) {
        GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        gsize n = g_variant_n_children(list);

        for (gsize i = 0; i < n; i++) {
                g_autoptr(GVariant) path = g_variant_get_child_value(list, i);
                g_hash_table_add(set, g_strdup(g_variant_get_bytestring(path)));
        }
        return set;
}

Seen *seen_read(int box_fd, GError **error) {
        g_autofree char *data = NULL;
        gsize len;

        if (!fd_read_file(box_fd, SEEN_FILE, SEEN_MAX, &data, &len)) {
                err_set(error, errno, "read what the box saw of the host");
                err_hint(error, "the box was not started to its end, or its directory is damaged: usbox drop");
                return NULL;
        }
        g_autoptr(GVariant) seen =
                g_variant_ref_sink(g_variant_new_from_data(G_VARIANT_TYPE(SEEN_SIGNATURE), data, len, false, NULL, NULL));
        if (!g_variant_is_normal_form(seen)) {
                err_set(error, 0, "what the box saw of the host cannot be read");
                err_hint(error, "the box's directory is damaged: usbox drop");
                return NULL;
        }
        g_autoptr(Seen) ret = g_new0(Seen, 1);
        g_autoptr(GVariant) own = NULL, ways = NULL, through = NULL, rules = NULL;
        gint64 sec, boot;
        guint32 nsec;
        gboolean fuse;
        g_variant_get(seen, "(xux^aybuu@aay@aay@aay^aay^ay@a{sv})", &sec, &nsec, &boot, &ret->lower, &fuse, &ret->root_uid, &ret->root_gid, &own, &ways,
                      &through, &ret->options, &ret->cwd, &rules);
        ret->since = (struct timespec){ .tv_sec = sec, .tv_nsec = nsec };
        seen_set_back(&ret->since, boot, boot_by_clock());
        ret->fuse = fuse;
        ret->own = path_set(own);
        ret->ways = path_set(ways);
        ret->rules = fs_config_parse(rules, error);
        if (!ret->rules)
                return NULL;
        ret->through = path_set(through);
        for (guint i = ret->rules->rules->len; i-- > 0;)
                if (g_hash_table_contains(ret->through, ((FsRule *) ret->rules->rules->pdata[i])->path))
                        g_ptr_array_remove_index(ret->rules->rules, i);
        GHashTableIter iter;
        gpointer path;
        g_hash_table_iter_init(&iter, ret->through);
        while (g_hash_table_iter_next(&iter, &path, NULL))
                fs_config_add_rule(ret->rules, FS_RULE_SHOW, path);
        return g_steal_pointer(&ret);
}

static bool is_marked(int dirfd, const char *name) {
        g_autofree char *mark = layer_xattr(dirfd, name, WAY_ATTRIBUTE, NULL);
        return mark != NULL;
}

bool seen_is_way(const Seen *seen, int upper, int dirfd, const char *name, const char *path) {
        return g_hash_table_contains(seen->ways, path) && (is_marked(dirfd, name) || !is_marked(upper, NULL));
}

bool seen_by_kernel(const Seen *seen, const char *path) {
        g_autofree char *at = g_strdup(path);

        if (!seen->fuse)
                return true;
        for (char *slash; !g_hash_table_contains(seen->through, at); *slash = '\0')
                if ((slash = strrchr(at, '/')) == at)
                        return false;
        return true;
}

void seen_free(Seen *seen) {
        if (!seen)
                return;
        g_free(seen->lower);
        g_strfreev(seen->options);
        g_free(seen->cwd);
        g_clear_pointer(&seen->own, g_hash_table_unref);
        g_clear_pointer(&seen->ways, g_hash_table_unref);
        g_clear_pointer(&seen->through, g_hash_table_unref);
        g_clear_pointer(&seen->rules, fs_config_free);
        g_free(seen);
}
