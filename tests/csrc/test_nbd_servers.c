/* test_nbd_servers.c: real servers, nbdkit and qemu-nbd, in the ways that they differ.  They die with this process. */
#include "nbd_real.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define KIB NTX_KIB
#define MIB NTX_MIB

/* --------------------------------------------------------------------------------------------- exchanges */

static void check_map(struct ntx_device *device, uint64_t offset, uint64_t length, uint64_t flags)
{
    struct ntx_extent extents[64];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, offset, length, CHECK_TIMEOUT_MS, extents, 64, &count, &err), err);
    CHECK(count > 0);
    CHECK_EQ_U64(extents[0].offset, offset);
    CHECK_EQ_U64(extents[0].flags, flags);
}

/* Write, read, zero, map and flush units of the device. */
static void check_roundtrip(struct ntx_device *device, uint32_t unit)
{
    uint8_t *sample = new_sample(unit), *zeros = calloc(1, unit);
    struct ntx_error err;
    bool can_map = (device->info.flags & NTX_DEVICE_CAN_MAP) != 0;

    CHECK_OK(do_io(device, NTX_OP_WRITE, unit, unit, sample, &err), err);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 2 * (uint64_t)unit, unit, sample, &err), err);
    check_device_holds(device, 0, zeros, unit);
    check_device_holds(device, unit, sample, unit);
    check_map(device, unit, unit, 0);
    if ((device->info.flags & NTX_DEVICE_CAN_ZERO) != 0)
        CHECK_OK(do_io(device, NTX_OP_ZERO, unit, unit, NULL, &err), err);
    else
        CHECK_OK(do_io(device, NTX_OP_WRITE, unit, unit, zeros, &err), err);
    check_device_holds(device, unit, zeros, unit);
    check_device_holds(device, 2 * (uint64_t)unit, sample, unit);
    check_map(device, 3 * (uint64_t)unit, unit, can_map ? NTX_EXTENT_ZERO : 0);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    free(sample);
    free(zeros);
}

/* 64 writes in flight, then 64 reads, of different places. */
static void check_full_queue(struct ntx_device *device, uint32_t unit)
{
    uint8_t *sample = new_sample((size_t)unit * NTX_MAX_IN_FLIGHT), *got = calloc(NTX_MAX_IN_FLIGHT, unit);
    struct ntx_io ios[NTX_MAX_IN_FLIGHT];
    struct ntx_error err;

    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
            uint64_t offset = (uint64_t)i * unit;
            ios[i] = (struct ntx_io){.op = pass == 0 ? NTX_OP_WRITE : NTX_OP_READ, .offset = offset, .length = unit};
            ios[i].data = (pass == 0 ? sample : got) + offset;
            submit_io(device, &ios[i]);
        }
        while (device->in_flight > 0) {
            struct pollfd ready = {.fd = device->fd, .events = device->events};
            struct ntx_io *io = ntx_device_reap(device);
            if (io != NULL) {
                CHECK_EQ_INT(io->result, 0);
                continue;
            }
            CHECK(poll(&ready, 1, (int)CHECK_TIMEOUT_MS) == 1);
            CHECK_OK(device->ops->advance(device, &err), err);
        }
    }
    CHECK(memcmp(sample, got, (size_t)unit * NTX_MAX_IN_FLIGHT) == 0);
    free(sample);
    free(got);
}

/* ------------------------------------------------------------------------------------------------ nbdkit */

static void test_nbdkit_with_everything(void)
{
    pid_t pid = NBDKIT("memory", "64M");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);

    CHECK_EQ_U64(device->info.size, 64 * MIB);
    CHECK((device->info.flags & NTX_DEVICE_STRUCTURED) != 0);
    CHECK((device->info.flags & NTX_DEVICE_CAN_MULTI_CONN) != 0);
    check_roundtrip(device, 64 * KIB);
    check_full_queue(device, 256 * KIB);
    ntx_close(device);
    stop(pid);
}

static void test_nbdkit_without_structured_replies(void)
{
    pid_t pid = NBDKIT("--no-sr", "memory", "16M");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);

    CHECK((device->info.flags & (NTX_DEVICE_STRUCTURED | NTX_DEVICE_CAN_MAP)) == 0);
    check_roundtrip(device, 64 * KIB);
    check_full_queue(device, 64 * KIB);
    ntx_close(device);
    stop(pid);
}

static void test_nbdkit_that_insists_on_block_sizes(void)
{
    pid_t pid = NBDKIT("--filter=blocksize-policy", "memory", "16M", "blocksize-minimum=4K", "blocksize-preferred=64K",
                       "blocksize-maximum=256K", "blocksize-error-policy=error");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);
    uint8_t *sample = new_sample(256 * KIB);
    struct ntx_error err;

    CHECK_EQ_U64(device->info.min_block, 4 * KIB);
    CHECK_EQ_U64(device->info.preferred_block, 64 * KIB);
    CHECK_EQ_U64(device->info.max_payload, 256 * KIB);
    check_roundtrip(device, 64 * KIB);
    check_full_queue(device, 256 * KIB);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, 256 * KIB, sample, &err), err);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 512, 4 * KIB, sample, &err), -EINVAL);
    ntx_close(device);
    free(sample);
    stop(pid);
}

static void test_nbdkit_with_511_bytes(void)
{
    pid_t pid = NBDKIT("memory", "511");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);
    uint8_t *sample = new_sample(511);
    struct ntx_error err;

    CHECK_EQ_U64(device->info.size, 511);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, 511, sample, &err), err);
    check_device_holds(device, 0, sample, 511);
    check_device_holds(device, 510, sample + 510, 1);
    ntx_close(device);
    free(sample);
    stop(pid);
}

static void test_nbdkit_with_no_bytes(void)
{
    pid_t pid = NBDKIT("memory", "0");
    struct ntx_device *device = open_server(pid, NTX_OPEN_READ);

    CHECK_EQ_U64(device->info.size, 0);
    ntx_close(device);
    stop(pid);
}

static void test_nbdkit_with_less_of_the_handshake(void)
{
    /* 0: plain newstyle, one option.  1: fixed newstyle, with the zeroes.  2: no zeroes, but no options either. */
    static const char *const masks[] = {"--mask-handshake=0", "--mask-handshake=1", "--mask-handshake=2"};

    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        pid_t pid = NBDKIT(masks[i], "memory", "16M");
        struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);

        CHECK_EQ_INT((device->info.flags & NTX_DEVICE_STRUCTURED) != 0, i == 1);
        check_roundtrip(device, 64 * KIB);
        ntx_close(device);
        stop(pid);
    }
}

static void test_nbdkit_that_speaks_oldstyle_is_refused(void)
{
    pid_t pid = NBDKIT("-o", "memory", "1M");
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(open_when_ready(pid, "", NTX_OPEN_READ, &device, &err), -ENOTSUP);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_CONTAINS(err.text, "oldstyle");
    stop(pid);
}

static void test_nbdkit_that_is_read_only_cannot_be_written(void)
{
    pid_t pid = NBDKIT("-r", "memory", "1M");
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(open_when_ready(pid, "", NTX_OPEN_WRITE, &device, &err), -EROFS);
    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);

    device = open_server(pid, NTX_OPEN_READ);
    CHECK((device->info.flags & NTX_DEVICE_READ_ONLY) != 0);
    check_map(device, 0, MIB, NTX_EXTENT_ZERO);
    ntx_close(device);
    stop(pid);
}

static void test_nbdkit_that_fails_requests_keeps_the_connection(void)
{
    pid_t pid = NBDKIT("--filter=error", "memory", "1M", "error=ENOSPC", "error-pwrite-rate=100%");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);
    uint8_t *sample = new_sample(4 * KIB), *zeros = calloc(1, 4 * KIB);
    struct ntx_error err;

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 8 * KIB, 4 * KIB, sample, &err), -ENOSPC);
    CHECK_EQ_INT(err.class, NTX_E_REPLY);
    CHECK_EQ_U64(err.offset, 8 * KIB);
    CHECK_EQ_U64(err.length, 4 * KIB);
    CHECK_CONTAINS(err.text, "write failed: offset 8192 length 4096: No space left on device");
    check_device_holds(device, 8 * KIB, zeros, 4 * KIB);
    ntx_close(device);
    free(sample);
    free(zeros);
    stop(pid);
}

static void test_nbdkit_that_dies_is_a_clean_error(void)
{
    pid_t pid = NBDKIT("--filter=delay", "memory", "1M", "rdelay=60");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);
    uint8_t data[4 * KIB];
    struct ntx_io io = {.op = NTX_OP_READ, .length = sizeof data, .data = data};
    struct pollfd ready = {.fd = device->fd, .events = POLLIN};
    struct ntx_error err;
    submit_io(device, &io);
    push_requests(device);

    stop(pid);

    CHECK(poll(&ready, 1, (int)CHECK_TIMEOUT_MS) == 1);
    CHECK_EQ_INT(device->ops->advance(device, &err), -ECONNRESET);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_CONTAINS(err.text, "closed the connection with 1 requests in flight");
    ntx_close(device);
}

/* --------------------------------------------------------------------------------------------------- tcp */

/* Until the socket is closed the kernel gives its port to nobody else.  A server that sets SO_REUSEADDR can listen. */
static int reserve_port(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0);
    CHECK(bind(fd, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void test_tcp_is_called_by_the_name_of_its_host(void)
{
    char text[16];
    struct ntx_device *device, *other;
    struct ntx_error err;
    int port, reserved = reserve_port(&port);
    CHECK_EQ_INT(open_tcp("127.0.0.1", port, "", NTX_OPEN_READ, START_MS, &device, &err), -ECONNREFUSED);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);

    snprintf(text, sizeof text, "%d", port);
    const char *const arguments[] = {"nbdkit", "-f", "-i", "127.0.0.1", "-p", text, "memory", "64M", NULL};
    struct ntx_nbd_place place = {.address = "127.0.0.1", .port = (uint16_t)port, .host = "localhost"};
    pid_t pid = start(arguments);
    int result = -1;
    for (unsigned waited_ms = 0; result != 0 && waited_ms < START_MS; waited_ms += 10) {
        result = ntx_open_nbd(&place, 1, "", NTX_OPEN_WRITE, START_MS, -1, &device, &err);
        if (result != 0)
            poll(NULL, 0, 10);
    }
    CHECK_OK(result, err);

    CHECK_CONTAINS(device->info.name, "nbd://localhost:");
    check_roundtrip(device, 64 * KIB);
    check_full_queue(device, 1 * MIB);
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    CHECK_EQ_STR(other->info.name, device->info.name);
    ntx_close(other);
    ntx_close(device);
    stop(pid);
    close(reserved);
}

static void test_no_name_is_looked_up(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(open_tcp("localhost", 1, "", NTX_OPEN_READ, START_MS, &device, &err), -EINVAL);

    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_CONTAINS(err.text, "localhost is no address");
}

/* ------------------------------------------------------------------------------------------------- qemu */

static pid_t start_qemu(const char *shared)
{
    const char *const arguments[] = {
        "qemu-nbd",          "-k",      socket_path, "-f", "raw", "-t", "-e", shared, "-x", "", "--discard=unmap",
        "--cache=writeback", file_path, NULL};
    int fd = open(file_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0);
    CHECK(ftruncate(fd, 64 * MIB) == 0);
    close(fd);
    return start(arguments);
}

static void test_qemu_with_several_connections(void)
{
    pid_t pid = start_qemu("4");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE), *other;
    uint8_t *sample = new_sample(64 * KIB);
    struct ntx_error err;

    CHECK((device->info.flags & NTX_DEVICE_CAN_MULTI_CONN) != 0);
    check_roundtrip(device, 64 * KIB);
    check_full_queue(device, 256 * KIB);
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 40 * MIB, 64 * KIB, sample, &err), err);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    check_device_holds(other, 40 * MIB, sample, 64 * KIB);
    ntx_close(other);
    ntx_close(device);
    free(sample);
    stop(pid);
}

static void test_qemu_tells_data_from_holes(void)
{
    pid_t pid = start_qemu("1");
    struct ntx_device *device = open_server(pid, NTX_OPEN_WRITE);
    uint8_t *sample = new_sample(256 * KIB), *zeros = calloc(1, 8 * MIB), *got = malloc(8 * MIB);
    struct ntx_extent extents[16];
    struct ntx_error err;
    size_t count;
    CHECK((device->info.flags & NTX_DEVICE_CAN_MULTI_CONN) == 0);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 2 * MIB, 256 * KIB, sample, &err), err);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 6 * MIB, 256 * KIB, sample, &err), err);

    CHECK_OK(ntx_map(device, 0, 64 * MIB, CHECK_TIMEOUT_MS, extents, 16, &count, &err), err);

    CHECK_EQ_U64(count, 5);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ_U64(extents[i].flags, i % 2 == 0 ? NTX_EXTENT_ZERO : 0);
    CHECK_EQ_U64(extents[1].offset, 2 * MIB);
    CHECK_EQ_U64(extents[1].length, 256 * KIB);
    /* A read over data and holes comes in several chunks. */
    CHECK_OK(do_io(device, NTX_OP_READ, 0, 8 * MIB, got, &err), err);
    memcpy(zeros + 2 * MIB, sample, 256 * KIB);
    memcpy(zeros + 6 * MIB, sample, 256 * KIB);
    CHECK(memcmp(got, zeros, 8 * MIB) == 0);
    ntx_close(device);
    free(sample);
    free(zeros);
    free(got);
    stop(pid);
}

static void test_qemu_refuses_an_export_that_it_has_not(void)
{
    pid_t pid = start_qemu("4");
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(open_when_ready(pid, "no such disk", NTX_OPEN_READ, &device, &err), -ENOENT);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_CONTAINS(err.text, "no such export: ");
    stop(pid);
}

static void run_nbdkit(void)
{
    RUN(test_nbdkit_with_everything);
    RUN(test_nbdkit_without_structured_replies);
    RUN(test_nbdkit_that_insists_on_block_sizes);
    RUN(test_nbdkit_with_511_bytes);
    RUN(test_nbdkit_with_no_bytes);
    RUN(test_nbdkit_with_less_of_the_handshake);
    RUN(test_nbdkit_that_speaks_oldstyle_is_refused);
    RUN(test_nbdkit_that_is_read_only_cannot_be_written);
    RUN(test_nbdkit_that_fails_requests_keeps_the_connection);
    RUN(test_nbdkit_that_dies_is_a_clean_error);
    RUN(test_tcp_is_called_by_the_name_of_its_host);
    RUN(test_no_name_is_looked_up);
}

static void run_qemu(void)
{
    RUN(test_qemu_with_several_connections);
    RUN(test_qemu_tells_data_from_holes);
    RUN(test_qemu_refuses_an_export_that_it_has_not);
}

int main(void)
{
    bool has_nbdkit = is_installed("nbdkit"), has_qemu = is_installed("qemu-nbd");

    if (!has_nbdkit && !has_qemu)
        SKIP("neither nbdkit nor qemu-nbd is installed");
    make_folder();
    if (has_nbdkit)
        run_nbdkit();
    if (has_qemu)
        run_qemu();
    return 0;
}
