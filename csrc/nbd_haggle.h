/*
 * nbd_haggle.h: option haggling: one option that is sent, and the replies to it.  nbd_handshake.c knows which, and why.
 *
 *   option --> server        reply, reply, ... --> nbd_handshake.c takes the data of each before it hears the next
 *
 * All return 0 or, with .err filled, why the handshake has failed.
 */
#ifndef NTX_NBD_HAGGLE_H
#define NTX_NBD_HAGGLE_H

#include "nbd_export.h"
#include "stream.h"

#define NTX_NBD_REASON_SIZE 256u

enum ntx_nbd_stage { NTX_NBD_GREETING, NTX_NBD_HAGGLING, NTX_NBD_TRANSMISSION };

struct ntx_nbd_haggle {
    struct ntx_stream *stream;
    struct ntx_tls *tls; /* NULL: none is wanted */
    const struct ntx_until *until;
    const char *name, *export_name;
    size_t export_length;
    struct ntx_nbd_export *export;
    struct ntx_error *err;
    enum ntx_nbd_stage stage;
    bool has_export, has_block_sizes;
    char reason[NTX_NBD_REASON_SIZE]; /* ": <what the server said>", or empty; of the last error reply */
};

struct ntx_nbd_option_reply {
    uint32_t type, length; /* length: of the data still to be read; 0 for errors, whose text is in .reason */
};

/* Send an option; what: its name in messages, as in all of these. */
int ntx_nbd_haggle_ask(struct ntx_nbd_haggle *h, uint32_t option, const void *data, size_t length, const char *what);

/* Receive the beginning of a reply to it, or all of one that is an error. */
int ntx_nbd_haggle_hear(struct ntx_nbd_haggle *h, uint32_t option, struct ntx_nbd_option_reply *reply);

/* Receive bytes, or drop them. */
int ntx_nbd_haggle_receive(struct ntx_nbd_haggle *h, void *data, size_t length, const char *what);
int ntx_nbd_haggle_skip(struct ntx_nbd_haggle *h, size_t length, const char *what);

/* The stream said code; or the server broke the protocol, or refuses with a reply of this type.  Never 0. */
int ntx_nbd_haggle_io_failed(struct ntx_nbd_haggle *h, int code, const char *action, const char *what);
int ntx_nbd_haggle_broken(struct ntx_nbd_haggle *h, const char *what);
int ntx_nbd_haggle_refused(struct ntx_nbd_haggle *h, uint32_t type);

#endif
