/*
 * qcow2_chain.h: a chain of images in QCOW2 format, opened for reading: what is the same for all who read it.
 *
 *   image 0   |--------------------------|      the disk is as long as the nearest image
 *   image 1   |----------------|.........|      behind the end of an image all below it is hidden:
 *   image 2   |----------------------|            nothing of image 2 is shown there, either
 *
 * Kept in memory are the L1 tables: 8 bytes for 512 MiB of each image, no more than NTX_QCOW2_MAX_TABLES for all.
 * Never changed once it is opened, and shared by all threads; it goes with the last user.
 */
#ifndef NTX_QCOW2_CHAIN_H
#define NTX_QCOW2_CHAIN_H

#include "qcow2_header.h"

#include <stdatomic.h>

#define NTX_QCOW2_MAX_IMAGES 1024u           /* of a chain */
#define NTX_QCOW2_MAX_TABLES (64u * NTX_MIB) /* of L1 tables: a chain of 100 disks of 40 TiB */

struct ntx_qcow2_layer {
    int fd;
    bool is_zstd;
    uint64_t file_size; /* when it was opened */
    uint64_t shown;     /* bytes of the disk in which it is shown */
    uint64_t entries;   /* of l1, for what is shown */
    uint64_t *l1;       /* in the byte order of this machine; not checked yet */
};

struct ntx_qcow2_chain {
    atomic_uint users;
    size_t count; /* of images, nearest first */
    uint64_t size;
    struct ntx_qcow2_layer *images;
};

/*
 * Open count images; the caller is the first user.  May read all L2 tables of an image: of one that is not compressed
 * by zstd, to see that it is not compressed in another way.
 * Ownership: fds are duplicated.  Names of backing files in headers are not looked at.
 * Errors:    0, or -ENOTSUP: others can read it, and -EUCLEAN: it is damaged (DEVICE: the file, its place, and what),
 *            -errno of fcntl/fstat/pread, -ENOMEM, -EINVAL (no image, too many).
 */
int ntx_qcow2_chain_open(const char *name, const int *fds, size_t count, struct ntx_qcow2_chain **chain,
                         struct ntx_error *err);

/* The chain that a device reads, borrowed; NULL: it is another device (device_chain.c). */
struct ntx_qcow2_chain *ntx_qcow2_chain_of(struct ntx_device *device);

/* Bytes of memory that all its users share. */
uint64_t ntx_qcow2_chain_bytes(const struct ntx_qcow2_chain *chain);

/* One user more; for a user. */
void ntx_qcow2_chain_share(struct ntx_qcow2_chain *chain);

/* One user less.  NULL is allowed. */
void ntx_qcow2_chain_release(struct ntx_qcow2_chain *chain);

#endif
