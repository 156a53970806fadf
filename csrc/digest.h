/* digest.h: the reference behind ntx_digest(), for the tests that compare the two. */
#ifndef NTX_DIGEST_H
#define NTX_DIGEST_H

#include "ntx.h"

/* The digest by the code that the library was built with, without run-time dispatch.
 * Threads: pure. */
void ntx_digest_reference(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE]);

#endif
