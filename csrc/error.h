/*
 * error.h: filling struct ntx_error.  Every helper returns the code, so that a failure is one line:
 *
 *     return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "request size %u is not a multiple of 64 KiB", size);
 */
#ifndef NTX_ERROR_H
#define NTX_ERROR_H

#include "ntx.h"

/* code must be negative; the formatted text is cut at NTX_ERROR_TEXT. */
int ntx_error_set(struct ntx_error *err, enum ntx_error_class class, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with ": <text of errno>" behind it. */
int ntx_error_errno(struct ntx_error *err, enum ntx_error_class class, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Add the place; returns err->code. */
int ntx_error_at(struct ntx_error *err, uint64_t offset, uint64_t length);

/* The name of an errno in words, without a static buffer.  Returns text. */
const char *ntx_errno_text(int code, char *text, size_t size);

#endif
