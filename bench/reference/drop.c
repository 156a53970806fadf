/*
 * drop.c: an NBD server over OpenSSL that drops what it gets: how fast is a client where the server costs little?
 *
 *   drop SIZE unix:PATH|PORT [CERTIFICATE.pem KEY.pem]
 *
 * SIZE in bytes; PORT is one of 127.0.0.1.  With a certificate it requires TLS.  Writes, zeroes and flushes are
 * answered, reads are refused.  A thread for each connection, until it is killed.  `ntx bench` builds it.
 */
#define _GNU_SOURCE
#include "bytes.h"
#include "nbd_proto.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DROPPED_AT_ONCE (256u * NTX_KIB)
#define READ_BUFFER_SIZE (128u * NTX_KIB)
#define FLAGS (1u | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN)

static uint64_t size;
static SSL_CTX *context; /* NULL: no TLS */

struct client {
    int fd;
    SSL *ssl; /* NULL: in the clear, or not yet */
    uint8_t dropped[DROPPED_AT_ONCE];
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --------------------------------------------------------------------------------------------------- bytes */

static bool take(struct client *client, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        char *at = (char *)data + done;
        ssize_t got = client->ssl != NULL ? SSL_read(client->ssl, at, (int)(length - done))
                                          : recv(client->fd, at, length - done, 0);
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool drop(struct client *client, size_t length)
{
    while (length > 0) {
        size_t part = ntx_min64(length, DROPPED_AT_ONCE);
        if (!take(client, client->dropped, part))
            return false;
        length -= part;
    }
    return true;
}

static bool give(struct client *client, const void *data, size_t length)
{
    if (client->ssl != NULL)
        return SSL_write(client->ssl, data, (int)length) == (int)length;
    return send(client->fd, data, length, MSG_NOSIGNAL) == (ssize_t)length; /* it is blocking, and little */
}

/* --------------------------------------------------------------------------------------------- negotiation */

static bool answer(struct client *client, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
    uint8_t reply[NBD_OPTION_REPLY_HEADER_SIZE + NBD_INFO_EXPORT_SIZE];

    ntx_put64(reply, NBD_OPTION_REPLY_MAGIC);
    ntx_put32(reply + 8, option);
    ntx_put32(reply + 12, type);
    ntx_put32(reply + 16, length);
    if (length > 0)
        memcpy(reply + NBD_OPTION_REPLY_HEADER_SIZE, data, length);
    return give(client, reply, NBD_OPTION_REPLY_HEADER_SIZE + length);
}

static bool start_tls(struct client *client)
{
    if (context == NULL || client->ssl != NULL)
        return answer(client, NBD_OPT_STARTTLS, NBD_REP_ERR_UNSUP, NULL, 0);
    if (!answer(client, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0))
        return false;
    client->ssl = SSL_new(context);
    if (client->ssl == NULL)
        die("memory");
    return SSL_set_fd(client->ssl, client->fd) == 1 && SSL_accept(client->ssl) == 1;
}

static bool go(struct client *client)
{
    uint8_t info[NBD_INFO_EXPORT_SIZE];

    ntx_put16(info, NBD_INFO_EXPORT);
    ntx_put64(info + 2, size);
    ntx_put16(info + 10, FLAGS);
    return answer(client, NBD_OPT_GO, NBD_REP_INFO, info, sizeof info) &&
           answer(client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

/* True: the export is open. */
static bool negotiate(struct client *client)
{
    uint8_t greeting[18], header[NBD_OPTION_HEADER_SIZE];

    ntx_put64(greeting, NBD_INIT_MAGIC);
    ntx_put64(greeting + 8, NBD_OPTION_MAGIC);
    ntx_put16(greeting + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (!give(client, greeting, sizeof greeting) || !drop(client, 4))
        return false;
    while (take(client, header, sizeof header) && drop(client, ntx_get32(header + 12))) {
        uint32_t option = ntx_get32(header + 8);
        bool is_good;
        if (option == NBD_OPT_STARTTLS)
            is_good = start_tls(client);
        else if (context != NULL && client->ssl == NULL && option != NBD_OPT_ABORT)
            is_good = answer(client, option, NBD_REP_ERR_TLS_REQD, NULL, 0);
        else if (option == NBD_OPT_GO)
            return go(client);
        else
            is_good = answer(client, option, option == NBD_OPT_ABORT ? NBD_REP_ACK : NBD_REP_ERR_UNSUP, NULL, 0);
        if (!is_good || option == NBD_OPT_ABORT)
            return false;
    }
    return false;
}

/* ---------------------------------------------------------------------------------------------- requests */

static void serve_requests(struct client *client)
{
    uint8_t request[NBD_REQUEST_SIZE], reply[NBD_SIMPLE_REPLY_SIZE];

    while (take(client, request, sizeof request) && ntx_get32(request) == NBD_REQUEST_MAGIC) {
        uint16_t command = ntx_get16(request + 6);
        bool is_known = command == NBD_CMD_WRITE || command == NBD_CMD_FLUSH || command == NBD_CMD_WRITE_ZEROES;
        if (command == NBD_CMD_DISC || (command == NBD_CMD_WRITE && !drop(client, ntx_get32(request + 24))))
            return;
        ntx_put32(reply, NBD_SIMPLE_REPLY_MAGIC);
        ntx_put32(reply + 4, is_known ? 0 : NBD_EINVAL);
        memcpy(reply + 8, request + 8, 8);
        if (!give(client, reply, sizeof reply))
            return;
    }
}

static void *serve(void *argument)
{
    struct client *client = argument;

    if (negotiate(client))
        serve_requests(client);
    if (client->ssl != NULL)
        (void)SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    close(client->fd);
    free(client);
    return NULL;
}

/* --------------------------------------------------------------------------------------------- listening */

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
        die(path);
    return fd;
}

static int listen_tcp(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
        die(port);
    return fd;
}

static void use_certificate(const char *certificate, const char *key)
{
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "drop: %s, %s: cannot be used\n", certificate, key);
        exit(1);
    }
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER_SIZE);
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: drop SIZE unix:PATH|PORT [CERTIFICATE.pem KEY.pem]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    size = strtoull(argv[1], NULL, 10);
    if (argc == 5)
        use_certificate(argv[3], argv[4]);
    int listener = strncmp(argv[2], "unix:", 5) == 0 ? listen_unix(argv[2] + 5) : listen_tcp(argv[2]), one = 1;
    for (;;) {
        struct client *client = malloc(sizeof *client);
        pthread_t thread;
        if (client == NULL)
            die("memory");
        client->ssl = NULL;
        client->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client->fd < 0)
            die("accept");
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, NULL, serve, client) != 0)
            die("thread");
        pthread_detach(thread);
    }
}
