/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a node is: a directory's descriptor and a name in it, for calls that take the two.
 *
 * Role: usbox-fs. Privileges: the caller's; the agent's for directories of the upper that the caller may not search. Threads: any; the
 * caller holds Fs.tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fsoverlay/fs.h"

unsigned dir_attr_layer(const Fs *fs, const Node *node) {
        if (node_is(node, NODE_UPPER))
                return LAYER_UPPER;
        unsigned i = 0;
        while (i + 1u < node->dir->n && fs->layers[node->dir->lower[i].layer].places)
                i++;
        return node->dir->lower[i].layer;
}

int place_get(Fs *fs, Node *node, Place *ret) {
        int r = 0;

        *ret = (Place){ .dir = -1, .fd = -1 };
        if (node_is(node, NODE_INDEXED)) {
                ret->dir = fs->links;
                links_name(ret->name, "", node->ino);
                return 0;
        }
        if (node_is(node, NODE_NAMELESS)) {
                ret->held = fd_pinned(fs, node);
                if (!ret->held)
                        return -ESTALE;
                ret->fd = ret->held->fd;
                return 0;
        }
        if (node == fs->root) {
                ret->dir = fs->layers[dir_attr_layer(fs, node)].root;
                strcpy(ret->name, ".");
                return 0;
        }
        unsigned layer = node_layer(node);
        if (S_ISDIR(node_type(node))) {
                /* Its name here may be another below: the directory itself. */
                ret->held = fd_dir(fs, node, dir_attr_layer(fs, node), &r);
                if (!ret->held)
                        return r;
                ret->dir = ret->held->fd;
                strcpy(ret->name, ".");
                return 0;
        }
        ret->held = fd_dir(fs, node->parent, layer, &r);
        if (!ret->held)
                return r;
        ret->dir = ret->held->fd;
        g_strlcpy(ret->name, node_name(node), sizeof ret->name);
        return 0;
}

void place_put(Fs *fs, Place *place) {
        fd_put(fs, place->held);
        place->held = NULL;
}

int place_stat(Fs *fs, const Place *place, struct stat *ret) {
        /* "." wants the right to search the directory, its descriptor does not. */
        bool itself = place->dir < 0 || strcmp(place->name, ".") == 0;
        int r = itself ? fstat(place->dir < 0 ? place->fd : place->dir, ret)
                       : fstatat(place->dir, place->name, ret, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
        if (r < 0 && errno == EACCES && fs->agent && place->dir >= 0)
                return agent_stat(fs->agent, place->dir, place->name, ret);
        return r < 0 ? -errno : 0;
}

int place_get_stat(Fs *fs, Node *node, Place *ret, struct stat *ret_st) {
        int r = place_get(fs, node, ret);

        if (r == 0 && (r = place_stat(fs, ret, ret_st)) < 0)
                place_put(fs, ret);
        return r;
}
