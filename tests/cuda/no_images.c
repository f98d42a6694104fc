/* no_images.c - stands in for the kernels where no nvcc made any: the emulated driver brings
 * its own, but wants to be given something.  SPDX-License-Identifier: MIT */
#include "cuda/images.h"

const tug_cuda_image tug_cuda_images[] = {{"emulated", 8}, {0}};
