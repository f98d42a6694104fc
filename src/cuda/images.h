/* images.h - the GPU kernels as nvcc made them, linked into the program.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CUDA_IMAGES_H
#define TUG_CUDA_IMAGES_H

#include <stdint.h>

/* One fatbin per file of src/kernels/cuda: code for several kinds of GPU, and PTX. */
typedef struct tug_cuda_image {
    const void *data; /* NULL: the end of the list */
    uint64_t bytes;
} tug_cuda_image;

/* Empty when there was no nvcc to build them. */
extern const tug_cuda_image tug_cuda_images[];

#endif
