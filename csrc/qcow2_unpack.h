/*
 * qcow2_unpack.h: compressed clusters, read with what follows on them in the file, and unpacked.
 *
 *   file    ...|frame |frame   |frame|...        one read for several
 *                  `--> 64 KiB
 *
 * A frame is one of zstd that gives a whole cluster, neither more nor less.  It is unpacked right into its place, so
 * that no size it claims to have makes anything be allocated: kept are 320 KiB, and the context of the library.  For
 * one thread.
 */
#ifndef NTX_QCOW2_UNPACK_H
#define NTX_QCOW2_UNPACK_H

#include "qcow2_format.h"

#define NTX_QCOW2_PACKED_READ (4u * NTX_QCOW2_CLUSTER) /* bytes of frames that are read at once */

struct ntx_qcow2_unpacker;

/* Bytes of a file that hold a cluster. */
struct ntx_qcow2_packed {
    int fd;
    uint32_t image;  /* which file it is */
    uint32_t length; /* of the frame or a little more, at most 2 clusters */
    uint64_t place;
    uint64_t end; /* it is worth to read up to here, at most NTX_QCOW2_PACKED_READ behind place */
};

/* Bytes of memory that one takes, the context of the library with it. */
size_t ntx_qcow2_unpacker_bytes(void);

/* NULL: no memory. */
struct ntx_qcow2_unpacker *ntx_qcow2_unpacker_new(void);

/* NULL is allowed. */
void ntx_qcow2_unpacker_free(struct ntx_qcow2_unpacker *unpacker);

/*
 * Give length bytes of the cluster, from its byte offset on.
 * Errors: 0, or a negative errno of ntx_read_at() with *at where in the file, or -EUCLEAN: *what is wrong with the
 * frame.
 */
int ntx_qcow2_unpack(struct ntx_qcow2_unpacker *unpacker, const struct ntx_qcow2_packed *packed, uint32_t offset,
                     void *data, uint32_t length, uint64_t *at, const char **what);

#endif
