#include "check.h"
#include "tensor/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

/* Promise: resizing agrees with PIL 9.4's Image.resize to within one grey level, downwards (the filter widens) and upwards.
 * The numbers are PIL's for the picture that test_picture makes. */
static Tensor *test_picture(Error *error)
{
    enum { HEIGHT = 11, WIDTH = 13 };
    Tensor *picture = tensor_new(DTYPE_UINT8, &(Shape){3, {HEIGHT, WIDTH, 3}}, error);
    for (int y = 0; picture && y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                picture->data[(y * WIDTH + x) * 3 + c] = (char)((y * 37 + x * 91 + c * 53 + x * y * 29 % 97) % 256);
    return picture;
}

TEST(resizing_agrees_with_pil)
{
    static const struct {
        ImageFilter filter;
        int height, width;
        unsigned char wanted[15 * 3 * 3];
    } cases[] = {
        {FILTER_NEAREST, 4, 5, {157, 210, 7,   141, 194, 247, 148, 201, 254, 155, 208, 5,   42,  95,  148, 2,   55,  108, 222, 19,
                                72,  199, 252, 49,  17,  70,  123, 140, 193, 246, 134, 187, 240, 20,  73,  126, 74,  127, 180, 31,
                                84,  137, 14,  67,  120, 235, 32,  85,  101, 154, 207, 125, 178, 231, 149, 202, 255, 112, 165, 218}},
        {FILTER_BILINEAR, 4, 5, {95,  123, 114, 118, 150, 118, 127, 155, 128, 115, 135, 111, 117, 134, 117, 108, 119, 149, 140, 126,
                                 121, 128, 164, 108, 111, 139, 115, 151, 139, 129, 128, 104, 127, 123, 96,  139, 120, 133, 150, 124,
                                 116, 131, 127, 112, 122, 110, 114, 142, 101, 101, 152, 119, 120, 162, 117, 132, 157, 115, 148, 124}},
        {FILTER_BICUBIC, 4, 5, {90,  120, 113, 117, 154, 116, 131, 154, 128, 116, 133, 113, 114, 136, 118, 107, 121, 155, 145, 127,
                                118, 126, 168, 104, 106, 141, 112, 158, 142, 129, 132, 99,  120, 122, 92,  142, 119, 137, 153, 125,
                                112, 132, 128, 109, 121, 107, 117, 144, 101, 99,  153, 121, 118, 162, 117, 132, 160, 111, 151, 120}},
        {FILTER_LANCZOS, 4, 5, {86,  119, 114, 116, 158, 115, 134, 151, 128, 114, 133, 117, 114, 138, 118, 112, 119, 156, 146, 127,
                                115, 126, 169, 105, 106, 142, 109, 157, 146, 127, 132, 97,  116, 121, 89,  143, 117, 140, 157, 125,
                                108, 132, 127, 107, 123, 104, 119, 145, 101, 101, 156, 121, 117, 158, 116, 132, 163, 113, 152, 122}},
        {FILTER_BICUBIC, 15, 3, {87,  145, 122, 120, 140, 141, 144, 99,  162, 89,  150, 118, 114, 159, 133, 105, 121, 111, 108, 131,
                                 107, 132, 159, 116, 89,  147, 89,  132, 97,  101, 163, 133, 99,  120, 163, 120, 104, 146, 147, 105,
                                 148, 116, 147, 160, 100, 103, 136, 165, 114, 169, 97,  141, 150, 138, 129, 114, 148, 139, 169, 94,
                                 131, 128, 153, 170, 113, 107, 133, 134, 137, 137, 99,  94,  142, 87,  125, 96,  111, 156, 110, 122,
                                 109, 120, 80,  142, 113, 126, 154, 135, 113, 128, 108, 94,  141, 146, 138, 146, 154, 99,  137, 97,
                                 122, 114, 129, 93,  151, 85,  126, 134, 97,  101, 133, 78,  114, 176, 98,  156, 166, 108, 103, 162,
                                 101, 125, 167, 123, 156, 144, 120, 124, 181, 164, 120, 138, 136, 138, 95}},
    };
    Error error = {0};
    Tensor *picture = test_picture(&error);
    REQUIRE(picture, "%s", error.what);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Tensor *made = image_resize(picture, cases[i].height, cases[i].width, cases[i].filter, &error);
        REQUIRE(made, "%s", error.what);
        for (int k = 0; k < cases[i].height * cases[i].width * 3; k++) {
            int value = (unsigned char)made->data[k];
            CHECK(abs(value - cases[i].wanted[k]) <= 1, "case %zu, number %d: %d instead of %d", i, k, value, cases[i].wanted[k]);
        }
        tensor_release(made);
    }
    tensor_release(picture);
}

/* Promise: a size that is not possible is refused, not computed. */
TEST(resizing_refuses_odd_sizes)
{
    Error error = {0};
    Tensor *picture = test_picture(&error);
    REQUIRE(picture, "%s", error.what);
    CHECK(!image_resize(picture, 0, 5, FILTER_BILINEAR, &error) && error.cure[0], "height 0");
    CHECK(!image_resize(picture, 5, 70000, FILTER_BILINEAR, &error), "a width of 70000");
    tensor_release(picture);
}

/* A test picture as JPEG in a file, of which the last `cut` bytes are missing. */
static void write_jpeg(const char *path, size_t cut)
{
    enum { SIDE = 64 };
    unsigned char *bytes = NULL;
    unsigned long count = 0;
    struct jpeg_compress_struct encoder;
    struct jpeg_error_mgr errors;
    encoder.err = jpeg_std_error(&errors);
    jpeg_create_compress(&encoder);
    jpeg_mem_dest(&encoder, &bytes, &count);
    encoder.image_width = encoder.image_height = SIDE;
    encoder.input_components = 1;
    encoder.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&encoder);
    jpeg_start_compress(&encoder, TRUE);
    for (int y = 0; y < SIDE; y++) {
        unsigned char row[SIDE];
        JSAMPROW line = row;
        for (int x = 0; x < SIDE; x++)
            row[x] = (unsigned char)(y * 37 + x * 91 + x * y * 29 % 97);
        jpeg_write_scanlines(&encoder, &line, 1);
    }
    jpeg_finish_compress(&encoder);
    jpeg_destroy_compress(&encoder);
    FILE *file = fopen(path, "wb");
    if (file) {
        fwrite(bytes, 1, count - cut, file);
        fclose(file);
    }
    free(bytes);
}

/* Promise: a JPEG that was cut is refused, as PIL does, not filled up with gray; one that lacks only its end mark is whole. */
TEST(a_cut_jpeg_is_refused)
{
    char path[] = "/tmp/espq_jpeg_XXXXXX";
    int made = mkstemp(path);
    REQUIRE(made >= 0, "no file");
    close(made);
    static const struct {
        size_t cut;
        bool whole;
    } cases[] = {{0, true}, {2, true}, {400, false}, {1500, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error error = {0};
        write_jpeg(path, cases[i].cut);
        Tensor *picture = image_read(path, IMAGE_RGB, &error);
        CHECK((picture != NULL) == cases[i].whole, "%zu bytes cut: %s", cases[i].cut, error.what);
        if (!picture) CHECK(error.cure[0] && strstr(error.what, "end of JPEG"), "%s", error.what);
        tensor_release(picture);
    }
    unlink(path);
}

/* Promise: planes of a picture are its pixels times scale, less the mean, by std, bit for bit as the tensors' own arithmetic gives them. */
TEST(planes_are_the_arithmetic_of_tensors)
{
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f}, scale = (float)(1.0 / 255);
    Error error = {0};
    Tensor *picture = tensor_new(DTYPE_UINT8, &(Shape){3, {5, 7, 3}}, &error);
    REQUIRE(picture, "%s", error.what);
    for (int i = 0; i < 105; i++)
        picture->data[i] = (char)(i * 37);
    Tensor *planes = image_planes(picture, scale, mean, std, &error);
    CHECK(planes && shape_equal(&planes->shape, &(Shape){3, {3, 5, 7}}), "%s", error.what);
    for (int i = 0; planes && i < 105; i++) {
        int c = i / 35;
        float scaled = (float)(uint8_t)picture->data[i % 35 * 3 + c] * scale, centred = scaled - mean[c];
        CHECK(tensor_floats(planes)[i] == centred / std[c], "element %d is %g", i, (double)tensor_floats(planes)[i]);
    }
    tensor_release(planes);
    tensor_release(picture);
}
