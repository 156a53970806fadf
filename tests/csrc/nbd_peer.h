/*
 * nbd_peer.h: an NBD server for tests that says exactly the bytes it is given.
 *
 *   open_script()   a thread accepts, sends a handshake blindly, reads what the client says up to GO or EXPORT_NAME
 *   afterwards      the test itself is the server, in its own thread: it reads requests and writes replies with
 *                   the functions below, so that every order of events is chosen and repeatable
 */
#ifndef NTX_NBD_PEER_H
#define NTX_NBD_PEER_H

#include "bytes.h"
#include "check_device.h"
#include "nbd_proto.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PEER_SIZE (16u * NTX_MIB)
#define PEER_FLAGS (1u | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN)
#define PEER_CONTEXT 0x1234abcdu

static inline unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* ------------------------------------------------------------------------------------------------- bytes */

struct script {
    uint8_t *data;
    size_t length;
};

static inline void put_bytes(struct script *script, const void *data, size_t length)
{
    script->data = realloc(script->data, script->length + length + 1);
    if (length > 0)
        memcpy(script->data + script->length, data, length);
    script->length += length;
}

static inline void put_fill(struct script *script, int byte, size_t length)
{
    uint8_t *fill = malloc(length + 1);

    memset(fill, byte, length);
    put_bytes(script, fill, length);
    free(fill);
}

static inline void put_u16(struct script *script, uint16_t value)
{
    uint8_t data[2];

    ntx_put16(data, value);
    put_bytes(script, data, sizeof data);
}

static inline void put_u32(struct script *script, uint32_t value)
{
    uint8_t data[4];

    ntx_put32(data, value);
    put_bytes(script, data, sizeof data);
}

static inline void put_u64(struct script *script, uint64_t value)
{
    uint8_t data[8];

    ntx_put64(data, value);
    put_bytes(script, data, sizeof data);
}

static inline void free_script(struct script *script)
{
    free(script->data);
    *script = (struct script){0};
}

/* --------------------------------------------------------------------------------------------- handshake */

static inline void put_greeting(struct script *s, uint16_t flags)
{
    put_u64(s, NBD_INIT_MAGIC);
    put_u64(s, NBD_OPTION_MAGIC);
    put_u16(s, flags);
}

static inline void put_option_reply(struct script *s, uint32_t option, uint32_t type, const void *data, size_t length)
{
    put_u64(s, NBD_OPTION_REPLY_MAGIC);
    put_u32(s, option);
    put_u32(s, type);
    put_u32(s, (uint32_t)length);
    put_bytes(s, data, length);
}

static inline void put_context(struct script *s, uint32_t id, const char *name)
{
    struct script data = {0};

    put_u32(&data, id);
    put_bytes(&data, name, strlen(name));
    put_option_reply(s, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, data.data, data.length);
    free_script(&data);
}

static inline void put_export_info(struct script *s, uint64_t size, uint16_t flags)
{
    struct script data = {0};

    put_u16(&data, NBD_INFO_EXPORT);
    put_u64(&data, size);
    put_u16(&data, flags);
    put_option_reply(s, NBD_OPT_GO, NBD_REP_INFO, data.data, data.length);
    free_script(&data);
}

static inline void put_block_sizes(struct script *s, uint32_t min, uint32_t preferred, uint32_t max)
{
    struct script data = {0};

    put_u16(&data, NBD_INFO_BLOCK_SIZE);
    put_u32(&data, min);
    put_u32(&data, preferred);
    put_u32(&data, max);
    put_option_reply(s, NBD_OPT_GO, NBD_REP_INFO, data.data, data.length);
    free_script(&data);
}

static inline void put_structured_ack(struct script *s)
{
    put_option_reply(s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
}

static inline void put_go_ack(struct script *s)
{
    put_option_reply(s, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

/* Everything up to the export: structured replies and, if wanted, the allocation context. */
static inline void put_haggling(struct script *s, bool is_structured, bool has_context)
{
    put_greeting(s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (!is_structured) {
        put_option_reply(s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, NULL, 0);
        return;
    }
    put_structured_ack(s);
    if (has_context)
        put_context(s, PEER_CONTEXT, "base:allocation");
    put_option_reply(s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL, 0);
}

static inline void put_handshake(struct script *s, bool is_structured, bool has_context, uint32_t min_block)
{
    put_haggling(s, is_structured, has_context);
    put_export_info(s, PEER_SIZE, PEER_FLAGS);
    put_block_sizes(s, min_block, 4096 > min_block ? 4096 : min_block, 32 * NTX_MIB);
    put_go_ack(s);
}

static inline void put_export_name_reply(struct script *s, uint64_t size, uint16_t flags, bool has_zeroes)
{
    put_u64(s, size);
    put_u16(s, flags);
    put_fill(s, 0, has_zeroes ? NBD_EXPORT_NAME_ZEROES : 0);
}

/* ---------------------------------------------------------------------------------------------- the peer */

struct peer {
    char path[32];
    int listener, fd;
    pthread_t thread;
    const struct script *script;
    size_t send_length;     /* of the script, before the peer closes its side; all of it: it stays open */
    bool is_slow;           /* one byte per send() */
    bool refuses_go;        /* the script does: more options will follow */
    struct script received; /* what the client said in the handshake */
};

static inline void peer_send(int fd, const void *data, size_t length)
{
    const char *at = data;

    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the client has seen enough */
        at += sent;
        length -= (size_t)sent;
    }
}

/* False: the client closed. */
static inline bool peer_receive(int fd, void *data, size_t length)
{
    char *at = data;

    while (length > 0) {
        ssize_t got = recv(fd, at, length, 0);
        if (got <= 0)
            return false;
        at += got;
        length -= (size_t)got;
    }
    return true;
}

static inline bool peer_record(struct peer *peer, void *data, size_t length)
{
    if (!peer_receive(peer->fd, data, length))
        return false;
    put_bytes(&peer->received, data, length);
    return true;
}

/* Read options until transmission begins, or until the client goes away. */
static inline void peer_read_options(struct peer *peer)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE], data[8192];

    if (!peer_record(peer, data, 4))
        return;
    while (peer_record(peer, header, sizeof header)) {
        uint32_t option = ntx_get32(header + 8), length = ntx_get32(header + 12);
        CHECK(length <= sizeof data);
        if (!peer_record(peer, data, length) || option == NBD_OPT_EXPORT_NAME)
            return;
        if (option == NBD_OPT_GO && !peer->refuses_go)
            return;
    }
}

static inline void *peer_run(void *argument)
{
    struct peer *peer = argument;

    peer->fd = accept(peer->listener, NULL, NULL);
    CHECK(peer->fd >= 0);
    for (size_t i = 0; i < peer->send_length; i += peer->is_slow ? 1 : peer->send_length)
        peer_send(peer->fd, peer->script->data + i, peer->is_slow ? 1 : peer->send_length);
    if (peer->send_length < peer->script->length)
        shutdown(peer->fd, SHUT_WR);
    peer_read_options(peer);
    return NULL;
}

static inline void peer_listen_at(struct peer *peer, const char *path, const struct script *script)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *peer = (struct peer){.fd = -1, .script = script, .send_length = script->length};
    snprintf(peer->path, sizeof peer->path, "%s", path);
    unlink(peer->path);
    strcpy(address.sun_path, peer->path);
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(peer->listener >= 0);
    CHECK(bind(peer->listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(peer->listener, 4) == 0);
}

static inline void peer_listen(struct peer *peer, const struct script *script)
{
    peer_listen_at(peer, "peer.sock", script);
}

static inline void peer_start(struct peer *peer)
{
    CHECK(pthread_create(&peer->thread, NULL, peer_run, peer) == 0);
}

static inline void peer_stop(struct peer *peer)
{
    close(peer->fd);
    close(peer->listener);
    free_script(&peer->received);
}

/* Open with the peer listening; afterwards the test plays the server on peer->fd. */
static inline int peer_open(struct peer *peer, enum ntx_open_mode mode, unsigned timeout_ms, struct ntx_device **device,
                            struct ntx_error *err)
{
    peer_start(peer);
    int result = open_unix(peer->path, "disk", mode, timeout_ms, device, err);
    CHECK(pthread_join(peer->thread, NULL) == 0);
    return result;
}

/* Open against script; the server refuses, or lies.  Returns the code, with err filled. */
static inline int open_refused(const struct script *script, enum ntx_open_mode mode, struct ntx_error *err)
{
    struct ntx_device *device;
    struct peer peer;

    peer_listen(&peer, script);
    peer.refuses_go = true;
    peer_start(&peer);
    int result = open_unix(peer.path, "disk", mode, CHECK_TIMEOUT_MS, &device, err);
    CHECK(pthread_join(peer.thread, NULL) == 0);
    CHECK(result != 0);
    CHECK(device == NULL);
    peer_stop(&peer);
    return result;
}

static inline void check_refused(struct script *script, enum ntx_error_class class, int code, const char *part)
{
    struct ntx_error err = {0};

    CHECK_EQ_INT(open_refused(script, NTX_OPEN_READ, &err), code);
    CHECK_EQ_INT(err.class, class);
    CHECK_EQ_INT(err.code, code);
    CHECK_CONTAINS(err.text, "nbd+unix:///disk?socket=peer.sock: ");
    CHECK_CONTAINS(err.text, part);
    for (const char *at = err.text; *at != '\0'; at++)
        CHECK(*at >= 0x20 && *at < 0x7f);
    free_script(script);
}

static inline void check_protocol(struct script *script, const char *part)
{
    check_refused(script, NTX_E_PROTOCOL, -EPROTO, part);
}

static inline struct ntx_device *open_script(struct peer *peer, const struct script *script)
{
    struct ntx_device *device;
    struct ntx_error err;

    peer_listen(peer, script);
    CHECK_OK(peer_open(peer, NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err), err);
    return device;
}

static inline struct ntx_device *open_peer(struct peer *peer, bool is_structured, bool has_context, uint32_t min_block)
{
    struct script script = {0};

    signal(SIGPIPE, SIG_IGN); /* as a job's threads have it: see stream_pages.h */
    put_handshake(&script, is_structured, has_context, min_block);
    struct ntx_device *device = open_script(peer, &script);
    peer->script = NULL;
    free_script(&script);
    return device;
}

/* ----------------------------------------------------------------------------------------- transmission */

struct request {
    uint16_t flags, command;
    uint64_t cookie, offset;
    uint32_t length;
};

static inline struct request peer_read_request(int fd)
{
    uint8_t header[NBD_REQUEST_SIZE];

    CHECK(peer_receive(fd, header, sizeof header));
    CHECK(ntx_get32(header) == NBD_REQUEST_MAGIC);
    return (struct request){
        .flags = ntx_get16(header + 4),
        .command = ntx_get16(header + 6),
        .cookie = ntx_get64(header + 8),
        .offset = ntx_get64(header + 16),
        .length = ntx_get32(header + 24),
    };
}

static inline void put_simple(struct script *s, uint32_t error, uint64_t cookie)
{
    put_u32(s, NBD_SIMPLE_REPLY_MAGIC);
    put_u32(s, error);
    put_u64(s, cookie);
}

static inline void put_chunk(struct script *s, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t length)
{
    put_u32(s, NBD_STRUCTURED_REPLY_MAGIC);
    put_u16(s, flags);
    put_u16(s, type);
    put_u64(s, cookie);
    put_u32(s, length);
}

static inline void put_data(struct script *s, uint16_t flags, uint64_t cookie, uint64_t offset, const void *data,
                            uint32_t length)
{
    put_chunk(s, flags, NBD_REPLY_TYPE_OFFSET_DATA, cookie, length + 8);
    put_u64(s, offset);
    put_bytes(s, data, length);
}

static inline void put_hole(struct script *s, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
    put_chunk(s, flags, NBD_REPLY_TYPE_OFFSET_HOLE, cookie, 12);
    put_u64(s, offset);
    put_u32(s, length);
}

static inline void put_none(struct script *s, uint64_t cookie)
{
    put_chunk(s, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, cookie, 0);
}

static inline void put_error(struct script *s, uint16_t flags, uint64_t cookie, uint32_t error, const char *text)
{
    put_chunk(s, flags, NBD_REPLY_TYPE_ERROR_BIT + 1, cookie, (uint32_t)(6 + strlen(text)));
    put_u32(s, error);
    put_u16(s, (uint16_t)strlen(text));
    put_bytes(s, text, strlen(text));
}

static inline void put_error_offset(struct script *s, uint16_t flags, uint64_t cookie, uint32_t error, uint64_t offset)
{
    put_chunk(s, flags, NBD_REPLY_TYPE_ERROR_OFFSET, cookie, 14);
    put_u32(s, error);
    put_u16(s, 0);
    put_u64(s, offset);
}

static inline struct ntx_io *submit_io(struct ntx_device *device, struct ntx_io *io)
{
    struct ntx_error err;

    CHECK_OK(ntx_device_submit(device, io, &err), err);
    return io;
}

/* Let the device send what it has queued; nothing is there to receive. */
static inline void push_requests(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(device->ops->advance(device, &err), err);
}

#endif
