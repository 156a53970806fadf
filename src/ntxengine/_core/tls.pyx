# cython: boundscheck=False, wraparound=False
"""What NBD servers are known by over TLS, and we by them: the binding of ntx_tls_new()."""

cimport cython

from libc.string cimport memset

cimport ntxengine._core.ntx as ntx

from ntxengine.errors import from_core

MIN_PSK = ntx.NTX_TLS_MIN_PSK


cdef int _set_pem(ntx.ntx_pem *to, tuple file) except -1:
    """Point into `file`, which the caller keeps."""
    cdef bytes name, content
    if file is not None:
        name, content = file
        to.name, to.data, to.size = name, <const char *>content, len(content)
    return 0


@cython.final
cdef class Tls:
    """Made once for all connections of a device.  It holds a secret, and shows none."""

    def __cinit__(self):
        self.tls = NULL

    def __dealloc__(self):
        ntx.ntx_tls_free(self.tls)

    @staticmethod
    def with_certificates(bytes host_name, tuple ca, tuple certificate=None, tuple key=None):
        """Files are (what messages call it, contents).  Errors: OptionsError."""
        cdef Tls self = Tls.__new__(Tls)
        cdef ntx.ntx_tls_options options
        memset(&options, 0, sizeof(options))
        options.host_name = host_name
        _set_pem(&options.ca, ca)
        _set_pem(&options.certificate, certificate)
        _set_pem(&options.key, key)
        self._make(&options)
        return self

    @staticmethod
    def with_psk(bytes user, bytes psk):
        """Errors: OptionsError."""
        cdef Tls self = Tls.__new__(Tls)
        cdef ntx.ntx_tls_options options
        memset(&options, 0, sizeof(options))
        options.psk_user, options.psk, options.psk_size = user, <const char *>psk, len(psk)
        self._make(&options)
        return self

    cdef int _make(self, const ntx.ntx_tls_options *options) except -1:
        cdef ntx.ntx_error err
        if ntx.ntx_tls_new(options, &self.tls, &err) < 0:
            # The two classes that it gives.
            kind = "SYSTEM" if err.error_class == ntx.NTX_E_SYSTEM else "OPTIONS"
            raise from_core(kind, err.code, 0, 0, (<const char *>err.text).decode("utf-8", "replace"))
        return 0
