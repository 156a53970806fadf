/*
 * nbd_proto.h: numbers of the NBD protocol that this client uses, and the limits that it sets for itself.
 *
 * Source: NetworkBlockDevice/nbd doc/proto.md at 89ba7b5; each group names its section.  All fields on the wire are
 * big-endian (section "Conventions").
 */
#ifndef NTX_NBD_PROTO_H
#define NTX_NBD_PROTO_H

#include "ntx.h"

/* "Newstyle negotiation" and "Oldstyle negotiation" */
#define NBD_INIT_MAGIC 0x4e42444d41474943ull   /* NBDMAGIC */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull /* IHAVEOPT */
#define NBD_OLDSTYLE_MAGIC 0x00420281861253ull
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull /* "Fixed newstyle negotiation" */
#define NBD_OPTION_HEADER_SIZE 16u
#define NBD_OPTION_REPLY_HEADER_SIZE 20u
#define NBD_EXPORT_NAME_REPLY_SIZE 10u
#define NBD_EXPORT_NAME_ZEROES 124u

/* "Handshake flags", "Client flags" */
#define NBD_FLAG_FIXED_NEWSTYLE (1u << 0)
#define NBD_FLAG_NO_ZEROES (1u << 1)

/* "Transmission flags" */
#define NBD_FLAG_READ_ONLY (1u << 1)
#define NBD_FLAG_SEND_FLUSH (1u << 2)
#define NBD_FLAG_ROTATIONAL (1u << 4)
#define NBD_FLAG_SEND_WRITE_ZEROES (1u << 6)
#define NBD_FLAG_CAN_MULTI_CONN (1u << 8)

/* "Option types" */
#define NBD_OPT_EXPORT_NAME 1u
#define NBD_OPT_ABORT 2u
#define NBD_OPT_STARTTLS 5u
#define NBD_OPT_GO 7u
#define NBD_OPT_STRUCTURED_REPLY 8u
#define NBD_OPT_SET_META_CONTEXT 10u

/* "Option reply types" */
#define NBD_REP_ACK 1u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERROR (1u << 31)
#define NBD_REP_ERR_UNSUP (NBD_REP_ERROR + 1)
#define NBD_REP_ERR_POLICY (NBD_REP_ERROR + 2)
#define NBD_REP_ERR_INVALID (NBD_REP_ERROR + 3)
#define NBD_REP_ERR_PLATFORM (NBD_REP_ERROR + 4)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_ERROR + 5)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_ERROR + 6)
#define NBD_REP_ERR_SHUTDOWN (NBD_REP_ERROR + 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERROR + 8)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_ERROR + 9)

#define NBD_INFO_EXPORT 0u
#define NBD_INFO_BLOCK_SIZE 3u
#define NBD_INFO_EXPORT_SIZE 12u
#define NBD_INFO_BLOCK_SIZE_SIZE 14u

/* "Request message", "Simple reply message", "Structured reply chunk message" */
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_REQUEST_SIZE 28u
#define NBD_SIMPLE_REPLY_SIZE 16u
#define NBD_CHUNK_HEADER_SIZE 20u
#define NBD_CHUNK_OFFSET_SIZE 8u

/* "Request types" */
#define NBD_CMD_READ 0u
#define NBD_CMD_WRITE 1u
#define NBD_CMD_DISC 2u
#define NBD_CMD_FLUSH 3u
#define NBD_CMD_WRITE_ZEROES 6u
#define NBD_CMD_BLOCK_STATUS 7u

/* "Structured reply flags", "Structured reply types" */
#define NBD_REPLY_FLAG_DONE (1u << 0)
#define NBD_REPLY_TYPE_NONE 0u
#define NBD_REPLY_TYPE_OFFSET_DATA 1u
#define NBD_REPLY_TYPE_OFFSET_HOLE 2u
#define NBD_REPLY_TYPE_BLOCK_STATUS 5u
#define NBD_REPLY_TYPE_ERROR_BIT (1u << 15)
#define NBD_REPLY_TYPE_ERROR_OFFSET (NBD_REPLY_TYPE_ERROR_BIT + 2)
#define NBD_HOLE_SIZE 12u
#define NBD_ERROR_SIZE 6u
#define NBD_STATUS_CONTEXT_SIZE 4u
#define NBD_STATUS_DESCRIPTOR_SIZE 8u

/* "`base:allocation` metadata context": ZERO says what a read gives; HOLE alone says nothing about the contents. */
#define NBD_ALLOCATION_CONTEXT "base:allocation"
#define NBD_STATE_ZERO (1u << 1)

/* "Error values" */
#define NBD_EPERM 1u
#define NBD_EIO 5u
#define NBD_ENOMEM 12u
#define NBD_EINVAL 22u
#define NBD_ENOSPC 28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP 95u
#define NBD_ESHUTDOWN 108u

/* "Size constraints" */
#define NBD_MAX_MIN_BLOCK (64u * NTX_KIB)
#define NBD_DEFAULT_MIN_BLOCK 512u
#define NBD_DEFAULT_PREFERRED_BLOCK 4096u
#define NBD_DEFAULT_MAX_PAYLOAD (32u * NTX_MIB)

#define NBD_MAX_STRING 4096u /* "Conventions": strings are at most this long */

/* Longest answer to an option: a string and some fields.  More is a lie or an attack. */
#define NBD_MAX_OPTION_REPLY (64u * NTX_KIB)

/* Most answers to one option; we ask for three kinds of information and one context. */
#define NBD_MAX_OPTION_REPLIES 64u

/* Longest error chunk: a string, the fields we know, and room for fields that we do not. */
#define NBD_MAX_ERROR_CHUNK (2u * NBD_MAX_STRING)

/* Most error chunks in one reply: otherwise a server could keep a request alive for ever. */
#define NBD_MAX_ERROR_CHUNKS 1024u

/* "Structured reply types": a server should not send more extents than this in one chunk. */
#define NBD_MAX_STATUS_DESCRIPTORS (1u << 20)

/* Longest range to ask the status of: what 32 bits hold, in whole blocks. */
#define NBD_MAX_STATUS_LENGTH (UINT32_MAX - NTX_BLOCK_SIZE + 1)

#endif
