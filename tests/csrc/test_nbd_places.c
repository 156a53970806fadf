/*
 * test_nbd_places.c: each connection has a place of its own, and none is waited for once somebody says stop: whether
 * the server does not accept, or accepts and says nothing.
 */
#include "nbd_peer.h"

#include "fake_device.h"
#include "stop.h"

#include <time.h>

#define PLACES 3u
#define SOON_MS 20000 /* a moment, on a machine that does much else */

static const char *const paths[PLACES] = {"0.sock", "1.sock", "2.sock"};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void list_places(struct ntx_nbd_place places[PLACES])
{
    for (unsigned i = 0; i < PLACES; i++)
        places[i] = (struct ntx_nbd_place){.path = paths[i]};
}

/* ------------------------------------------------------------------------------------------- one after another */

static struct ntx_device *open_or_clone(struct ntx_device *device, struct peer *peer)
{
    struct ntx_nbd_place places[PLACES];
    struct ntx_device *made;
    struct ntx_error err;

    list_places(places);
    peer_start(peer);
    int rc = device != NULL ? device->ops->clone(device, -1, &made, &err)
                            : ntx_open_nbd(places, PLACES, "disk", NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, -1, &made, &err);
    CHECK_OK(rc, err);
    CHECK(pthread_join(peer->thread, NULL) == 0);
    close(peer->fd);
    return made;
}

static void test_every_connection_takes_the_next_place(void)
{
    struct script script = {0};
    struct peer peers[PLACES];
    struct ntx_device *devices[2 * PLACES];
    put_handshake(&script, true, true, 1);
    for (unsigned i = 0; i < PLACES; i++)
        peer_listen_at(&peers[i], paths[i], &script);

    for (unsigned i = 0; i < 2 * PLACES; i++) {
        devices[i] = open_or_clone(i == 0 ? NULL : devices[i - 1], &peers[i % PLACES]); /* a clone clones, too */
        CHECK_CONTAINS(devices[i]->info.name, paths[i % PLACES]);
    }

    for (unsigned i = 0; i < 2 * PLACES; i++)
        ntx_close(devices[i]); /* the first one first: the places are all of theirs */
    for (unsigned i = 0; i < PLACES; i++)
        peer_stop(&peers[i]);
    free_script(&script);
}

static void test_a_place_where_nobody_is_costs_one_connection(void)
{
    struct script script = {0};
    struct peer first, last;
    struct ntx_device *device, *other;
    struct ntx_error err;
    put_handshake(&script, true, true, 1);
    peer_listen_at(&first, paths[0], &script);
    peer_listen_at(&last, paths[2], &script);
    unlink(paths[1]);
    device = open_or_clone(NULL, &first);

    CHECK_EQ_INT(device->ops->clone(device, -1, &other, &err), -ENOENT);
    CHECK(other == NULL);
    CHECK_CONTAINS(err.text, paths[1]);
    other = open_or_clone(device, &last);

    ntx_close(device);
    ntx_close(other);
    peer_stop(&first);
    peer_stop(&last);
    free_script(&script);
}

static void test_messages_call_a_place_by_its_name(void)
{
    struct ntx_nbd_place place = {.path = "absent.sock", .name = "nbd+ssh://host/\033disk"};
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_nbd(&place, 1, "disk", NTX_OPEN_READ, CHECK_TIMEOUT_MS, -1, &device, &err), -ENOENT);

    CHECK(device == NULL);
    CHECK_CONTAINS(err.text, "nbd+ssh://host/?disk");
    CHECK(strstr(err.text, "absent.sock") == NULL);
}

static void test_no_place_and_too_many_are_refused(void)
{
    struct ntx_nbd_place places[NTX_MAX_CONNECTIONS + 1] = {{.path = NULL}};
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_nbd(places, 0, "", NTX_OPEN_READ, 1000, -1, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_nbd(places, NTX_MAX_CONNECTIONS + 1, "", NTX_OPEN_READ, 1000, -1, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_nbd(places, 1, "", NTX_OPEN_READ, 1000, -1, &device, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "place 0 has no address");
}

/* --------------------------------------------------------------------------------------------------- stopping */

struct stopping {
    struct ntx_stop stop;
    int listener; /* where the connection has to wait by then; -1: nowhere */
};

static void *stop_soon(void *argument)
{
    struct stopping *stopping = argument;
    struct pollfd waits = {.fd = stopping->listener, .events = POLLIN};

    poll(&waits, 1, waits.fd < 0 ? 50 : (int)CHECK_TIMEOUT_MS);
    ntx_stop_set(&stopping->stop);
    return NULL;
}

/* With nobody there to accept, or to speak: stopped long before the time limit. */
static void check_stopped(int listener, const char *what)
{
    struct ntx_nbd_place place = {.path = "peer.sock"};
    struct ntx_device *device;
    struct ntx_error err;
    struct stopping stopping = {.listener = listener};
    pthread_t thread;
    int64_t began = now_ms();
    CHECK(ntx_stop_init(&stopping.stop) == 0);
    CHECK(pthread_create(&thread, NULL, stop_soon, &stopping) == 0);

    CHECK_EQ_INT(ntx_open_nbd(&place, 1, "", NTX_OPEN_READ, 60000, stopping.stop.fd, &device, &err), -ECANCELED);

    CHECK(now_ms() - began < SOON_MS);
    CHECK_EQ_INT(err.class, NTX_E_CANCELLED);
    CHECK_CONTAINS(err.text, what);
    CHECK(device == NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    ntx_stop_destroy(&stopping.stop);
}

static void test_a_stop_ends_connecting_and_the_handshake(void)
{
    struct script nothing = {0};
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;
    peer_listen(&peer, &nothing); /* the kernel accepts some of them, and nobody speaks */

    check_stopped(peer.listener, "handshake stopped");
    for (int i = 0; i < 8; i++)
        open_unix(peer.path, "", NTX_OPEN_READ, 20, &device, &err); /* fills the queue */
    check_stopped(-1, "connecting was stopped");

    peer_stop(&peer);
}

static void test_a_cancelled_job_does_not_wait_for_its_connections(void)
{
    struct script script = {0};
    struct fake_disk source;
    struct ntx_device *to;
    struct ntx_job *job;
    struct ntx_error err;
    struct peer peer;
    struct ntx_job_options options = {
        .limits = {.connections = 4,
                   .in_flight = 4,
                   .request_size = NTX_BLOCK_SIZE,
                   .max_buffer_bytes = 16 * NTX_BLOCK_SIZE,
                   .timeout_ms = 60000},
        .digest_fd = -1,
        .reference_fd = -1,
    };
    put_haggling(&script, true, false);
    put_export_info(&script, PEER_SIZE, PEER_FLAGS & ~NBD_FLAG_SEND_FLUSH);
    put_go_ack(&script);
    peer_listen(&peer, &script);
    CHECK_OK(peer_open(&peer, NTX_OPEN_WRITE, 60000, &to, &err), err);
    fake_init(&source, PEER_SIZE, NTX_DEVICE_CAN_MULTI_CONN);
    struct ntx_device *from = fake_open(&source);
    CHECK_OK(ntx_job_new(from, to, &options, &job, &err), err);
    CHECK_OK(ntx_job_start(job, &err), err);
    struct pollfd waits = {.fd = peer.listener, .events = POLLIN};
    CHECK(poll(&waits, 1, CHECK_TIMEOUT_MS) == 1);
    poll(NULL, 0, 50); /* the other threads, too */
    int64_t began = now_ms();

    ntx_job_cancel(job);
    CHECK_EQ_INT(ntx_job_join(job, &err), -ECANCELED);

    CHECK(now_ms() - began < SOON_MS);
    CHECK_EQ_U64(ntx_job_refused(job, &err), 0);
    ntx_job_free(job);
    ntx_close(from);
    ntx_close(to);
    peer_stop(&peer);
    fake_destroy(&source);
    free_script(&script);
}

int main(void)
{
    unsigned before = open_descriptors();

    RUN(test_every_connection_takes_the_next_place);
    RUN(test_a_place_where_nobody_is_costs_one_connection);
    RUN(test_messages_call_a_place_by_its_name);
    RUN(test_no_place_and_too_many_are_refused);
    RUN(test_a_stop_ends_connecting_and_the_handshake);
    RUN(test_a_cancelled_job_does_not_wait_for_its_connections);
    CHECK_EQ_U64(open_descriptors(), before);
    return 0;
}
