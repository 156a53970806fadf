/*
 * qcow2_share.h: clusters that an image takes over from a chain of others without their bytes being written: the file
 * system lets both files have the same blocks, where it can (FICLONERANGE of Linux: XFS, Btrfs and others).
 *
 *   chain   image 2  | a b c d |            a cluster that lies whole at a multiple of 64 KiB
 *                        ^ ^
 *   image            | . b c . . |          is the same blocks of the disk then, until one of the two is changed
 *
 * For one thread.
 */
#ifndef NTX_QCOW2_SHARE_H
#define NTX_QCOW2_SHARE_H

#include "qcow2_window.h"

struct ntx_qcow2_sharer;

/* NULL: no memory.  The chain is borrowed. */
struct ntx_qcow2_sharer *ntx_qcow2_sharer_new(const struct ntx_qcow2_chain *chain);

/* NULL is allowed. */
void ntx_qcow2_sharer_free(struct ntx_qcow2_sharer *sharer);

/* Whether it has not failed yet.  Once it has it is not tried again. */
bool ntx_qcow2_can_share(const struct ntx_qcow2_sharer *sharer);

/*
 * Let fd have at host what the disk of the chain has at offset.
 * Units:   offset, *length and host are multiples of the cluster.  *length is set to what was shared, from offset on;
 *          or, for false, to what has to be written before there may be something to share again.  It is at least a
 *          cluster.
 */
bool ntx_qcow2_share(struct ntx_qcow2_sharer *sharer, int fd, uint64_t offset, uint64_t host, uint64_t *length);

#endif
