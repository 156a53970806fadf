/*
 * qcow2_map.h: where the clusters of a disk are, while its image is being written: a file beside it, because the tables
 * come into the image only at its end, and memory does not grow with the disk.
 *
 *   file   | head: 64 KiB | page 0 | page 1 | ...     a page is the L2 table of 512 MiB of the disk, as it will be
 * stored
 *
 * It is sparse: what was never written is a hole.  The head says of what disk it is (size, name of what is below), with
 * a digest.
 *
 * LIMIT: where the file system has no locks, two processes that write one image are not kept apart here.
 */
#ifndef NTX_QCOW2_MAP_H
#define NTX_QCOW2_MAP_H

#include "ntx.h"
#include "qcow2_format.h"
#include "stop.h"

#define NTX_QCOW2_MAP_VERSION 1u

struct ntx_qcow2_map {
    int fd;
    uint64_t clusters; /* of the disk */
    uint64_t pages;
};

/*
 * Make the file, or open one that ntx_qcow2_map_new() made of the same image; another process that has it open is
 * refused.
 * Units:   size of the disk, bytes; backing_name "" for none.
 * Errors:  0, or -errno; -EBUSY (somebody has it open), -ESTALE (it is of another image, or damaged).  Undone by
 *          ntx_qcow2_map_close(), also after a failure.
 */
int ntx_qcow2_map_new(struct ntx_qcow2_map *map, const char *path, uint64_t size, const char *backing_name);
int ntx_qcow2_map_open(struct ntx_qcow2_map *map, const char *path, uint64_t size, const char *backing_name);
void ntx_qcow2_map_close(struct ntx_qcow2_map *map);

/* Enter count clusters from `first` on.  They are all zero, or follow each other in the image from host on.
 * Threads: any, for different clusters.  Errors: 0, or -errno. */
int ntx_qcow2_map_put_zeros(struct ntx_qcow2_map *map, uint64_t first, uint64_t count);
int ntx_qcow2_map_put_data(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, uint64_t host);

/* The same of entries as they will be stored. */
int ntx_qcow2_map_put(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, const uint8_t *entries);

/* The entries of count clusters, as they will be stored.  Errors: 0, or -errno. */
int ntx_qcow2_map_get(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, uint8_t *entries);

/* Forget count clusters: they were never written.  Where none was, the file stays a hole, if the
 * file system can tell. */
int ntx_qcow2_map_forget(struct ntx_qcow2_map *map, uint64_t first, uint64_t count);

/* The next page, at `page` or behind it, that may have an entry: its number in *found, its entries in table;
 * *found = pages: there is none.  Errors: 0, or -errno. */
int ntx_qcow2_map_next(struct ntx_qcow2_map *map, uint64_t page, uint64_t *found, uint8_t table[NTX_QCOW2_CLUSTER]);

/* Make safe what was entered.  See ntx_sync_file(). */
int ntx_qcow2_map_sync(struct ntx_qcow2_map *map, const struct ntx_stop *stop);

#endif
