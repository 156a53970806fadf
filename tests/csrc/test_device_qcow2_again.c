/* device_qcow2.c: an image that somebody began who is gone. */
#include "check_qcow2.h"

static void test_what_was_flushed_is_there_again(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    write_block(device, 2, 2);
    flush(device);
    ntx_close(device);
    device = open_again(&options, 3 * BLOCK);
    write_block(device, 4, 4);
    finish(device);
    ntx_close(device);

    check_block(1, 1);
    check_block(2, 2);
    check_block(4, 4);
}

static void test_what_lies_above_is_dropped(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    write_block(device, 2, 2);
    flush(device);
    ntx_close(device);
    device = open_again(&options, 2 * BLOCK);
    CHECK_EQ_U64(image_size(), 2 * BLOCK);
    finish(device);
    ntx_close(device);

    check_block(1, 1);
    CHECK_EQ_U64(entry_of(2), 0);
}

static void test_an_image_that_is_whole_is_none_while_it_is_gone_on_with(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    device = open_again(&options, SIZE - BLOCK);
    CHECK(!is_image());
    write_block(device, 2, 2);
    finish(device);
    ntx_close(device);

    CHECK(is_image());
    check_block(1, 1);
    check_block(2, 2);
}

static void test_an_image_of_which_all_is_stored_stays_whole(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;
    uint8_t *expected = calloc(1, SIZE);

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    put_file("map", "damaged", 7);
    device = open_again(&options, SIZE);

    CHECK(is_image());
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, BLOCK, block_of(1), &err), -EROFS);
    memset(expected + BLOCK, 1, BLOCK);
    check_device_holds(device, 0, expected, SIZE);
    finish(device);
    ntx_close(device);
    free(expected);
}

static void test_what_cannot_be_gone_on_with_stays_as_it_was(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    put_entry(1, 2);
    options.is_opened_again = true;
    options.stored_to = 2 * BLOCK;

    CHECK_EQ_INT(refusal_of(&options, &err), -EBADMSG);

    CHECK(is_image());
    check_block(1, 1);
}

static void test_a_damage_above_what_is_stored_is_none(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    flush(device);
    ntx_close(device);
    put_entry(5, 2);
    device = open_again(&options, 5 * BLOCK);
    finish(device);
    ntx_close(device);

    check_block(1, 1);
    CHECK_EQ_U64(entry_of(5), 0);
}

static void test_an_image_without_its_map_is_whole_or_nothing(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    unlink("map");
    device = open_again(&options, SIZE);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, BLOCK, block_of(1), &err), -EROFS);
    finish(device);
    ntx_close(device);
    CHECK(is_image());

    close(open("image", O_WRONLY | O_TRUNC));
    options.is_opened_again = true;
    CHECK_EQ_INT(refusal_of(&options, &err), -ENOENT);
}

static void test_the_map_of_another_image_is_refused(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_error err;

    ntx_close(make(&options));
    options.is_opened_again = true;
    options.size = SIZE + BLOCK;
    CHECK_EQ_INT(refusal_of(&options, &err), -ESTALE);
    options.size = SIZE;
    options.backing_name = "another";
    CHECK_EQ_INT(refusal_of(&options, &err), -ESTALE);
    CHECK_CONTAINS(err.text, "map: is not the map of image image");
}

static void test_a_damaged_map_is_refused(void)
{
    static const uint64_t BAD[] = {
        NTX_QCOW2_COPIED,                            /* the header */
        100 * BLOCK | NTX_QCOW2_COPIED,              /* behind the end */
        (BLOCK + 512) | NTX_QCOW2_COPIED,            /* between two clusters */
        BLOCK,                                       /* not counted */
        2,                                           /* nothing that we write */
        BLOCK | NTX_QCOW2_COPIED | NTX_QCOW2_ZERO,   /* likewise */
        NTX_QCOW2_COMPRESSED | 100 * BLOCK,          /* behind the end */
        NTX_QCOW2_COMPRESSED | 128ull << 54 | BLOCK, /* longer than what it is of */
        UINT64_MAX,
    };
    struct ntx_qcow2_options options = options_of(SIZE);

    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct ntx_device *device = make(&options);
        struct ntx_error err;
        write_block(device, 0, 1);
        write_block(device, 1, 1);
        ntx_close(device);
        put_entry(1, BAD[i]);

        options.is_opened_again = true;
        options.stored_to = SIZE;
        CHECK_EQ_INT(refusal_of(&options, &err), -EBADMSG);
        CHECK_CONTAINS(err.text, "the map of this image is damaged: cluster 1 is");
        options.is_opened_again = false;
    }
}

static void test_two_blocks_in_one_cluster_are_found_at_the_end(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    write_block(device, 0, 1);
    write_block(device, 1, 1);
    put_entry(1, BLOCK | NTX_QCOW2_COPIED);

    CHECK_EQ_INT(ntx_finish(device, &err), -EBADMSG);
    CHECK(!is_image());
    ntx_close(device);
}

static void test_only_one_process_writes_to_it(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    options.is_opened_again = true;
    CHECK_EQ_INT(refusal_of(&options, &err), -EBUSY);
    CHECK_CONTAINS(err.text, "another process writes to this image");
    ntx_close(device);
}

int main(void)
{
    RUN(test_what_was_flushed_is_there_again);
    RUN(test_what_lies_above_is_dropped);
    RUN(test_an_image_that_is_whole_is_none_while_it_is_gone_on_with);
    RUN(test_an_image_of_which_all_is_stored_stays_whole);
    RUN(test_what_cannot_be_gone_on_with_stays_as_it_was);
    RUN(test_a_damage_above_what_is_stored_is_none);
    RUN(test_an_image_without_its_map_is_whole_or_nothing);
    RUN(test_the_map_of_another_image_is_refused);
    RUN(test_a_damaged_map_is_refused);
    RUN(test_two_blocks_in_one_cluster_are_found_at_the_end);
    RUN(test_only_one_process_writes_to_it);
    return 0;
}
