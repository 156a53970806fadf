/* digest.h: the reference behind ntx_digest(), for the tests that compare the two, and what ntx_about() says of it. */
#ifndef NTX_DIGEST_H
#define NTX_DIGEST_H

#include "ntx.h"

/* The digest by the code that the library was built with, without run-time dispatch.
 * Threads: pure. */
void ntx_digest_reference(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE]);

/* Why the kernel is the one that ntx_digest_kernel() names. */
const char *ntx_digest_kernel_reason(void);

/* Of the libxxhash that is loaded: 801 is 0.8.1. */
unsigned ntx_digest_library_version(void);

#endif
