/*
 * nbd_text.h: what an NBD peer says, made safe and readable: its texts, its error values, and the names of exports.
 */
#ifndef NTX_NBD_TEXT_H
#define NTX_NBD_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Copy at most size - 1 bytes that came from a peer; all but printable ASCII becomes '?'.  Always terminates. */
void ntx_nbd_printable(char *to, size_t size, const void *from, size_t length);

/* SCHEME:///EXPORT?socket=PATH and SCHEME://HOST:PORT/EXPORT, percent-encoded, cut at size - 1. */
void ntx_nbd_uri_unix(char *to, size_t size, const char *scheme, const char *path, const char *export_name);
void ntx_nbd_uri_tcp(char *to, size_t size, const char *scheme, const char *host, const char *port,
                     const char *export_name);

/* The negative errno of an error value on the wire; what the protocol does not define is -EINVAL. */
int ntx_nbd_errno(uint32_t error);

#endif
