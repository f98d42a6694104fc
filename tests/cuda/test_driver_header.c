/* test_driver_header.c - our declarations of the driver against NVIDIA's header, where there
 * is one in its usual place.  SPDX-License-Identifier: MIT */
#include "cuda/driver.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if __has_include("/usr/local/cuda/include/cuda.h")
#include "/usr/local/cuda/include/cuda.h"

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(TUG_CU_SUCCESS, CUDA_SUCCESS);
SAME(TUG_CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(TUG_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(TUG_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME(TUG_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(TUG_CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME(TUG_CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE);
SAME(TUG_CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME(TUG_CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE);
SAME(TUG_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(TUG_CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(TUG_CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(TUG_CU_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
SAME(TUG_CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(TUG_CU_STREAM_CAPTURE_UNSUPPORTED, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME(TUG_CU_UNKNOWN, CUDA_ERROR_UNKNOWN);
SAME(TUG_CU_ATTR_MAX_SHARED_PER_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
SAME(TUG_CU_ATTR_N_SM, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(TUG_CU_ATTR_PCI_BUS, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
SAME(TUG_CU_ATTR_PCI_DEVICE, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID);
SAME(TUG_CU_ATTR_PCI_DOMAIN, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID);
SAME(TUG_CU_ATTR_CC_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(TUG_CU_ATTR_CC_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(TUG_CU_ATTR_MAX_SHARED_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(TUG_CU_ATTR_STREAM_MEM_OPS, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS);
SAME(TUG_CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
SAME(TUG_CU_HOST_MAPPED, CU_MEMHOSTALLOC_DEVICEMAP);
SAME(TUG_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(TUG_CU_EVENT_DEFAULT, CU_EVENT_DEFAULT);
SAME(TUG_CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(TUG_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME(TUG_CU_WAIT_GEQ, CU_STREAM_WAIT_VALUE_GEQ);
SAME(TUG_CU_FUNC_MAX_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
_Static_assert(sizeof(tug_cu_result) == sizeof(CUresult), "CUresult");
_Static_assert(sizeof(tug_cu_ptr) == sizeof(CUdeviceptr), "CUdeviceptr");
_Static_assert(sizeof(tug_cu_device) == sizeof(CUdevice), "CUdevice");

/* What the header makes of a name, version suffix included. */
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
static const char *const versioned[] = {TEXT(cuDeviceTotalMem),
                                        TEXT(cuDevicePrimaryCtxRelease),
                                        TEXT(cuMemGetInfo),
                                        TEXT(cuMemAlloc),
                                        TEXT(cuMemFree),
                                        TEXT(cuMemHostRegister),
                                        TEXT(cuMemcpyHtoDAsync),
                                        TEXT(cuMemcpyDtoHAsync),
                                        TEXT(cuMemcpyDtoDAsync),
                                        TEXT(cuStreamDestroy),
                                        TEXT(cuStreamWaitValue32),
                                        TEXT(cuStreamWriteValue32),
                                        TEXT(cuStreamBeginCapture),
                                        TEXT(cuEventDestroy),
                                        TEXT(cuMemHostGetDevicePointer)};

int main(void) {
    static const char *const ours[] = {
#define NAME(name, params) #name,
        TUG_CU_FUNCTIONS(NAME)
#undef NAME
    };
    int passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof versioned / sizeof *versioned; i++) {
        bool found = false;
        for (size_t j = 0; j < sizeof ours / sizeof *ours; j++) {
            found = found || strcmp(ours[j], versioned[i]) == 0;
        }
        if (!found) printf("we do not have %s\n", versioned[i]);
        found ? passed++ : failed++;
    }
    printf("cuda/driver_header: %d passed, %d failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
#else
int main(void) {
    printf("skip: there is no /usr/local/cuda/include/cuda.h\n");
    printf("cuda/driver_header: 0 passed, 0 failed, 1 skipped\n");
    return 0;
}
#endif
