/*
 * qcow2_format.h: how an image in QCOW2 format is laid out (docs/interop/qcow2.txt of qemu), as far as we write it:
 * version 3, clusters of 64 KiB, reference counts of 16 bits.  Numbers are big-endian, offsets count from the file's
 * beginning.
 *
 *   file      | header | clusters of the disk, in the order of their arrival ... | L2 tables | L1 table | counts |
 *   L1 entry  where the L2 table of 512 MiB of the disk is
 *   L2 entry  where one cluster of the disk is
 *
 * The functions are pure: any thread.
 */
#ifndef NTX_QCOW2_FORMAT_H
#define NTX_QCOW2_FORMAT_H

#include "ntx.h"

#define NTX_QCOW2_CLUSTER_BITS 16u
#define NTX_QCOW2_CLUSTER (1u << NTX_QCOW2_CLUSTER_BITS)
#define NTX_QCOW2_ENTRIES (NTX_QCOW2_CLUSTER / 8u)                           /* of a table that fills a cluster */
#define NTX_QCOW2_L2_BYTES ((uint64_t)NTX_QCOW2_ENTRIES * NTX_QCOW2_CLUSTER) /* of the disk, for one L2 table */
#define NTX_QCOW2_COUNTS (NTX_QCOW2_CLUSTER / 2u)                            /* reference counts in a cluster of them */

#define NTX_QCOW2_SECTOR 512u       /* a disk is whole ones of them */
#define NTX_QCOW2_MAX_NAME 1023u    /* bytes of the name of a backing file */
#define NTX_QCOW2_MAX_L1 (4u << 20) /* entries: qemu opens no larger table, and it is 2 PiB of disk */

/* Where the fields of a header are. */
enum {
    NTX_QCOW2_AT_MAGIC = 0,
    NTX_QCOW2_AT_VERSION = 4,
    NTX_QCOW2_AT_BACKING = 8, /* offset, and length of the name */
    NTX_QCOW2_AT_BACKING_LENGTH = 16,
    NTX_QCOW2_AT_CLUSTER_BITS = 20,
    NTX_QCOW2_AT_SIZE = 24,
    NTX_QCOW2_AT_ENCRYPTION = 32,
    NTX_QCOW2_AT_L1_ENTRIES = 36,
    NTX_QCOW2_AT_L1_OFFSET = 40,
    NTX_QCOW2_AT_COUNTS_OFFSET = 48,
    NTX_QCOW2_AT_COUNTS_CLUSTERS = 56,
    NTX_QCOW2_AT_INCOMPATIBLE = 72,
    NTX_QCOW2_AT_COUNT_ORDER = 96, /* 2^this bits */
    NTX_QCOW2_AT_LENGTH = 100,
    NTX_QCOW2_AT_COMPRESSION = 104,
};

/* What is in them. */
#define NTX_QCOW2_MAGIC 0x514649fbu /* "QFI" and 0xfb */
#define NTX_QCOW2_VERSION 3u
#define NTX_QCOW2_COUNT_ORDER 4u
#define NTX_QCOW2_COMPRESSION_ZSTD 1u
#define NTX_QCOW2_HAS_COMPRESSION_TYPE (1ull << 3) /* incompatible feature */

/* Entries of L1 and L2 tables. */
#define NTX_QCOW2_COPIED (1ull << 63)     /* what it points to has a reference count of just 1 */
#define NTX_QCOW2_COMPRESSED (1ull << 62) /* L2 */
#define NTX_QCOW2_ZERO 1ull               /* L2: reads as zero, whatever is below */
#define NTX_QCOW2_OFFSET 0x00fffffffffffe00ull

/* What a header says.  Without backing_name there is none; it is in QCOW2 format itself. */
struct ntx_qcow2_header {
    uint64_t size; /* of the disk, a multiple of NTX_QCOW2_SECTOR */
    const char *backing_name;
    bool is_zstd; /* compressed clusters, if any, are zstd frames; otherwise deflate */
    uint64_t l1_offset, counts_offset;
    uint32_t l1_entries;
    uint32_t counts_clusters; /* of the table of reference counts */
};

/* Whether what begins a file is what makes it an image. */
bool ntx_qcow2_has_magic(const uint8_t first[4]);

/*
 * Write a header into the first cluster of an image; all of it is set.
 * Errors: 0, or -ENAMETOOLONG (backing_name), -EFBIG (l1_entries).
 */
int ntx_qcow2_put_header(const struct ntx_qcow2_header *header, uint8_t cluster[NTX_QCOW2_CLUSTER]);

/* The L2 entry of a compressed cluster at any byte of the file, of 1 to NTX_QCOW2_CLUSTER bytes. */
uint64_t ntx_qcow2_compressed_entry(uint64_t offset, uint32_t length);

/* Where the L2 entry of a compressed cluster says that it is; *length (bytes) may go on for a part of a sector behind
 * its end. */
uint64_t ntx_qcow2_compressed_place(uint64_t entry, uint32_t *length);

static inline uint64_t ntx_qcow2_clusters(uint64_t bytes)
{
    return bytes / NTX_QCOW2_CLUSTER + (bytes % NTX_QCOW2_CLUSTER != 0);
}

#endif
