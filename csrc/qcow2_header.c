/* qcow2_header.c: see qcow2_header.h. */
#include "qcow2_header.h"

#include "bytes.h"

#include <errno.h>

#define MIN_LENGTH 104u      /* of a header of version 3 */
#define IS_DIRTY (1ull << 0) /* the reference counts may be wrong */

#define L1_RESERVED (~(NTX_QCOW2_COPIED | NTX_QCOW2_OFFSET))
#define L2_RESERVED (~(NTX_QCOW2_COPIED | NTX_QCOW2_OFFSET | NTX_QCOW2_ZERO))

static int fail(struct ntx_qcow2_fault *fault, int code, uint64_t place, const char *what)
{
    *fault = (struct ntx_qcow2_fault){.place = place, .code = code, .what = what};
    return code;
}

/* Find what others have to read. */
static int check_kind(const uint8_t *first, struct ntx_qcow2_fault *fault)
{
    uint64_t features = ntx_get64(first + NTX_QCOW2_AT_INCOMPATIBLE);

    if (ntx_get32(first + NTX_QCOW2_AT_VERSION) != NTX_QCOW2_VERSION)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_VERSION, "another version of the format");
    if (ntx_get32(first + NTX_QCOW2_AT_CLUSTER_BITS) != NTX_QCOW2_CLUSTER_BITS)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_CLUSTER_BITS, "clusters that are not of 64 KiB");
    if (ntx_get32(first + NTX_QCOW2_AT_ENCRYPTION) != 0)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_ENCRYPTION, "it is encrypted");
    if ((features & ~(IS_DIRTY | NTX_QCOW2_HAS_COMPRESSION_TYPE)) != 0)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_INCOMPATIBLE,
                    "it is marked corrupt, has a data file or extended entries, or a feature that is not known");
    return 0;
}

/* A header that ends before the compression type means deflate. */
static int get_compression(const uint8_t *first, bool *is_zstd, struct ntx_qcow2_fault *fault)
{
    uint32_t length = ntx_get32(first + NTX_QCOW2_AT_LENGTH);
    bool has_type = (ntx_get64(first + NTX_QCOW2_AT_INCOMPATIBLE) & NTX_QCOW2_HAS_COMPRESSION_TYPE) != 0;
    uint8_t type = length > NTX_QCOW2_AT_COMPRESSION ? first[NTX_QCOW2_AT_COMPRESSION] : 0;

    if (length < MIN_LENGTH || length > NTX_QCOW2_CLUSTER)
        return fail(fault, -EUCLEAN, NTX_QCOW2_AT_LENGTH, "a length that no header has");
    if (has_type != (type != 0))
        return fail(fault, -EUCLEAN, NTX_QCOW2_AT_COMPRESSION, "a compression type that does not fit the features");
    if (type > NTX_QCOW2_COMPRESSION_ZSTD)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_COMPRESSION, "another compression");
    *is_zstd = has_type;
    return 0;
}

static int check_l1(const struct ntx_qcow2_header *header, uint64_t file_size, struct ntx_qcow2_fault *fault)
{
    uint64_t needed = header->size / NTX_QCOW2_L2_BYTES + (header->size % NTX_QCOW2_L2_BYTES != 0);
    uint64_t bytes = (uint64_t)header->l1_entries * sizeof(uint64_t);

    if (header->l1_entries > NTX_QCOW2_MAX_L1 || header->l1_entries < needed)
        return fail(fault, -EUCLEAN, NTX_QCOW2_AT_L1_ENTRIES, "an L1 table that does not fit the size of the disk");
    if (header->l1_offset % NTX_QCOW2_CLUSTER != 0 || header->l1_offset < NTX_QCOW2_CLUSTER ||
        header->l1_offset > file_size || bytes > file_size - header->l1_offset)
        return fail(fault, -EUCLEAN, NTX_QCOW2_AT_L1_OFFSET,
                    "an L1 table that is not aligned, in the header, or not in the file");
    return 0;
}

int ntx_qcow2_get_header(const uint8_t *first, size_t length, uint64_t file_size, struct ntx_qcow2_header *header,
                         struct ntx_qcow2_fault *fault)
{
    *header = (struct ntx_qcow2_header){0};
    if (length < sizeof(uint32_t) || !ntx_qcow2_has_magic(first))
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_MAGIC, "it is no image in QCOW2 format, or was never finished");
    if (length < NTX_QCOW2_HEADER_BYTES)
        return fail(fault, -EUCLEAN, length, "it ends within its header");
    int code = check_kind(first, fault);
    if (code == 0)
        code = get_compression(first, &header->is_zstd, fault);
    if (code != 0)
        return code;
    header->size = ntx_get64(first + NTX_QCOW2_AT_SIZE);
    header->l1_entries = ntx_get32(first + NTX_QCOW2_AT_L1_ENTRIES);
    header->l1_offset = ntx_get64(first + NTX_QCOW2_AT_L1_OFFSET);
    header->counts_offset = ntx_get64(first + NTX_QCOW2_AT_COUNTS_OFFSET);
    header->counts_clusters = ntx_get32(first + NTX_QCOW2_AT_COUNTS_CLUSTERS);
    if (header->size > NTX_MAX_DEVICE_SIZE)
        return fail(fault, -EUCLEAN, NTX_QCOW2_AT_SIZE, "a size that no disk has");
    if (header->size == 0 || header->size % NTX_QCOW2_SECTOR != 0)
        return fail(fault, -ENOTSUP, NTX_QCOW2_AT_SIZE, "a size of no whole sectors");
    return check_l1(header, file_size, fault);
}

const char *ntx_qcow2_l1_fault(uint64_t entry, uint64_t file_size)
{
    uint64_t offset = entry & NTX_QCOW2_OFFSET;

    if ((entry & L1_RESERVED) != 0)
        return "a damaged entry of the L1 table: reserved bits are set";
    if (offset % NTX_QCOW2_CLUSTER != 0 || offset < NTX_QCOW2_CLUSTER)
        return "a damaged entry of the L1 table: it points into the header, or is not aligned";
    if (offset > file_size || NTX_QCOW2_CLUSTER > file_size - offset)
        return "a damaged entry of the L1 table: it points behind the end of the file";
    return NULL;
}

/* The length of the last is that of whole sectors, of which the file may end in the last. */
static const char *get_packed(uint64_t entry, uint64_t file_size, struct ntx_qcow2_place *place)
{
    place->kind = NTX_QCOW2_IS_PACKED;
    place->offset = ntx_qcow2_compressed_place(entry, &place->length);
    if ((entry & NTX_QCOW2_COPIED) != 0)
        return "a damaged entry of an L2 table: a compressed cluster is marked as one that is not";
    if (place->offset < NTX_QCOW2_CLUSTER)
        return "a damaged entry of an L2 table: a compressed cluster in the header";
    if (place->offset >= file_size || place->length >= file_size - place->offset + NTX_QCOW2_SECTOR)
        return "a damaged entry of an L2 table: a compressed cluster behind the end of the file";
    place->length = (uint32_t)ntx_min64(place->length, file_size - place->offset);
    return NULL;
}

const char *ntx_qcow2_get_place(uint64_t entry, uint64_t file_size, struct ntx_qcow2_place *place)
{
    if ((entry & NTX_QCOW2_COMPRESSED) != 0)
        return get_packed(entry, file_size, place);
    place->kind = (entry & NTX_QCOW2_ZERO) != 0 ? NTX_QCOW2_IS_ZERO : NTX_QCOW2_IS_DATA;
    place->offset = entry & NTX_QCOW2_OFFSET;
    place->length = NTX_QCOW2_CLUSTER;
    if ((entry & L2_RESERVED) != 0)
        return "a damaged entry of an L2 table: reserved bits are set";
    if (place->offset % NTX_QCOW2_CLUSTER != 0)
        return "a damaged entry of an L2 table: it is not aligned";
    if (place->kind == NTX_QCOW2_IS_ZERO)
        return NULL;
    if (place->offset < NTX_QCOW2_CLUSTER)
        return "a damaged entry of an L2 table: it points into the header";
    if (place->offset >= file_size)
        return "a damaged entry of an L2 table: it points behind the end of the file";
    return NULL;
}
