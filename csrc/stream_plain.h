/*
 * stream_plain.h: a stream whose bytes are those of a socket.  Payload goes by reference where the system permits it
 * (stream_pages.h), which is nobody else's business.
 */
#ifndef NTX_STREAM_PLAIN_H
#define NTX_STREAM_PLAIN_H

#include "stream.h"

/*
 * Make a stream of a connected socket.
 * Ownership: fd is the stream's; after a failure it is closed.  The caller closes the stream.
 * Units:     fd is non-blocking.
 * Threads:   any.  Whoever sends by reference has SIGPIPE blocked or ignored (stream_pages.h).
 * Errors:    NULL: no memory.
 */
struct ntx_stream *ntx_stream_plain_new(int fd);

/* Try whether memory is sent by reference on this machine: makes a pipe and two sockets, and closes them. */
bool ntx_stream_plain_sends_by_reference(void);

#endif
