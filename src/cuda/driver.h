/* driver.h - the functions of the CUDA driver that tug calls, and how they are found.
 *
 * Our own declarations: building tug needs no CUDA toolkit, and running it none either.
 * Names and types are those of libcuda.so.1, with the version suffixes that its headers
 * hide (cuMemAlloc is cuMemAlloc_v2 in the library).  Every function that is listed here
 * exists since CUDA 12.0.  tests/cuda/test_driver_header.c compares all this with the real
 * header where there is one.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CUDA_DRIVER_H
#define TUG_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int tug_cu_result;
typedef int tug_cu_device;
typedef uint64_t tug_cu_ptr; /* an address of device memory */
typedef struct CUctx_st *tug_cu_context;
typedef struct CUmod_st *tug_cu_module;
typedef struct CUfunc_st *tug_cu_function;
typedef struct CUstream_st *tug_cu_stream;
typedef struct CUevent_st *tug_cu_event;
typedef struct CUgraph_st *tug_cu_graph;
typedef struct CUgraphExec_st *tug_cu_graph_exec;

enum {
    TUG_CU_SUCCESS = 0,
    TUG_CU_INVALID_VALUE = 1,
    TUG_CU_OUT_OF_MEMORY = 2,
    TUG_CU_NOT_INITIALIZED = 3,
    TUG_CU_NO_DEVICE = 100,
    TUG_CU_INVALID_DEVICE = 101,
    TUG_CU_INVALID_IMAGE = 200,
    TUG_CU_NO_BINARY_FOR_GPU = 209,
    TUG_CU_INVALID_HANDLE = 400,
    TUG_CU_NOT_FOUND = 500,
    TUG_CU_NOT_READY = 600,
    TUG_CU_ILLEGAL_ADDRESS = 700,
    TUG_CU_LAUNCH_OUT_OF_RESOURCES = 701,
    TUG_CU_LAUNCH_FAILED = 719,
    TUG_CU_STREAM_CAPTURE_UNSUPPORTED = 900,
    TUG_CU_UNKNOWN = 999
};

/* of cuDeviceGetAttribute */
enum {
    TUG_CU_ATTR_MAX_SHARED_PER_BLOCK = 8,
    TUG_CU_ATTR_N_SM = 16,
    TUG_CU_ATTR_PCI_BUS = 33,
    TUG_CU_ATTR_PCI_DEVICE = 34,
    TUG_CU_ATTR_PCI_DOMAIN = 50,
    TUG_CU_ATTR_CC_MAJOR = 75,
    TUG_CU_ATTR_CC_MINOR = 76,
    TUG_CU_ATTR_MAX_SHARED_OPTIN = 97,
    TUG_CU_ATTR_STREAM_MEM_OPS = 122 /* of 64 bits: those of 32 come with them */
};

/* flags */
enum {
    TUG_CU_HOST_PORTABLE = 1,
    TUG_CU_HOST_MAPPED = 2,
    TUG_CU_STREAM_NON_BLOCKING = 1,
    TUG_CU_EVENT_DEFAULT = 0,
    TUG_CU_EVENT_NO_TIMING = 2,
    TUG_CU_CAPTURE_THREAD_LOCAL = 1,
    TUG_CU_WAIT_GEQ = 0,       /* (int32_t)(*p - value) >= 0 */
    TUG_CU_FUNC_MAX_SHARED = 8 /* cuFuncSetAttribute: MAX_DYNAMIC_SHARED_SIZE_BYTES */
};

/* X(name in the library, parameters) */
#define TUG_CU_FUNCTIONS(X)                                                             \
    X(cuInit, (unsigned flags))                                                         \
    X(cuDriverGetVersion, (int *version))                                               \
    X(cuGetErrorName, (tug_cu_result r, const char **text))                             \
    X(cuGetErrorString, (tug_cu_result r, const char **text))                           \
    X(cuDeviceGetCount, (int *n))                                                       \
    X(cuDeviceGet, (tug_cu_device * dev, int i))                                        \
    X(cuDeviceGetName, (char *name, int size, tug_cu_device dev))                       \
    X(cuDeviceGetAttribute, (int *value, int attribute, tug_cu_device dev))             \
    X(cuDeviceTotalMem_v2, (size_t * bytes, tug_cu_device dev))                         \
    X(cuDevicePrimaryCtxRetain, (tug_cu_context * ctx, tug_cu_device dev))              \
    X(cuDevicePrimaryCtxRelease_v2, (tug_cu_device dev))                                \
    X(cuCtxSetCurrent, (tug_cu_context ctx))                                            \
    X(cuCtxSynchronize, (void))                                                         \
    X(cuMemGetInfo_v2, (size_t * free, size_t * total))                                 \
    X(cuMemAlloc_v2, (tug_cu_ptr * p, size_t bytes))                                    \
    X(cuMemFree_v2, (tug_cu_ptr p))                                                     \
    X(cuMemHostAlloc, (void **p, size_t bytes, unsigned flags))                         \
    X(cuMemFreeHost, (void *p))                                                         \
    X(cuMemHostGetDevicePointer_v2, (tug_cu_ptr * dev, void *host, unsigned flags))     \
    X(cuMemHostRegister_v2, (void *p, size_t bytes, unsigned flags))                    \
    X(cuMemHostUnregister, (void *p))                                                   \
    X(cuMemcpyHtoDAsync_v2,                                                             \
      (tug_cu_ptr dst, const void *src, size_t bytes, tug_cu_stream s))                 \
    X(cuMemcpyDtoHAsync_v2, (void *dst, tug_cu_ptr src, size_t bytes, tug_cu_stream s)) \
    X(cuMemcpyDtoDAsync_v2,                                                             \
      (tug_cu_ptr dst, tug_cu_ptr src, size_t bytes, tug_cu_stream s))                  \
    X(cuMemsetD8Async,                                                                  \
      (tug_cu_ptr dst, unsigned char value, size_t bytes, tug_cu_stream s))             \
    X(cuStreamCreate, (tug_cu_stream * s, unsigned flags))                              \
    X(cuStreamDestroy_v2, (tug_cu_stream s))                                            \
    X(cuStreamSynchronize, (tug_cu_stream s))                                           \
    X(cuStreamQuery, (tug_cu_stream s))                                                 \
    X(cuStreamWaitEvent, (tug_cu_stream s, tug_cu_event e, unsigned flags))             \
    X(cuStreamWaitValue32_v2,                                                           \
      (tug_cu_stream s, tug_cu_ptr p, uint32_t value, unsigned flags))                  \
    X(cuStreamWriteValue32_v2,                                                          \
      (tug_cu_stream s, tug_cu_ptr p, uint32_t value, unsigned flags))                  \
    X(cuStreamBeginCapture_v2, (tug_cu_stream s, int mode))                             \
    X(cuStreamEndCapture, (tug_cu_stream s, tug_cu_graph * graph))                      \
    X(cuGraphInstantiateWithFlags,                                                      \
      (tug_cu_graph_exec * exec, tug_cu_graph graph, unsigned long long flags))         \
    X(cuGraphLaunch, (tug_cu_graph_exec exec, tug_cu_stream s))                         \
    X(cuGraphExecDestroy, (tug_cu_graph_exec exec))                                     \
    X(cuGraphDestroy, (tug_cu_graph graph))                                             \
    X(cuEventCreate, (tug_cu_event * e, unsigned flags))                                \
    X(cuEventDestroy_v2, (tug_cu_event e))                                              \
    X(cuEventRecord, (tug_cu_event e, tug_cu_stream s))                                 \
    X(cuEventQuery, (tug_cu_event e))                                                   \
    X(cuEventSynchronize, (tug_cu_event e))                                             \
    X(cuEventElapsedTime, (float *ms, tug_cu_event from, tug_cu_event to))              \
    X(cuModuleLoadData, (tug_cu_module * module, const void *image))                    \
    X(cuModuleUnload, (tug_cu_module module))                                           \
    X(cuModuleGetFunction,                                                              \
      (tug_cu_function * f, tug_cu_module module, const char *name))                    \
    X(cuFuncSetAttribute, (tug_cu_function f, int attribute, int value))                \
    X(cuLaunchKernel,                                                                   \
      (tug_cu_function f, unsigned grid_x, unsigned grid_y, unsigned grid_z,            \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,     \
       tug_cu_stream s, void **params, void **extra))

typedef struct tug_cu {
#define TUG_CU_MEMBER(name, params) tug_cu_result(*name) params;
    TUG_CU_FUNCTIONS(TUG_CU_MEMBER)
#undef TUG_CU_MEMBER
    void *library; /* of dlopen */
    int version;   /* as cuDriverGetVersion says: 13010 is 13.1 */
} tug_cu;

/* The oldest driver that the functions above and our kernels need: 12.0. */
#define TUG_CU_OLDEST 12000

/* Loads libcuda.so.1 and calls cuInit.  TUG_EUNSUPPORTED: no driver, one that is too old, or one
 * that refuses to start; the sentence says which. */
TUG_NODISCARD tug_status tug_cu_load(tug_cu *cu, tug_err *err);
void tug_cu_unload(tug_cu *cu);

#ifdef __cplusplus
}
#endif

#endif
