/*
 * qcow2_pack.h: clusters of a disk made smaller, and gathered until two MiB of the file are full of them.
 *
 *   64 KiB --zstd--> frame --unpacked again, compared--> [ frame | frame | fra.. ] --one write--> file, map
 *                                                        32 clusters of the file
 *
 * A frame begins where the one before ends: it may lie in two clusters, and a cluster has parts of many.  All of them
 * belong to the pack, which is written once.  What was taken is in the file once it was settled, and not
 * before.  A pack belongs to one thread.
 */
#ifndef NTX_QCOW2_PACK_H
#define NTX_QCOW2_PACK_H

#include "qcow2_image.h"

struct ntx_qcow2_pack;

/* Of memory that one takes, about: what of it counts with the buffers of a job. */
#define NTX_QCOW2_PACK_BYTES (3u * NTX_MIB)

/* The same, at most. */
uint32_t ntx_qcow2_pack_bytes(int level);

/* A pack for an image, which is borrowed; fd is of its file.  NULL: no memory.  level: of zstd. */
struct ntx_qcow2_pack *ntx_qcow2_pack_new(struct ntx_qcow2_image *image, int level);

/* What was not settled is lost.  NULL is allowed. */
void ntx_qcow2_pack_free(struct ntx_qcow2_pack *pack);

/*
 * Take the contents of a cluster of the disk.
 * Errors: > 0: taken, and so many bytes are kept for it; 0: it does not become smaller; -EILSEQ: what zstd made of it
 *         is unpacked as something else; -errno of settling what was taken before.
 */
int ntx_qcow2_pack_take(struct ntx_qcow2_pack *pack, uint64_t cluster, const uint8_t *data, int fd);

/* Whether it has any of count clusters of the disk that is not settled. */
bool ntx_qcow2_pack_has(const struct ntx_qcow2_pack *pack, uint64_t first, uint64_t count);

/* Write what was taken to fd, and enter it into the map.  fd may be one for direct I/O.  Errors: 0, or -errno: some of
 * it is lost, and the pack of no use any more. */
int ntx_qcow2_pack_settle(struct ntx_qcow2_pack *pack, int fd);

#endif
