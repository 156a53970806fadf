/* test_device_pipe.c: what is read and written in order, waits without a limit, and knows its end. */
#define _GNU_SOURCE
#include "check_device.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

static struct ntx_error err;

static struct ntx_device *open_pipe(int fd, enum ntx_open_mode mode, uint64_t size, bool may_end)
{
    struct ntx_device *device;

    CHECK_OK(ntx_open_pipe(fd, mode, "standard something", size, may_end, &device, &err), err);
    return device;
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
}

static struct ntx_io begin(struct ntx_device *device, struct ntx_io *io)
{
    CHECK_OK(ntx_device_submit(device, io, &err), err);
    return *io;
}

static void make(int ends[2], bool is_socket)
{
    CHECK(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 : pipe(ends) == 0);
}

static void test_a_read_that_finds_nothing_waits_and_goes_on_in_parts(void)
{
    for (int is_socket = 0; is_socket < 2; is_socket++) {
        int ends[2];
        make(ends, is_socket);
        struct ntx_device *device = open_pipe(ends[0], NTX_OPEN_READ, 1000, false);
        uint8_t sent[1000], got[1000];
        struct ntx_io io = {.op = NTX_OP_READ, .length = 1000, .data = got};
        fill(sent, sizeof sent);

        begin(device, &io);
        CHECK(ntx_device_reap(device) == NULL);
        CHECK(write(ends[1], sent, 400) == 400);
        CHECK(device->ops->advance(device, &err) == 0);
        CHECK(ntx_device_reap(device) == NULL);
        CHECK(write(ends[1], sent + 400, 600) == 600);
        CHECK(device->ops->advance(device, &err) == 0);
        CHECK(ntx_device_reap(device) == NULL); /* whether there is more is not known yet */
        close(ends[1]);
        CHECK(device->ops->advance(device, &err) == 0);

        CHECK(ntx_device_reap(device) == &io);
        CHECK_EQ_INT(io.result, 0);
        CHECK_EQ_MEM(got, sent, sizeof sent);
        ntx_close(device);
        close(ends[0]);
    }
}

static void test_the_flags_of_those_who_share_it_stay(void)
{
    int ends[2];
    make(ends, false);

    struct ntx_device *in = open_pipe(ends[0], NTX_OPEN_READ, 1, false);
    struct ntx_device *out = open_pipe(ends[1], NTX_OPEN_WRITE, 1, false);

    CHECK((fcntl(ends[0], F_GETFL) & O_NONBLOCK) == 0);
    CHECK((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);
    ntx_close(in);
    ntx_close(out);
    close(ends[0]);
    close(ends[1]);
}

static void give(int fd, const void *bytes, size_t size)
{
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static void check_read_fails(bool may_end, size_t given, uint64_t size, int code, const char *text)
{
    int ends[2];
    uint8_t bytes[1000] = {1}, got[1000];
    make(ends, false);
    struct ntx_device *device = open_pipe(ends[0], NTX_OPEN_READ, size, may_end);
    give(ends[1], bytes, given);

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, size, got, &err), code);
    CHECK_EQ_STR(err.text, text);
    ntx_close(device);
    close(ends[0]);
}

static void test_an_end_elsewhere_than_said_is_an_error_with_both_numbers(void)
{
    check_read_fails(
        false, 99, 100, -ENODATA,
        "standard something: read failed: offset 0 length 100: it ended at 99 bytes, and 100 were to come");
    check_read_fails(false, 101, 100, -EFBIG,
                     "standard something: read failed: offset 0 length 100: it goes on past 100 bytes, which are all "
                     "that were to come");
    check_read_fails(true, 101, 100, -EFBIG,
                     "standard something: read failed: offset 0 length 100: it goes on past 100 bytes, and the target "
                     "has room for no more");
    check_read_fails(true, 0, 100, -ENODATA,
                     "standard something: read failed: offset 0 length 100: it ended without a byte");
}

static void test_where_the_end_is_open_reads_get_what_there_is(void)
{
    int ends[2];
    uint8_t bytes[150], got[300];
    make(ends, false);
    struct ntx_device *device = open_pipe(ends[0], NTX_OPEN_READ, NTX_MAX_DEVICE_SIZE, true);
    struct ntx_io io[3];
    fill(bytes, sizeof bytes);
    for (int i = 0; i < 3; i++) {
        io[i] = (struct ntx_io){.op = NTX_OP_READ, .offset = 100u * i, .length = 100, .data = got + 100 * i};
        begin(device, &io[i]);
    }
    give(ends[1], bytes, sizeof bytes);

    CHECK(device->ops->advance(device, &err) == 0);

    for (int i = 0; i < 3; i++) {
        CHECK(ntx_device_reap(device) == &io[i]);
        CHECK_EQ_INT(io[i].result, 0);
    }
    CHECK_EQ_U64(io[0].length, 100);
    CHECK_EQ_U64(io[1].length, 50);
    CHECK_EQ_U64(io[2].length, 0);
    CHECK(device->has_ended);
    CHECK_EQ_U64(ntx_device_info(device)->size, 150);
    CHECK_EQ_MEM(got, bytes, sizeof bytes);
    ntx_close(device);
    close(ends[0]);
}

/* More than the pipe takes at once, with zeros between. */
static void test_writes_wait_for_the_reader_and_keep_their_order(void)
{
    enum { WHOLE = 3 * 1024 * 1024 };
    int ends[2];
    uint8_t *sent = calloc(1, WHOLE), *got = calloc(1, WHOLE);
    make(ends, false);
    struct ntx_device *device = open_pipe(ends[1], NTX_OPEN_WRITE, NTX_MAX_DEVICE_SIZE, false);
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    fill(sent, WHOLE);
    memset(sent + 1000, 0, 2000000);
    struct ntx_io io[3] = {
        {.op = NTX_OP_WRITE, .length = 1000, .data = sent},
        {.op = NTX_OP_ZERO, .offset = 1000, .length = 2000000},
        {.op = NTX_OP_WRITE, .offset = 2001000, .length = WHOLE - 2001000, .data = sent + 2001000},
    };
    for (int i = 0; i < 3; i++)
        begin(device, &io[i]);
    CHECK(ntx_device_reap(device) == &io[0]);
    CHECK(ntx_device_reap(device) == NULL);

    size_t taken = 0;
    while (taken < WHOLE) {
        ssize_t part = read(ends[0], got + taken, WHOLE - taken);
        taken += part > 0 ? (size_t)part : 0;
        CHECK(device->ops->advance(device, &err) == 0);
    }

    CHECK(ntx_device_reap(device) == &io[1]);
    CHECK(ntx_device_reap(device) == &io[2]);
    CHECK_EQ_MEM(got, sent, WHOLE);
    ntx_close(device);
    close(ends[0]);
    close(ends[1]);
    free(sent);
    free(got);
}

static void test_a_socket_is_written_too(void)
{
    int ends[2];
    uint8_t sent[1000], got[1000];
    make(ends, true);
    struct ntx_device *device = open_pipe(ends[1], NTX_OPEN_WRITE, 1000, false);
    fill(sent, sizeof sent);

    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, sizeof sent, sent, &err), err);

    CHECK(read(ends[0], got, sizeof got) == sizeof got);
    CHECK_EQ_MEM(got, sent, sizeof sent);
    ntx_close(device);
    close(ends[0]);
    close(ends[1]);
}

static void test_a_reader_that_is_gone_is_said_and_nothing_more_is_written(void)
{
    for (int is_socket = 0; is_socket < 2; is_socket++) {
        int ends[2];
        char byte = 1;
        make(ends, is_socket);
        struct ntx_device *device = open_pipe(ends[1], NTX_OPEN_WRITE, 100, false);
        close(ends[0]);

        CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 1, &byte, &err), -EPIPE);
        CHECK_EQ_STR(err.text, "standard something: write failed: offset 0 length 1: its reader is gone");
        CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 1, 1, &byte, &err), -EPIPE);
        CHECK_CONTAINS(err.text, "offset 0 length 1: its reader is gone");
        ntx_close(device);
        close(ends[1]);
    }
}

static void test_any_other_order_or_direction_is_refused(void)
{
    int ends[2];
    char bytes[2] = {1, 2};
    make(ends, false);
    struct ntx_device *in = open_pipe(ends[0], NTX_OPEN_READ, 100, false), *other;
    struct ntx_device *out = open_pipe(ends[1], NTX_OPEN_WRITE, 100, false);

    CHECK_EQ_INT(do_io(out, NTX_OP_WRITE, 1, 1, bytes, &err), -ESPIPE);
    CHECK_EQ_INT(do_io(out, NTX_OP_READ, 0, 1, bytes, &err), -ESPIPE);
    CHECK_EQ_INT(do_io(in, NTX_OP_READ, 1, 1, bytes, &err), -ESPIPE);
    CHECK_EQ_INT(do_io(in, NTX_OP_WRITE, 0, 1, bytes, &err), -EROFS);
    CHECK_EQ_INT(in->ops->clone(in, -1, &other, &err), -ENOTSUP);
    CHECK(other == NULL);
    ntx_close(in);
    ntx_close(out);
    close(ends[0]);
    close(ends[1]);
}

static int new_file(const char *path, int flags)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
    CHECK(fd >= 0);
    return fd;
}

static void test_a_file_is_written_from_where_it_stands_with_holes_at_its_end(void)
{
    for (int flags = 0; flags <= O_APPEND; flags += O_APPEND) {
        int fd = new_file("out", flags);
        struct stat status;
        uint8_t got[10];
        CHECK(write(fd, "ab", 2) == 2);
        struct ntx_device *device = open_pipe(fd, NTX_OPEN_WRITE, NTX_MAX_DEVICE_SIZE, false);

        CHECK_OK(do_io(device, NTX_OP_ZERO, 0, NTX_GIB, NULL, &err), err);
        CHECK_OK(do_io(device, NTX_OP_WRITE, NTX_GIB, 2, "cd", &err), err);
        CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);

        CHECK(fstat(fd, &status) == 0);
        CHECK_EQ_U64(status.st_size, NTX_GIB + 4);
        CHECK(status.st_blocks < 1000);
        CHECK(pread(fd, got, 4, (off_t)NTX_GIB) == 4);
        CHECK_EQ_MEM(got, "\0\0cd", 4);
        ntx_close(device);
        close(fd);
    }
}

static void test_zeros_over_what_a_file_holds_are_written(void)
{
    int fd = new_file("out", 0);
    uint8_t got[200], zeros[100] = {0};
    memset(got, 1, sizeof got);
    CHECK(write(fd, got, 200) == 200 && lseek(fd, 50, SEEK_SET) == 50);
    struct ntx_device *device = open_pipe(fd, NTX_OPEN_WRITE, 100, false);

    CHECK_OK(do_io(device, NTX_OP_ZERO, 0, 100, NULL, &err), err);

    CHECK(pread(fd, got, 200, 0) == 200);
    CHECK_EQ_MEM(got + 50, zeros, 100);
    CHECK(got[49] == 1 && got[150] == 1);
    ntx_close(device);
    close(fd);
}

static void test_a_file_is_read_from_where_it_stands(void)
{
    int fd = new_file("in", 0);
    char got[3];
    CHECK(write(fd, "abcde", 5) == 5 && lseek(fd, 2, SEEK_SET) == 2);
    struct ntx_device *device = open_pipe(fd, NTX_OPEN_READ, 3, false);

    CHECK_EQ_INT(device->fd, -1);
    CHECK_OK(do_io(device, NTX_OP_READ, 0, 3, got, &err), err);

    CHECK_EQ_MEM(got, "cde", 3);
    ntx_close(device);
    close(fd);
}

static void test_no_room_is_an_error(void)
{
    int fd = open("/dev/full", O_WRONLY);
    char byte = 1;
    struct ntx_device *device = open_pipe(fd, NTX_OPEN_WRITE, 100, false);

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 1, &byte, &err), -ENOSPC);
    CHECK_CONTAINS(err.text, "No space left");
    ntx_close(device);
    close(fd);
}

static void test_what_cannot_be_opened_is_refused(void)
{
    struct ntx_device *device;

    CHECK_EQ_INT(ntx_open_pipe(-1, NTX_OPEN_READ, "x", 1, false, &device, &err), -EBADF);
    CHECK(device == NULL);
    CHECK_EQ_INT(ntx_open_pipe(0, NTX_OPEN_READ, "x", UINT64_MAX, false, &device, &err), -EINVAL);
    CHECK(device == NULL);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    RUN(test_a_read_that_finds_nothing_waits_and_goes_on_in_parts);
    RUN(test_the_flags_of_those_who_share_it_stay);
    RUN(test_an_end_elsewhere_than_said_is_an_error_with_both_numbers);
    RUN(test_where_the_end_is_open_reads_get_what_there_is);
    RUN(test_writes_wait_for_the_reader_and_keep_their_order);
    RUN(test_a_socket_is_written_too);
    RUN(test_a_reader_that_is_gone_is_said_and_nothing_more_is_written);
    RUN(test_any_other_order_or_direction_is_refused);
    RUN(test_a_file_is_written_from_where_it_stands_with_holes_at_its_end);
    RUN(test_zeros_over_what_a_file_holds_are_written);
    RUN(test_a_file_is_read_from_where_it_stands);
    RUN(test_no_room_is_an_error);
    RUN(test_what_cannot_be_opened_is_refused);
    return 0;
}
