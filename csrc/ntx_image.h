/*
 * ntx_image.h: the part of the contract that is about images in QCOW2 format: one that is written, and a chain of them
 * that is read.  Both are devices, as ntx.h has them.
 */
#ifndef NTX_IMAGE_H
#define NTX_IMAGE_H

#include "ntx.h"

#define NTX_MAX_ZSTD_LEVEL 19 /* more takes memory for what a cluster of 64 KiB cannot have */

/* An image to be written. */
struct ntx_qcow2_options {
    const char *path;         /* an empty file; one that is opened again as it was left */
    const char *map_path;     /* a file beside it, that is made, or opened again: where its clusters are */
    uint64_t size;            /* of the disk, bytes; the image's is rounded up to 512 */
    const char *backing_name; /* what it records as the image below it, in QCOW2 format itself; NULL: none */
    int zstd_level;           /* 1..NTX_MAX_ZSTD_LEVEL: clusters that become smaller are stored so; 0: none is */
    bool is_opened_again;
    uint64_t stored_to; /* opened again: what lies above is dropped.  A multiple of NTX_BLOCK_SIZE, or size at least */
};

/*
 * Write an image in QCOW2 format, version 3, which qemu reads from 5.1 on if clusters are compressed: whole clusters
 * in the order in which they come, never changed, and what makes it an image at the end: see ntx_finish().  What was
 * written can be read back until then, of an image that has none below it.  A flush is a checkpoint: what was answered
 * before it is there when it is opened again.
 * Ownership: everything is copied; the caller closes *device, and removes the file at map_path once the image is whole
 *            or not wanted.
 * Units:     min_block is the cluster, NTX_BLOCK_SIZE; the last may be shorter.
 * Threads:   blocks: a map is read that is opened again.
 * Errors:    0, or -errno of open, -EEXIST (the file is not empty), -EINVAL (OPTIONS: size, stored_to, zstd_level;
 *            DEVICE: no regular file), -ENAMETOOLONG (backing_name), -EBUSY (another process writes it), -ESTALE (the
 *            map is of another image), -EBADMSG (it is damaged).  The last two: begin again with an empty file, and
 *            without map.
 */
int ntx_open_qcow2(const struct ntx_qcow2_options *options, struct ntx_device **device, struct ntx_error *err);

/*
 * The disk in a chain of images in QCOW2 format, for reading: what we write, and what qemu writes with clusters of
 * 64 KiB, compressed by zstd or not at all.  Whatever else it is, it is for a qemu to read: -ENOTSUP.
 * Ownership: every descriptor is duplicated; the caller closes *device.
 * Units:     fds are of regular files, open for reading, the nearest image first; names of backing files in headers
 *            are not looked at.  The disk is as long as the nearest image.  Memory: 8 bytes for 512 MiB of each
 *            image, and less than 1 MiB for each connection.
 * Threads:   blocks: L1 tables are read, and all tables of an image that is not said to be compressed by zstd.
 * Errors:    0, or -ENOTSUP, -EUCLEAN (DEVICE: damaged), -EINVAL (no image, too many, no regular file), -ENOMEM,
 *            -errno of fcntl/fstat/pread.  Other damage is an error of what is read there: -EUCLEAN; a file that is
 *            cut off later: -EIO.  Each names the file and the place in it.
 */
int ntx_open_qcow2_chain(const char *name, const int *fds, size_t count, struct ntx_device **device,
                         struct ntx_error *err);

/* With NTX_EXTENT_ZERO, where images are told: none says anything of it.  What is below them all may show there. */
#define NTX_EXTENT_ABSENT 2u

/*
 * Tell in which images of a chain [offset, offset+length) is: contiguous, ascending, clipped.  Neighbours in one image
 * are one extent, wherever its bytes are: .place is that of the first, or of the compressed cluster that it is in.
 * Units:    at most capacity extents are stored; *count says how many, and they may cover less than length, at least
 *           something.  .file counts from the nearest image; .flags may have NTX_EXTENT_ABSENT.
 * Threads:  blocks for some tens of milliseconds, if the files do not; not while a job uses the device.
 * Errors:   0, or -ENOTSUP: it is no chain of images, -EINVAL: the range, or as when reading.
 */
int ntx_map_images(struct ntx_device *device, uint64_t offset, uint64_t length, struct ntx_mapped_extent *extents,
                   size_t capacity, size_t *count, struct ntx_error *err);

/*
 * Let what is written to an image be shared with a chain, where the file system can: clusters that are not compressed,
 * in either.  It is what the chain holds at the same place, which is not looked at here.  Bytes that are shared are not
 * counted as stored.  Of other devices nothing is shared.
 * Ownership: the files of the chain stay open as long as the image.
 * Threads:   before a job uses the image.
 */
void ntx_share_clusters(struct ntx_device *image, struct ntx_device *chain);

#endif
