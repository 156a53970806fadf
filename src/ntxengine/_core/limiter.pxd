cimport ntxengine._core.ntx as ntx


cdef class Limiter:
    cdef ntx.ntx_limiter *limiter
