/* Pictures: JPEG and PNG to tensors, and resizing that agrees with PIL to within one grey level. */
#ifndef ESPQ_TENSOR_IMAGE_H
#define ESPQ_TENSOR_IMAGE_H

#include "tensor/tensor.h"

typedef enum { IMAGE_RGB, IMAGE_BGR, IMAGE_GRAY } ImageMode;
typedef enum { FILTER_NEAREST, FILTER_BOX, FILTER_BILINEAR, FILTER_HAMMING, FILTER_BICUBIC, FILTER_LANCZOS } ImageFilter;

bool image_mode_from_name(const char *name, ImageMode *mode, Error *error);       /* RGB, BGR, GRAY (also L), any case */
bool image_filter_from_name(const char *name, ImageFilter *filter, Error *error); /* as PIL's Image.Resampling, any case */

/* uint8 [height, width, channels]; channels 3, or 1 for IMAGE_GRAY. Alpha is dropped, 16 bits become 8. */
Tensor *image_read(const char *path, ImageMode mode, Error *error);

/* image: uint8 [height, width, channels], contiguous. float32 [channels, height, width]: (pixel * scale - mean) / std, one mean and std a
 * channel, each step in float32. */
Tensor *image_planes(const Tensor *image, float scale, const float *mean, const float *std, Error *error);

/* image: uint8 [height, width, channels], contiguous. Downscaling widens the filter, as PIL does (antialiasing). */
Tensor *image_resize(const Tensor *image, int64_t height, int64_t width, ImageFilter filter, Error *error);

#endif
