/*
 * qcow2_image.h: an image in QCOW2 format that is being written: once, and only at its end.
 *
 *   no header, first cluster zero         clusters are written behind each other; nobody takes the file for an image
 *   L2, L1, counts, header but for its    likewise
 *     magic written and synced
 *   magic written and synced              an image, and whole
 *
 * No cluster is ever changed or used again: a block that is written twice gets another cluster, and the map forgets the
 * first.  So nothing that is stored can be damaged by what is stored later.  What nothing refers to stays a gap.
 */
#ifndef NTX_QCOW2_IMAGE_H
#define NTX_QCOW2_IMAGE_H

#include "ntx_image.h"
#include "qcow2_chain.h"
#include "qcow2_map.h"

#include <stdatomic.h>

#define NTX_QCOW2_MAX_FRAMES 2048u /* that lie, or have a part, in one cluster of the file */

struct ntx_qcow2_image {
    atomic_uint users; /* devices */
    char *path;
    char *backing_name; /* "": none */
    uint64_t size;      /* of the disk */
    int fd;
    struct ntx_qcow2_map map;
    _Atomic uint64_t end;           /* of what has a cluster: the next one goes there.  A multiple of the cluster */
    _Atomic uint64_t room;          /* the end of what the file system has made room for; UINT64_MAX: it does not */
    bool is_whole;                  /* the header is there */
    int zstd_level;                 /* 0: clusters are stored as they are */
    struct ntx_qcow2_chain *shared; /* what is written is there, too, and its clusters may be shared; NULL: nothing */
};

/* The file that exists: an empty one, or, for an image that is gone on with, of one that was open before.
 * Errors: see ntx_open_qcow2(). */
int ntx_qcow2_image_open(const struct ntx_qcow2_options *options, struct ntx_qcow2_image **image,
                         struct ntx_error *err);

/* One user more; and one less, with the last of which everything is closed.  NULL is allowed. */
struct ntx_qcow2_image *ntx_qcow2_image_share(struct ntx_qcow2_image *image);
void ntx_qcow2_image_release(struct ntx_qcow2_image *image);

/* Take clusters for so many bytes, a multiple of the cluster; returns where they are.  Threads: any. */
static inline uint64_t ntx_qcow2_image_take(struct ntx_qcow2_image *image, uint64_t bytes)
{
    return atomic_fetch_add_explicit(&image->end, bytes, memory_order_relaxed);
}

/* Have the file system make room for what is written from `from` to `to`, and some more: direct writes behind the end
 * of a file wait for each other, and those into room that is there do not.  What is left over is cut off when the image
 * is finished.  Where it cannot, nothing is lost: a write that has no room fails for itself.  Threads: any. */
void ntx_qcow2_image_make_room(struct ntx_qcow2_image *image, uint64_t from, uint64_t to);

/*
 * Read back what was written, of an image that has none below it.
 * Units:   offset is a multiple of the cluster.  Threads: any; not what is being written, nor once it is whole.
 * Errors:  -ENOTSUP (an overlay: what is below is not known here), -EBADMSG (the map is damaged), or -errno of reading.
 */
int ntx_qcow2_image_read(struct ntx_qcow2_image *image, uint64_t offset, uint64_t length, uint8_t *data);

/* Bytes of memory that it takes to finish an image of a disk of size bytes, at most. */
uint64_t ntx_qcow2_image_finish_bytes(uint64_t size);

/* Write the tables and the header, then its magic.  Nothing may be in flight.  Once it is whole it does nothing.
 * Errors: of writing and syncing; -EBADMSG (the map is damaged).  The file is no image then; but for the last sync,
 * after which nobody knows. */
int ntx_qcow2_image_finish(struct ntx_qcow2_image *image, struct ntx_error *err);

/*
 * Check an entry of the map: its clusters must lie before end and behind the header.  *last is set to the end of what
 * it refers to, 0 for nothing.
 * Errors: 0, or -EBADMSG. */
int ntx_qcow2_check_entry(uint64_t entry, uint64_t end, uint64_t *last);

#endif
