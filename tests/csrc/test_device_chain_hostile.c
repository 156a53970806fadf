/* test_device_chain_hostile.c: whatever is wrong in an image is an error with its place, or for others to read. */
#include "qcow2_sample.h"

#include <errno.h>

#define SIZE (8 * CLUSTER)
#define HUGE_OFFSET 0x00ffffffffff0000ull

static struct sample *new_good(bool is_zstd)
{
    struct sample *image = new_image(SIZE, is_zstd);

    put_data(image, 0, 'a');
    return image;
}

static void check_opens(const struct sample *image, int code, const char *words)
{
    struct sample *copy = malloc(sizeof *copy);
    struct ntx_device *device;
    struct ntx_error err;

    *copy = *image;
    CHECK_EQ_INT(try_images(&copy, 1, &device, &err), code);
    if (code != 0) {
        CHECK_CONTAINS(err.text, "disk: open failed: the file /");
        CHECK_CONTAINS(err.text, "/image-0 at ");
        CHECK_CONTAINS(err.text, words);
        CHECK_EQ_INT(err.class, NTX_E_DEVICE);
        CHECK(device == NULL);
    }
    ntx_close(device);
    free(copy);
}

/* A good image with `width` bytes of its header changed. */
static void check_header(unsigned at, unsigned width, uint64_t value, int code, const char *words)
{
    struct sample *image = new_good(true);

    for (unsigned i = 0; i < width; i++)
        image->bytes[at + i] = (uint8_t)(value >> 8 * (width - 1 - i));
    check_opens(image, code, words);
    free(image);
}

static void test_what_others_read_is_refused_so(void)
{
    check_header(NTX_QCOW2_AT_MAGIC, 4, 0, -ENOTSUP, "no image in QCOW2 format, or was never finished");
    check_header(NTX_QCOW2_AT_VERSION, 4, 2, -ENOTSUP, "another version");
    check_header(NTX_QCOW2_AT_CLUSTER_BITS, 4, 15, -ENOTSUP, "not of 64 KiB");
    check_header(NTX_QCOW2_AT_CLUSTER_BITS, 4, UINT32_MAX, -ENOTSUP, "not of 64 KiB");
    check_header(NTX_QCOW2_AT_ENCRYPTION, 4, 1, -ENOTSUP, "encrypted");
    for (unsigned bit = 1; bit < 64; bit++) {
        if (bit != 3)
            check_header(NTX_QCOW2_AT_INCOMPATIBLE, 8, 1ull << bit, -ENOTSUP, "marked corrupt, has a data file");
    }
    check_header(NTX_QCOW2_AT_COMPRESSION, 1, 2, -ENOTSUP, "another compression");
    check_header(NTX_QCOW2_AT_SIZE, 8, 0, -ENOTSUP, "no whole sectors");
    check_header(NTX_QCOW2_AT_SIZE, 8, SIZE - 1, -ENOTSUP, "no whole sectors");
}

static void test_what_is_not_looked_at_does_not_matter(void)
{
    check_header(NTX_QCOW2_AT_INCOMPATIBLE, 8, 1 | NTX_QCOW2_HAS_COMPRESSION_TYPE, 0, NULL); /* dirty */
    check_header(NTX_QCOW2_AT_COUNTS_OFFSET, 8, UINT64_MAX, 0, NULL);
    check_header(NTX_QCOW2_AT_COUNTS_CLUSTERS, 4, UINT32_MAX, 0, NULL);
    check_header(NTX_QCOW2_AT_BACKING, 8, UINT64_MAX, 0, NULL);
}

static void test_a_damaged_header_is_an_error(void)
{
    struct sample *image = new_good(true);

    check_header(NTX_QCOW2_AT_SIZE, 8, 1ull << 63, -EUCLEAN, "a size that no disk has");
    check_header(NTX_QCOW2_AT_SIZE, 8, NTX_QCOW2_L2_BYTES + 512, -EUCLEAN, "L1 table that does not fit");
    check_header(NTX_QCOW2_AT_L1_ENTRIES, 4, 0, -EUCLEAN, "L1 table that does not fit");
    check_header(NTX_QCOW2_AT_L1_ENTRIES, 4, UINT32_MAX, -EUCLEAN, "L1 table that does not fit");
    check_header(NTX_QCOW2_AT_L1_ENTRIES, 4, NTX_QCOW2_MAX_L1, -EUCLEAN, "or not in the file");
    check_header(NTX_QCOW2_AT_L1_OFFSET, 8, 0, -EUCLEAN, "in the header");
    check_header(NTX_QCOW2_AT_L1_OFFSET, 8, CLUSTER + 8, -EUCLEAN, "not aligned");
    check_header(NTX_QCOW2_AT_L1_OFFSET, 8, 4 * CLUSTER, -EUCLEAN, "not in the file");
    check_header(NTX_QCOW2_AT_L1_OFFSET, 8, UINT64_MAX - CLUSTER + 1, -EUCLEAN, "not in the file");
    check_header(NTX_QCOW2_AT_LENGTH, 4, 103, -EUCLEAN, "a length that no header has");
    check_header(NTX_QCOW2_AT_LENGTH, 4, UINT32_MAX, -EUCLEAN, "a length that no header has");
    check_header(NTX_QCOW2_AT_LENGTH, 4, 104, -EUCLEAN, "does not fit the features");
    check_header(NTX_QCOW2_AT_COMPRESSION, 1, 0, -EUCLEAN, "does not fit the features");
    check_header(NTX_QCOW2_AT_INCOMPATIBLE, 8, 0, -EUCLEAN, "does not fit the features");
    image->length = NTX_QCOW2_AT_COMPRESSION;
    check_opens(image, -EUCLEAN, "ends within its header");
    image->length = 0;
    check_opens(image, -ENOTSUP, "no image");
    free(image);
}

static void test_clusters_compressed_by_deflate_are_for_others(void)
{
    struct sample *image = new_good(false);

    check_opens(image, 0, NULL);
    put_packed(image, 5, 'p', CLUSTER);
    check_opens(image, -ENOTSUP, "compressed by deflate");
    put_entry(image, 5, 0);
    ntx_put64(image->bytes + SAMPLE_L1, HUGE_OFFSET);
    check_opens(image, 0, NULL); /* who reads there is told */
    free(image);
}

static void test_sizes_and_files_that_cannot_be_are_refused(void)
{
    int folder = open(".", O_RDONLY), closed = -1;
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_qcow2_chain("x", NULL, 0, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_qcow2_chain("x", &folder, 1025, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_qcow2_chain("x", &folder, 1, &device, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "not a regular file");
    CHECK_EQ_INT(ntx_open_qcow2_chain("x", &closed, 1, &device, &err), -EBADF);
    CHECK(device == NULL);
    close(folder);
}

/* ------------------------------------------------------------------------------------------------ tables */

/* What is read of cluster 1 is this error; if it is one of the tables, it is called data, and its image is not told. */
static void check_damaged(const struct sample *image, const char *words, bool is_of_table)
{
    struct sample *copy = malloc(sizeof *copy);
    struct ntx_mapped_extent rows[4];
    struct ntx_extent extents[4];
    uint8_t data[1024];
    struct ntx_error err;
    size_t count;

    *copy = *image;
    struct ntx_device *device = open_images(&copy, 1);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, CLUSTER - 512, sizeof data, data, &err), -EUCLEAN);
    CHECK_CONTAINS(err.text, "disk: read failed: offset 65024 length 1024: the file /");
    CHECK_CONTAINS(err.text, words);
    CHECK_EQ_U64(err.offset, CLUSTER - 512);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_OK(ntx_map(device, CLUSTER, SIZE - CLUSTER, 0, extents, 4, &count, &err), err);
    CHECK_EQ_U64(extents[0].offset, CLUSTER);
    CHECK_EQ_U64(extents[0].flags, 0);
    if (is_of_table) {
        CHECK_EQ_INT(ntx_map_images(device, CLUSTER, SIZE - CLUSTER, rows, 4, &count, &err), -EUCLEAN);
        CHECK_CONTAINS(err.text, "disk: map failed: offset 65536 length 458752: the file /");
        CHECK_CONTAINS(err.text, words);
        CHECK_EQ_U64(err.offset, CLUSTER);
    }
    ntx_close(device);
    free(copy);
}

static void test_a_damaged_l1_entry_is_an_error_of_what_it_describes(void)
{
    static const struct {
        uint64_t entry;
        const char *words;
    } bad[] = {
        {SAMPLE_L2 | 1, "L1 table: reserved bits"}, {SAMPLE_L2 | NTX_QCOW2_COMPRESSED, "L1 table: reserved bits"},
        {SAMPLE_L2 | 1ull << 56, "reserved bits"},  {NTX_QCOW2_COPIED, "L1 table: it points into the header"},
        {SAMPLE_L2 + 512, "not aligned"},           {4 * CLUSTER, "L1 table: it points behind the end"},
        {HUGE_OFFSET, "points behind the end"},     {3 * CLUSTER + 32768, "not aligned"},
        {SAMPLE_L2 | 1ull << 61, "reserved bits"},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sample *image = new_good(true);

        ntx_put64(image->bytes + SAMPLE_L1, bad[i].entry);
        check_damaged(image, bad[i].words, true);
        free(image);
    }
}

static void test_an_l2_table_that_the_file_cuts_is_an_error(void)
{
    struct sample *image = new_image(SIZE, true);

    image->length--;
    check_damaged(image, "L1 table: it points behind the end", true);
    free(image);
}

/* An image of eight clusters on one of five, which is on another of eight: of each cluster, which holds it is its
 * letter. */
static struct ntx_device *open_three(struct sample *images[3])
{
    images[0] = new_image(SIZE, true);
    images[1] = new_image(SIZE - 3 * CLUSTER, true);
    images[2] = new_image(SIZE, true);
    put_data(images[0], 1, 'a');
    put_entry(images[0], 3, NTX_QCOW2_ZERO);
    put_data(images[1], 0, 'b');
    put_data(images[1], 1, 'b');
    put_data(images[2], 2, 'c');
    put_data(images[2], 6, 'c');
    return open_images(images, 3);
}

static void check_cluster(struct ntx_device *device, unsigned cluster, int value)
{
    uint8_t expected[NTX_QCOW2_CLUSTER];

    memset(expected, value, sizeof expected);
    check_device_holds(device, cluster * CLUSTER, expected, sizeof expected);
}

static void check_lost(struct ntx_device *device, unsigned cluster)
{
    uint8_t data[NTX_QCOW2_CLUSTER];
    struct ntx_error err;

    CHECK(do_io(device, NTX_OP_READ, cluster * CLUSTER, CLUSTER, data, &err) < 0);
    CHECK_CONTAINS(err.text, "/image-1 ");
    CHECK_EQ_U64(err.offset, cluster * CLUSTER);
}

static void free_three(struct ntx_device *device, struct sample *images[3])
{
    ntx_close(device);
    for (unsigned i = 0; i < 3; i++)
        free(images[i]);
}

static void test_a_lost_table_hides_nothing_that_is_shown_above_it(void)
{
    struct sample *images[3];
    struct ntx_device *device = open_three(images);

    ntx_close(device);
    ntx_put64(images[1]->bytes + SAMPLE_L1, HUGE_OFFSET);
    device = open_images(images, 3);
    for (unsigned i = 0; i < 2; i++) {
        check_lost(device, 0);
        check_cluster(device, 1, 'a');
        check_lost(device, 2); /* it may have had another one than the image below */
        check_cluster(device, 3, 0);
        check_lost(device, 4);
        for (unsigned behind = 5; behind < 8; behind++)
            check_cluster(device, behind, 0);
    }
    free_three(device, images);
}

static void test_a_table_that_could_not_be_read_is_tried_again(void)
{
    struct sample *images[3];
    struct ntx_device *device = open_three(images);

    CHECK(truncate("image-1", 2 * CLUSTER) == 0);
    check_cluster(device, 1, 'a');
    check_lost(device, 0);
    put_file("image-1", images[1]->bytes, images[1]->length);
    check_cluster(device, 0, 'b');
    check_cluster(device, 2, 'c');
    free_three(device, images);
}

static void test_a_damaged_l2_entry_is_an_error_of_its_cluster_alone(void)
{
    const uint64_t place = 4 * CLUSTER;
    const struct {
        uint64_t entry;
        const char *words;
    } bad[] = {
        {place | 2, "L2 table: reserved bits"},
        {place | NTX_QCOW2_ZERO | 4, "reserved bits"},
        {place | 1ull << 56, "reserved bits"},
        {place + 512, "L2 table: it is not aligned"},
        {NTX_QCOW2_ZERO | 512, "not aligned"},
        {NTX_QCOW2_COPIED, "points into the header"},
        {5 * CLUSTER, "L2 table: it points behind the end"},
        {HUGE_OFFSET | NTX_QCOW2_COPIED, "points behind the end"},
        {NTX_QCOW2_COMPRESSED, "compressed cluster in the header"},
        {ntx_qcow2_compressed_entry(CLUSTER - 1, 5), "compressed cluster in the header"},
        {ntx_qcow2_compressed_entry(5 * CLUSTER, 1), "compressed cluster behind the end"},
        {ntx_qcow2_compressed_entry(5 * CLUSTER - 1, 600), "compressed cluster behind the end"},
        {~NTX_QCOW2_COPIED, "compressed cluster behind the end"},
        {ntx_qcow2_compressed_entry(place, 5) | NTX_QCOW2_COPIED, "marked as one that is not"},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sample *image = new_good(true);
        uint8_t expected[512];

        CHECK_EQ_U64(put_data(image, 2, 'd'), place);
        put_entry(image, 1, bad[i].entry);
        check_damaged(image, bad[i].words, true);
        struct ntx_device *device = open_images(&image, 1);
        memset(expected, 'a', sizeof expected);
        check_device_holds(device, 0, expected, sizeof expected);
        memset(expected, 'd', sizeof expected);
        check_device_holds(device, 2 * CLUSTER, expected, sizeof expected);
        ntx_close(device);
        free(image);
    }
}

/* ------------------------------------------------------------------------------------------------ frames */

static void check_bad_frame(const void *frame, size_t length, const char *words)
{
    struct sample *image = new_good(true);

    put_frame(image, 1, frame, length);
    check_damaged(image, words, false);
    free(image);
}

static void test_a_frame_that_is_not_of_a_cluster_is_an_error(void)
{
    static const size_t sizes[] = {0, 1, CLUSTER - 1, CLUSTER + 1, 2 * CLUSTER};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct sample *image = new_good(true);

        put_packed(image, 1, 'p', sizes[i]);
        check_damaged(image, "a compressed cluster that is", false);
        free(image);
    }
}

static void test_a_frame_that_claims_a_huge_size_is_an_error(void)
{
    /* A size of 8 bytes, in one segment; then the last block, raw, of 1 byte.  The other claims a window of 2 TiB. */
    static const uint8_t huge[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0, 'x'};
    static const uint8_t wide[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 9, 0, 0, 'x'};
    static const uint8_t skipped[] = {0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    static const uint8_t older[] = {0x27, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0, 'x'};

    check_bad_frame(huge, sizeof huge, "damaged");
    check_bad_frame(wide, sizeof wide, "damaged");
    check_bad_frame(skipped, sizeof skipped, "no zstd frame");
    check_bad_frame(older, sizeof older, "no zstd frame");
    check_bad_frame("", 1, "no zstd frame");
}

static void test_a_frame_that_is_cut_or_changed_is_an_error(void)
{
    static uint8_t plain[NTX_QCOW2_CLUSTER], frame[2 * NTX_QCOW2_CLUSTER];
    uint32_t state = 1;

    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)((state = state * 1103515245 + 12345) >> 24);
    size_t length = ZSTD_compress(frame, sizeof frame, plain, sizeof plain, 1);
    check_bad_frame(frame, length - 1, "damaged");
    check_bad_frame(frame, length / 2, "damaged");
    check_bad_frame(frame, 5, "damaged");
    frame[5] ^= 0x10; /* of the size that it claims */
    check_bad_frame(frame, length, "damaged");
}

static void test_a_good_frame_after_a_bad_one_is_read(void)
{
    struct sample *image = new_image(SIZE, true);
    uint8_t data[NTX_QCOW2_CLUSTER];
    struct ntx_error err;

    put_packed(image, 0, 'p', CLUSTER);
    put_packed(image, 1, 'b', CLUSTER / 2);
    put_packed(image, 2, 'q', CLUSTER);
    struct ntx_device *device = open_images(&image, 1);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(do_io(device, NTX_OP_READ, CLUSTER, CLUSTER, data, &err), -EUCLEAN);
        fill_packed(data, 'p');
        check_device_holds(device, 5, data + 5, 100);
        fill_packed(data, 'q');
        check_device_holds(device, 2 * CLUSTER, data, CLUSTER);
        CHECK_EQ_INT(do_io(device, NTX_OP_READ, CLUSTER + 7, 20, data, &err), -EUCLEAN);
    }
    ntx_close(device);
    free(image);
}

int main(void)
{
    RUN(test_what_others_read_is_refused_so);
    RUN(test_what_is_not_looked_at_does_not_matter);
    RUN(test_a_damaged_header_is_an_error);
    RUN(test_clusters_compressed_by_deflate_are_for_others);
    RUN(test_sizes_and_files_that_cannot_be_are_refused);
    RUN(test_a_damaged_l1_entry_is_an_error_of_what_it_describes);
    RUN(test_an_l2_table_that_the_file_cuts_is_an_error);
    RUN(test_a_lost_table_hides_nothing_that_is_shown_above_it);
    RUN(test_a_table_that_could_not_be_read_is_tried_again);
    RUN(test_a_damaged_l2_entry_is_an_error_of_its_cluster_alone);
    RUN(test_a_frame_that_is_not_of_a_cluster_is_an_error);
    RUN(test_a_frame_that_claims_a_huge_size_is_an_error);
    RUN(test_a_frame_that_is_cut_or_changed_is_an_error);
    RUN(test_a_good_frame_after_a_bad_one_is_read);
    return 0;
}
