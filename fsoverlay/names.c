/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations that find names and let go of them: lookup, forget. create.c makes them, remove.c takes them away and moves them.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any.
 */
#include <errno.h>
#include <string.h>

#include "fsoverlay/ops.h"

Node *node_of_id(Fs *fs, uint64_t id) {
        return id == FUSE_ROOT_ID ? fs->root : (Node *) (uintptr_t) id;
}

uint64_t id_of_node(const Fs *fs, const Node *node) {
        return node == fs->root && !atomic_load_explicit(&fs->root_has_id, memory_order_relaxed) ? FUSE_ROOT_ID : (uint64_t) (uintptr_t) node;
}

void reply_entry(Request *r, Node *node, const struct stat *st, struct fuse_entry_out *ret) {
        uint64_t valid = entry_valid(r->fs, node);
        *ret = (struct fuse_entry_out){ .nodeid = id_of_node(r->fs, node), .entry_valid = valid, .attr_valid = valid };
        attr_fill(r->fs, node, st, &ret->attr);
}

unsigned hint_layer(const Hint *hint, const Node *parent) {
        return hint && hint->version == atomic_load(&parent->dir->version) ? hint->layer : 0;
}

int entry_lookup(Fs *fs, Node *parent, const char *name, const Hint *hint, Node **ret, struct stat *ret_st) {
        Found found;
        bool new_name = false;

        pthread_rwlock_rdlock(&fs->tree);
        int r = lookup_name(fs, parent, name, hint_layer(hint, parent), &found);
        Node *node = r == 0 ? node_get(fs, parent, name, &found, &new_name) : NULL;
        if (r == 0 && !node)
                r = -ENOMEM;
        if (r == 0) {
                *ret_st = found.st;
                found_clear(&found);
                /* What was found is what it is, but for numbers of links and owners that are noted. */
                bool merged = S_ISDIR(node_type(node)) && dir_has_lower(node);
                if ((merged ? found.layer != dir_attr_layer(fs, node) : !S_ISDIR(node_type(node)) && (ret_st->st_nlink > 1 || node_is(node, NODE_INDEXED))) ||
                    (node_is(node, NODE_UPPER) && atomic_load_explicit(&fs->owners, memory_order_relaxed)))
                        r = node_stat(fs, node, ret_st);
                else if (merged)
                        count_links(fs, node, ret_st);
        }
        pthread_rwlock_unlock(&fs->tree);
        if (r == 0 && new_name) {
                pthread_rwlock_wrlock(&fs->tree);
                bool was_nameless = node_is(node, NODE_NAMELESS);
                if (!node_add_name(fs, node, parent, name))
                        r = -ENOMEM;
                else if (was_nameless)
                        fd_unpin(fs, node);
                pthread_rwlock_unlock(&fs->tree);
        }
        if (r < 0 && node)
                node_unref(fs, node, 1);
        *ret = r < 0 ? NULL : node;
        return r;
}

/*
 * The root by its second id (FS_ROOT_NAME). The kernel makes the inode of FUSE_ROOT_ID before it has heard of FUSE_POSIX_ACL, and keeps
 * no ACL of that one (fuse_init_inode(): ACL_DONT_CACHE): each path from "/" would ask for it. This one's is kept like any other.
 */
static int lookup_root(Request *r) {
        struct stat st;

        pthread_rwlock_rdlock(&r->fs->tree);
        int n = node_stat(r->fs, r->fs->root, &st);
        pthread_rwlock_unlock(&r->fs->tree);
        if (n < 0)
                return n;
        atomic_store(&r->fs->root_has_id, true);
        reply_entry(r, r->fs->root, &st, r->out);
        r->out_len = sizeof(struct fuse_entry_out);
        return 0;
}

int op_lookup(Request *r) {
        const char *name = r->in_len > 0 && memchr(r->in, '\0', r->in_len) ? r->in : NULL;
        struct fuse_entry_out *out = r->out;
        struct stat st = { 0 };
        Node *node;

        if (!name)
                return -EINVAL;
        if (strlen(name) > NAME_LEN_MAX)
                return -ENAMETOOLONG;
        if (!request_name(r, 0))
                return -EINVAL;
        if (r->fs->second_root && r->head->nodeid == FUSE_ROOT_ID && g_str_equal(name, FS_ROOT_NAME))
                return lookup_root(r);
        int n = entry_lookup(r->fs, r->node, name, NULL, &node, &st);
        if (n == -ENOENT) {
                if (r->fs->journal)
                        journal_name(r->fs, r->node, name, "absent");
                /* An absent name is worth remembering, too: node 0. */
                *out = (struct fuse_entry_out){ .entry_valid = entry_valid(r->fs, dir_has_lower(r->node) ? NULL : r->node) };
                r->out_len = sizeof *out;
                return 0;
        }
        if (n < 0)
                return n;
        reply_entry(r, node, &st, out);
        r->out_len = sizeof *out;
        return 0;
}

int op_forget(Request *r) {
        const struct fuse_forget_in *in = r->in;
        r->no_reply = true;
        if (r->node != r->fs->root)
                node_unref(r->fs, r->node, in->nlookup);
        nodes_trim(r->fs);
        return 0;
}

int op_batch_forget(Request *r) {
        const struct fuse_batch_forget_in *in = r->in;
        const struct fuse_forget_one *one = (const struct fuse_forget_one *) (in + 1);

        r->no_reply = true;
        for (uint32_t i = 0; i < in->count && (i + 1) * sizeof *one + sizeof *in <= r->in_len; i++)
                if (one[i].nodeid && node_of_id(r->fs, one[i].nodeid) != r->fs->root)
                        node_unref(r->fs, node_of_id(r->fs, one[i].nodeid), one[i].nlookup);
        nodes_trim(r->fs);
        return 0;
}
