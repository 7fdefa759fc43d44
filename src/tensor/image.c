/* Decoding. libjpeg leaves a decoder only by a jump, which stays inside decode_jpeg; libpng's simplified interface returns. */
#include "tensor/image.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

enum { MAXIMAL_SIDE = 65500 };

bool image_mode_from_name(const char *name, ImageMode *mode, Error *error)
{
    static const char *const names[] = {"RGB", "BGR", "GRAY", "L", "GREY"};
    static const ImageMode modes[] = {IMAGE_RGB, IMAGE_BGR, IMAGE_GRAY, IMAGE_GRAY, IMAGE_GRAY};
    for (int i = 0; i < 5; i++)
        if (strcasecmp(name, names[i]) == 0) {
            *mode = modes[i];
            return true;
        }
    return fail(error, NULL, "use RGB, BGR or GRAY", "unknown picture mode '%s'", name);
}

/* Grey of a colour, as ITU-R 601 in 16-bit fixed point (what PIL's mode L holds). */
static uint8_t grey_of(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

/* Rows of `from_channels` (1 grey, 3 RGB, 4 RGBA) to the mode asked for. */
static Tensor *to_mode(const uint8_t *pixels, int64_t height, int64_t width, int from_channels, ImageMode mode, Error *error)
{
    int channels = mode == IMAGE_GRAY ? 1 : 3;
    Tensor *image = tensor_new_unset(DTYPE_UINT8, &(Shape){3, {height, width, channels}}, error);
    if (!image) return NULL;
    uint8_t *out = (uint8_t *)image->data;
    if (from_channels == channels && mode != IMAGE_BGR) {
        memcpy(out, pixels, (size_t)(height * width * channels));
        return image;
    }
    for (int64_t i = 0; i < height * width; i++, pixels += from_channels, out += channels) {
        const uint8_t grey[3] = {pixels[0], pixels[0], pixels[0]};
        const uint8_t *rgb = from_channels == 1 ? grey : pixels;
        if (mode == IMAGE_GRAY)
            out[0] = from_channels == 1 ? pixels[0] : grey_of(rgb);
        else
            for (int c = 0; c < 3; c++)
                out[c] = rgb[mode == IMAGE_BGR ? 2 - c : c];
    }
    return image;
}

typedef struct JpegErrors {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    bool ended; /* the file is over, the decoder goes on with an invented end mark */
    char message[JMSG_LENGTH_MAX];
} JpegErrors;

static void jpeg_stop(j_common_ptr info)
{
    JpegErrors *errors = (JpegErrors *)(void *)info->err;
    info->err->format_message(info, errors->message);
    longjmp(errors->back, 1);
}

/* Warnings are let pass, as PIL does, but for pixels that were never in the file: libjpeg fills them with gray. */
static void jpeg_warn(j_common_ptr info, int level)
{
    JpegErrors *errors = (JpegErrors *)(void *)info->err;
    if (level >= 0) return;
    if (info->err->msg_code == JWRN_JPEG_EOF) errors->ended = true;
    if (info->err->msg_code != JWRN_HIT_MARKER || !errors->ended) return;
    info->err->msg_code = JWRN_JPEG_EOF;
    jpeg_stop(info);
}

/* Pixels in *out (memory_free), 1 or 3 channels. Everything that must live over the jump is reached through `out`. */
static bool decode_jpeg(const uint8_t *bytes, size_t count, uint8_t **out, int *height, int *width, int *channels, const char *path,
                        Error *error)
{
    struct jpeg_decompress_struct decoder;
    JpegErrors errors;
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = jpeg_stop;
    errors.manager.emit_message = jpeg_warn;
    errors.ended = false;
    if (setjmp(errors.back)) {
        jpeg_destroy_decompress(&decoder);
        return fail(error, path, "save the picture again, or remove it from the folder", "the JPEG cannot be decoded: %s", errors.message);
    }
    jpeg_create_decompress(&decoder);
    jpeg_mem_src(&decoder, (unsigned char *)bytes, count);
    jpeg_read_header(&decoder, TRUE);
    bool four = decoder.num_components == 4;
    decoder.out_color_space = four ? JCS_CMYK : decoder.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&decoder);
    *height = (int)decoder.output_height;
    *width = (int)decoder.output_width;
    *channels = four ? 4 : decoder.output_components;
    size_t row = (size_t)*width * (size_t)*channels;
    if (!(*out = memory_new(row * (size_t)*height))) {
        jpeg_destroy_decompress(&decoder);
        return fail_memory(error, row * (size_t)*height);
    }
    while (decoder.output_scanline < decoder.output_height) {
        JSAMPROW line = *out + decoder.output_scanline * row;
        jpeg_read_scanlines(&decoder, &line, 1);
    }
    jpeg_finish_decompress(&decoder);
    jpeg_destroy_decompress(&decoder);
    if (four) { /* Adobe's inverted CMYK: colour = ink complement × black complement */
        for (size_t i = 0; i < (size_t)*height * (size_t)*width; i++)
            for (int c = 0; c < 3; c++)
                (*out)[i * 3 + (size_t)c] = (uint8_t)((*out)[i * 4 + (size_t)c] * (*out)[i * 4 + 3] / 255);
        *channels = 3;
    }
    return true;
}

static bool decode_png(const uint8_t *bytes, size_t count, uint8_t **out, int *height, int *width, int *channels, const char *path,
                       Error *error)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    const char *cure = "save the picture again, or remove it from the folder";
    if (!png_image_begin_read_from_memory(&image, bytes, count))
        return fail(error, path, cure, "the PNG cannot be decoded: %s", image.message);
    if (image.width > MAXIMAL_SIDE || image.height > MAXIMAL_SIDE) {
        png_image_free(&image);
        return fail(error, path, cure, "the PNG has %u x %u pixels, at most %d are possible on a side", image.width, image.height,
                    MAXIMAL_SIDE);
    }
    bool grey = !(image.format & PNG_FORMAT_FLAG_COLOR) && !(image.format & PNG_FORMAT_FLAG_ALPHA);
    image.format = grey ? PNG_FORMAT_GRAY : PNG_FORMAT_RGBA;
    *channels = grey ? 1 : 4;
    *height = (int)image.height;
    *width = (int)image.width;
    if (!(*out = memory_new(PNG_IMAGE_SIZE(image)))) {
        png_image_free(&image);
        return fail_memory(error, PNG_IMAGE_SIZE(image));
    }
    if (!png_image_finish_read(&image, NULL, *out, 0, NULL)) return fail(error, path, cure, "the PNG cannot be decoded: %s", image.message);
    return true;
}

Tensor *image_read(const char *path, ImageMode mode, Error *error)
{
    uint8_t *bytes, *pixels = NULL;
    size_t count;
    int height = 0, width = 0, channels = 0;
    bool ok;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    if (count > 3 && bytes[0] == 0xff && bytes[1] == 0xd8)
        ok = decode_jpeg(bytes, count, &pixels, &height, &width, &channels, path, error);
    else if (count > 8 && memcmp(bytes, "\x89PNG", 4) == 0)
        ok = decode_png(bytes, count, &pixels, &height, &width, &channels, path, error);
    else
        ok = fail(error, path, "convert the picture to JPEG or PNG", "this is neither a JPEG nor a PNG picture");
    Tensor *image = ok ? to_mode(pixels, height, width, channels, mode, error) : NULL;
    memory_free(pixels);
    memory_free(bytes);
    return image;
}

Tensor *image_planes(const Tensor *image, float scale, const float *mean, const float *std, Error *error)
{
    int64_t pixels = image->shape.dims[0] * image->shape.dims[1], channels = image->shape.dims[2];
    Tensor *planes = tensor_new_unset(DTYPE_FLOAT32, &(Shape){3, {channels, image->shape.dims[0], image->shape.dims[1]}}, error);
    for (int64_t c = 0; planes && c < channels; c++) {
        const uint8_t *from = (const uint8_t *)image->data + c;
        float table[256], *to = tensor_floats(planes) + c * pixels;
        for (int i = 0; i < 256; i++)
            table[i] = ((float)i * scale - mean[c]) / std[c];
        for (int64_t i = 0; i < pixels; i++)
            to[i] = table[from[i * channels]];
    }
    return planes;
}
