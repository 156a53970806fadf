/* error.c: see error.h.  A message is one line of at most NTX_ERROR_TEXT - 1 bytes whatever goes into it. */
#undef _GNU_SOURCE /* the strerror_r() that returns int and fills the buffer, not glibc's own */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CAUSE_SIZE 128u /* the longest text of an errno is about half of it */

/* Paths and server messages may hold anything; a line break in them would forge a second message in a log. */
static void flatten(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

static void begin(struct ntx_error *err, enum ntx_error_class class, int code)
{
    err->class = class;
    err->code = code;
    err->offset = 0;
    err->length = 0;
    err->text[0] = '\0';
}

int ntx_error_set(struct ntx_error *err, enum ntx_error_class class, int code, const char *format, ...)
{
    char text[NTX_ERROR_TEXT]; /* apart, so that err->text may be an argument of its own new text */
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    begin(err, class, code);
    memcpy(err->text, text, strlen(text) + 1);
    flatten(err->text);
    return code;
}

int ntx_error_errno(struct ntx_error *err, enum ntx_error_class class, int code, const char *format, ...)
{
    char text[NTX_ERROR_TEXT], cause[CAUSE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    begin(err, class, code);
    ntx_errno_text(code, cause, sizeof cause);

    /* A long subject is cut before the cause is: the cause is what the reader is looking for. */
    size_t cause_length = strlen(cause), subject_length = strlen(text);
    size_t room = sizeof err->text - 1 - 2 - cause_length;
    if (subject_length > room)
        subject_length = room;
    memcpy(err->text, text, subject_length);
    memcpy(err->text + subject_length, ": ", 2);
    memcpy(err->text + subject_length + 2, cause, cause_length + 1);
    flatten(err->text);
    return code;
}

int ntx_error_at(struct ntx_error *err, uint64_t offset, uint64_t length)
{
    err->offset = offset;
    err->length = length;
    return err->code;
}

const char *ntx_errno_text(int code, char *text, size_t size)
{
    int number = code < 0 ? -code : code;

    if (strerror_r(number, text, size) != 0)
        snprintf(text, size, "error %d", number);
    return text;
}
