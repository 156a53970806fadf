cimport ntxengine._core.ntx as ntx


cdef class Tls:
    cdef ntx.ntx_tls *tls
    cdef int _make(self, const ntx.ntx_tls_options *options) except -1
