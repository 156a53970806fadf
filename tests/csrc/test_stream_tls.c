/* test_stream_tls.c: bytes through TLS, both ways at once, whatever the peer and the socket do meanwhile. */
#include "tls_peer.h"

#include "bytes.h"

#define ALL (3u * NTX_MIB + 12345u)

static struct identity ca, server;
static struct ntx_tls *tls;
static uint8_t *sample;

/* ----------------------------------------------------------------------------------- what the server does */

/* Give back what comes, until it ends. */
static void echo(struct tls_peer *peer)
{
    uint8_t data[30000];
    size_t got, sent;

    while (SSL_read_ex(peer->ssl, data, sizeof data, &got) == 1)
        if (SSL_write_ex(peer->ssl, data, got, &sent) != 1)
            return;
}

/* The same, and new keys, ours and theirs, after every record (TLS 1.3). */
static void echo_with_new_keys(struct tls_peer *peer)
{
    uint8_t data[16384];
    size_t got, sent;

    while (SSL_read_ex(peer->ssl, data, sizeof data, &got) == 1) {
        CHECK(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        if (SSL_write_ex(peer->ssl, data, got, &sent) != 1)
            return;
    }
}

static _Atomic unsigned keys_told;

static void note_new_keys(int is_sent, int version, int type, const void *data, size_t length, SSL *ssl, void *unused)
{
    (void)version, (void)ssl, (void)unused;
    if (!is_sent && type == SSL3_RT_HANDSHAKE && length > 0 && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE)
        keys_told++;
}

static void echo_noting_new_keys(struct tls_peer *peer)
{
    SSL_set_msg_callback(peer->ssl, note_new_keys);
    echo(peer);
}

/* One byte, and then a wish for another handshake (TLS 1.2). */
static void renegotiate(struct tls_peer *peer)
{
    char data[16];

    CHECK(SSL_write(peer->ssl, "a", 1) == 1);
    SSL_renegotiate(peer->ssl);
    SSL_do_handshake(peer->ssl);
    if (SSL_read(peer->ssl, data, sizeof data) > 0)
        SSL_write(peer->ssl, "b", 1);
}

/* Messages that hold nothing for the client, without an end (TLS 1.3). */
static void send_tickets(struct tls_peer *peer)
{
    struct pollfd client = {.fd = peer->fd};

    while (poll(&client, 1, 0) == 0) { /* OpenSSL does not mind when a ticket cannot be sent */
        CHECK(SSL_new_session_ticket(peer->ssl) == 1);
        if (SSL_do_handshake(peer->ssl) != 1)
            return;
    }
}

static void break_off(struct tls_peer *peer)
{
    CHECK(SSL_write(peer->ssl, "a", 1) == 1);
    shutdown(peer->fd, SHUT_RDWR);
}

/* A whole record of which one bit is not what was sent. */
static void change_a_record(struct tls_peer *peer)
{
    uint8_t record[64] = {0x17, 3, 3, 0, 40, 1, 2, 3};

    CHECK(SSL_write(peer->ssl, "a", 1) == 1);
    CHECK(send(peer->fd, record, 45, MSG_NOSIGNAL) == 45);
    CHECK(recv(peer->fd, record, sizeof record, 0) > 0); /* the alert */
}

static void say_what_is_no_tls(struct tls_peer *peer)
{
    CHECK(send(peer->fd, "NBDMAGICIHAVEOPT", 16, MSG_NOSIGNAL) == 16);
}

static void read_to_the_end(struct tls_peer *peer)
{
    char data[64];
    int got = SSL_read(peer->ssl, data, sizeof data);

    CHECK_EQ_INT(got, 3);
    CHECK_EQ_INT(SSL_read(peer->ssl, data, sizeof data), 0);
    CHECK_EQ_INT(SSL_get_error(peer->ssl, 0), SSL_ERROR_ZERO_RETURN); /* and not a connection that was cut */
}

/* ------------------------------------------------------------------------------------------------ the tests */

static void narrow(const struct tls_peer *peer)
{
    int size = 4096;

    setsockopt(peer->client_fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(peer->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Offer what is left in pieces of all sizes, as a connection does. */
static ssize_t offer(struct ntx_stream *stream, size_t sent)
{
    static const size_t sizes[] = {28, 100000, 28, 28, 1, 16384, 16385, 28, 300000};
    struct iovec vectors[9];
    unsigned count = 0;

    for (size_t at = 0, i = 0; i < 9 && at < ALL; at += sizes[i++]) {
        size_t start = at > sent ? at : sent, end = at + sizes[i] < ALL ? at + sizes[i] : ALL;
        if (start < end)
            vectors[count++] = (struct iovec){.iov_base = sample + start, .iov_len = end - start};
    }
    if (count == 0)
        vectors[count++] = (struct iovec){.iov_base = sample + sent, .iov_len = ALL - sent};
    return stream->ops->sendv(stream, vectors, count, true);
}

static ssize_t take(struct ntx_stream *stream, uint8_t *to, size_t received)
{
    size_t left = ALL - received;
    struct iovec vectors[2] = {{to + received, left < 70000 ? left : 70000}};

    if (left > 70000)
        vectors[1] = (struct iovec){to + received + 70000, left - 70000 < 20 ? left - 70000 : 20};
    return stream->ops->recvv(stream, vectors, left > 70000 ? 2 : 1);
}

/* Send all of sample and receive it again, never waiting but in poll() and for what the stream says. */
static void exchange(struct ntx_stream *stream)
{
    uint8_t *back = malloc(ALL);
    size_t sent = 0, received = 0;
    struct ntx_until until = soon();

    while (received < ALL) {
        ssize_t out = sent < ALL ? offer(stream, sent) : 0;
        CHECK(out >= 0 || out == -EAGAIN);
        CHECK(out != 0 || sent == ALL);
        sent += out > 0 ? (size_t)out : 0;
        ssize_t in = take(stream, back, received);
        CHECK(in > 0 || in == -EAGAIN);
        received += in > 0 ? (size_t)in : 0;
        if (received == ALL || (in > 0 && stream->ops->pending(stream)))
            continue;
        short events = POLLIN | (sent < ALL ? POLLOUT : 0);
        CHECK_EQ_INT(ntx_until_ready(&until, stream->fd, stream->ops->wants(stream, events)), 0);
    }
    CHECK_EQ_U64(sent, ALL);
    CHECK(memcmp(back, sample, ALL) == 0);
    free(back);
}

static void test_bytes_arrive_as_they_were_sent(void)
{
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.identity = &server, .serve = echo, .max_version = versions[i]};
        struct ntx_stream *stream = tls_peer_open(&peer, tls);

        exchange(stream);

        tls_peer_end(&peer, stream);
    }
}

static void test_socket_that_takes_little_costs_no_byte(void)
{
    struct tls_peer peer = {.identity = &server, .serve = echo};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    narrow(&peer);

    exchange(stream);

    tls_peer_end(&peer, stream);
}

static void test_new_keys_at_any_time_cost_no_byte(void)
{
    for (unsigned is_narrow = 0; is_narrow < 2; is_narrow++) {
        struct tls_peer peer = {.identity = &server, .serve = echo_with_new_keys, .min_version = TLS1_3_VERSION};
        struct ntx_stream *stream = tls_peer_open(&peer, tls);
        if (is_narrow)
            narrow(&peer);

        exchange(stream);

        tls_peer_end(&peer, stream);
    }
}

static void test_keys_do_not_serve_for_ever(void)
{
    struct ntx_tls *few = make_tls(trusting(&ca, "localhost"));
    few->records_per_key = 10;

    for (unsigned is_narrow = 0; is_narrow < 2; is_narrow++) {
        struct tls_peer peer = {.identity = &server, .serve = echo_noting_new_keys};
        struct ntx_stream *stream = tls_peer_open(&peer, few);
        keys_told = 0;
        if (is_narrow)
            narrow(&peer);

        exchange(stream);

        tls_peer_end(&peer, stream);
        CHECK(keys_told > ALL / 16384 / 10);
    }
    ntx_tls_free(few);
}

static void test_key_serves_as_well_as_a_certificate(void)
{
    struct ntx_tls *psk = make_tls(with_psk("alice", PEER_PSK));
    struct tls_peer peer = {.serve = echo};
    struct ntx_stream *stream = tls_peer_open(&peer, psk);
    ntx_tls_free(psk); /* the stream keeps what it needs */

    exchange(stream);

    tls_peer_end(&peer, stream);
}

static int receive(struct ntx_stream *stream, char *byte)
{
    struct ntx_until until = soon();

    return ntx_stream_recv_all(stream, byte, 1, &until, NULL);
}

static void test_another_handshake_is_declined_and_costs_nothing(void)
{
    struct tls_peer peer = {.identity = &server, .serve = renegotiate, .max_version = TLS1_2_VERSION};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    struct ntx_until until = soon();
    char byte;

    CHECK_EQ_INT(receive(stream, &byte), 0);
    CHECK_EQ_INT(ntx_stream_send_all(stream, "x", 1, &until), 0);

    CHECK_EQ_INT(receive(stream, &byte), 0); /* a server may also insist, and go */
    CHECK_EQ_INT(byte, 'b');
    tls_peer_end(&peer, stream);
}

static void test_server_that_never_stops_sending_nothing_is_left_in_time(void)
{
    struct tls_peer peer = {.identity = &server, .serve = send_tickets, .min_version = TLS1_3_VERSION};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), 50), -1};
    char byte;

    CHECK_EQ_INT(ntx_stream_recv_all(stream, &byte, 1, &until, NULL), -ETIMEDOUT);

    tls_peer_end(&peer, stream);
}

static void test_connection_that_is_cut_is_the_end(void)
{
    struct tls_peer peer = {.identity = &server, .serve = break_off};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    char byte;

    CHECK_EQ_INT(receive(stream, &byte), 0);
    CHECK_EQ_INT(receive(stream, &byte), -ECONNRESET);
    CHECK_EQ_INT(receive(stream, &byte), -ECONNRESET);
    CHECK_EQ_STR(ntx_stream_why(stream).text, "");
    tls_peer_end(&peer, stream);
}

static void test_record_that_was_changed_is_not_believed(void)
{
    struct tls_peer peer = {.identity = &server, .serve = change_a_record};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    struct ntx_until until = soon();
    char byte;

    CHECK_EQ_INT(receive(stream, &byte), 0);
    CHECK_EQ_INT(receive(stream, &byte), -EBADMSG);
    CHECK_EQ_STR(ntx_stream_why(stream).text, ": a record was changed on the way");
    CHECK_EQ_INT(receive(stream, &byte), -EBADMSG); /* and nothing is taken or sent after it */
    CHECK_EQ_INT(ntx_stream_send_all(stream, "x", 1, &until), -EBADMSG);
    tls_peer_end(&peer, stream);
}

static void test_what_is_no_tls_is_refused_at_any_time(void)
{
    struct tls_peer peer = {.identity = &server, .serve = say_what_is_no_tls};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);
    char byte;

    CHECK_EQ_INT(receive(stream, &byte), -EKEYREJECTED);

    CHECK_EQ_STR(ntx_stream_why(stream).text, ": what the server sends is not TLS");
    tls_peer_end(&peer, stream);
}

static void test_closing_says_goodbye(void)
{
    struct tls_peer peer = {.identity = &server, .serve = read_to_the_end};
    struct ntx_stream *stream = tls_peer_open(&peer, tls);

    ntx_stream_send_hint(stream, "end", 3);

    tls_peer_end(&peer, stream);
}

/* ------------------------------------------------------------------------------------------ the handshake */

/* A client alone at one end of a socket pair. */
static int start_alone(int ends[2], const struct ntx_until *until, struct ntx_error *err)
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    struct ntx_stream *stream = ntx_stream_plain_new(ends[0]);
    struct ntx_stream *plain = stream;
    int result = ntx_stream_tls_start(&stream, tls, "nbds://server/disk", until, err);

    CHECK(stream == plain);
    ntx_stream_close(stream);
    return result;
}

static void test_server_that_says_nothing_is_waited_for_no_longer_than_allowed(void)
{
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), 20), -1};
    struct ntx_error err;
    int ends[2];

    CHECK_EQ_INT(start_alone(ends, &until, &err), -ETIMEDOUT);

    CHECK_EQ_INT(err.class, NTX_E_TIMEOUT);
    CHECK_CONTAINS(err.text, "nbds://server/disk: TLS handshake failed: time limit reached");
    close(ends[1]);
}

static void test_handshake_can_be_stopped(void)
{
    struct ntx_error err;
    int stop[2], ends[2];
    CHECK(pipe(stop) == 0);
    CHECK(write(stop[1], "x", 1) == 1);
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), TLS_TIMEOUT_MS), stop[0]};

    CHECK_EQ_INT(start_alone(ends, &until, &err), -ECANCELED);

    CHECK_EQ_INT(err.class, NTX_E_CANCELLED);
    close(ends[1]);
    close(stop[0]);
    close(stop[1]);
}

/* ----------------------------------------------------------------------------------------------- threads */

static void *open_and_exchange(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 3; i++) {
        struct tls_peer peer = {.identity = &server, .serve = echo};
        struct ntx_stream *stream = tls_peer_open(&peer, tls);
        exchange(stream);
        tls_peer_end(&peer, stream);
    }
    return NULL;
}

static void test_threads_share_what_they_are_known_by(void)
{
    pthread_t threads[3];

    for (size_t i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, open_and_exchange, NULL) == 0);
    for (size_t i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void)
{
    ca = make_identity(NULL, "CA", NULL, 10);
    server = make_identity(&ca, "server", "DNS:localhost", 10);
    tls = make_tls(trusting(&ca, "localhost"));
    sample = malloc(ALL);
    for (size_t i = 0; i < ALL; i++)
        sample[i] = (uint8_t)(i * 7 + i / 251 + i / 65536);

    RUN(test_bytes_arrive_as_they_were_sent);
    RUN(test_socket_that_takes_little_costs_no_byte);
    RUN(test_new_keys_at_any_time_cost_no_byte);
    RUN(test_keys_do_not_serve_for_ever);
    RUN(test_key_serves_as_well_as_a_certificate);
    RUN(test_another_handshake_is_declined_and_costs_nothing);
    RUN(test_server_that_never_stops_sending_nothing_is_left_in_time);
    RUN(test_connection_that_is_cut_is_the_end);
    RUN(test_record_that_was_changed_is_not_believed);
    RUN(test_what_is_no_tls_is_refused_at_any_time);
    RUN(test_closing_says_goodbye);
    RUN(test_server_that_says_nothing_is_waited_for_no_longer_than_allowed);
    RUN(test_handshake_can_be_stopped);
    RUN(test_threads_share_what_they_are_known_by);
    free(sample);
    ntx_tls_free(tls);
    free_identity(&ca);
    free_identity(&server);
    return 0;
}
