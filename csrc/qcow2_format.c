/* qcow2_format.c: see qcow2_format.h. */
#include "qcow2_format.h"

#include "bytes.h"

#include <errno.h>

#define HEADER_LENGTH 112u /* with the compression type */

#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define BACKING_FORMAT "qcow2"

/* Bits of a compressed entry that are the offset; the others, up to bit 61, count further sectors. */
#define PLACE_BITS (62u - (NTX_QCOW2_CLUSTER_BITS - 8u))

bool ntx_qcow2_has_magic(const uint8_t first[4])
{
    return ntx_get32(first) == NTX_QCOW2_MAGIC;
}

/* An extension is its type, its length, its data, and zeros up to a multiple of 8. */
static size_t put_backing_format(uint8_t *at)
{
    size_t length = sizeof BACKING_FORMAT - 1;

    ntx_put32(at, EXTENSION_BACKING_FORMAT);
    ntx_put32(at + 4, (uint32_t)length);
    memcpy(at + 8, BACKING_FORMAT, length);
    return ntx_round_up(8 + length, 8);
}

int ntx_qcow2_put_header(const struct ntx_qcow2_header *header, uint8_t cluster[NTX_QCOW2_CLUSTER])
{
    size_t name_length = header->backing_name != NULL ? strlen(header->backing_name) : 0;
    size_t end = HEADER_LENGTH;

    if (name_length > NTX_QCOW2_MAX_NAME)
        return -ENAMETOOLONG;
    if (header->l1_entries > NTX_QCOW2_MAX_L1)
        return -EFBIG;
    memset(cluster, 0, NTX_QCOW2_CLUSTER);
    ntx_put32(cluster + NTX_QCOW2_AT_MAGIC, NTX_QCOW2_MAGIC);
    ntx_put32(cluster + NTX_QCOW2_AT_VERSION, NTX_QCOW2_VERSION);
    ntx_put32(cluster + NTX_QCOW2_AT_CLUSTER_BITS, NTX_QCOW2_CLUSTER_BITS);
    ntx_put64(cluster + NTX_QCOW2_AT_SIZE, header->size);
    ntx_put32(cluster + NTX_QCOW2_AT_L1_ENTRIES, header->l1_entries);
    ntx_put64(cluster + NTX_QCOW2_AT_L1_OFFSET, header->l1_offset);
    ntx_put64(cluster + NTX_QCOW2_AT_COUNTS_OFFSET, header->counts_offset);
    ntx_put32(cluster + NTX_QCOW2_AT_COUNTS_CLUSTERS, header->counts_clusters);
    ntx_put32(cluster + NTX_QCOW2_AT_COUNT_ORDER, NTX_QCOW2_COUNT_ORDER);
    ntx_put32(cluster + NTX_QCOW2_AT_LENGTH, HEADER_LENGTH);
    if (header->is_zstd) {
        ntx_put64(cluster + NTX_QCOW2_AT_INCOMPATIBLE, NTX_QCOW2_HAS_COMPRESSION_TYPE);
        cluster[NTX_QCOW2_AT_COMPRESSION] = NTX_QCOW2_COMPRESSION_ZSTD;
    }
    if (name_length > 0) {
        end += put_backing_format(cluster + end);
        end += 8; /* the end of the extensions: zeros */
        ntx_put64(cluster + NTX_QCOW2_AT_BACKING, end);
        ntx_put32(cluster + NTX_QCOW2_AT_BACKING_LENGTH, (uint32_t)name_length);
        memcpy(cluster + end, header->backing_name, name_length);
    }
    return 0;
}

uint64_t ntx_qcow2_compressed_entry(uint64_t offset, uint32_t length)
{
    uint64_t further = (offset + length - 1) / NTX_QCOW2_SECTOR - offset / NTX_QCOW2_SECTOR;

    return NTX_QCOW2_COMPRESSED | further << PLACE_BITS | offset;
}

uint64_t ntx_qcow2_compressed_place(uint64_t entry, uint32_t *length)
{
    uint64_t offset = entry & ((1ull << PLACE_BITS) - 1);
    uint64_t sectors = ((entry & ~NTX_QCOW2_COMPRESSED & ~NTX_QCOW2_COPIED) >> PLACE_BITS) + 1;

    *length = (uint32_t)(sectors * NTX_QCOW2_SECTOR - offset % NTX_QCOW2_SECTOR);
    return offset;
}
