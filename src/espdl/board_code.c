/* The C++ of the board kit. */
#include <stdlib.h>
#include <string.h>

#include "espdl/board.h"
#include "espdl/schema.h"

/* ---- what the metadata say of the preprocessing ---- */

typedef struct Preprocess {
    bool given;
    const char *line; /* as it stands in the file */
    bool reversed;    /* channels blue, green, red */
    double scale;
    int means, deviations; /* 0: none */
    double mean[4], deviation[4];
} Preprocess;

static int read_list(const char *at, double *out, int most)
{
    int count = 0;
    for (char *end; count < most; at = end + 1) {
        double value = strtod(at, &end);
        if (end == at) break;
        out[count++] = value;
        if (*end != ',' || end[1] == ' ') break; /* ", " begins the next part of the line */
    }
    return count;
}

static Preprocess read_preprocess(const EspdlModel *model)
{
    Preprocess pre = {.scale = 1};
    for (int i = 0; i < model->metadata_count; i++) {
        if (strcmp(model->metadata[i].key, "espq.input") == 0) pre.line = model->metadata[i].value;
    }
    if (!pre.line) return pre;
    pre.given = true;
    pre.reversed = strstr(pre.line, "channels bgr") != NULL;
    const char *scale = strstr(pre.line, "x * "), *mean = strstr(pre.line, "minus "), *deviation = strstr(pre.line, "divided by ");
    if (scale) {
        char *end;
        pre.scale = strtod(scale + 4, &end);
        if (*end == '/') {
            double under = strtod(end + 1, NULL);
            if (under != 0) pre.scale /= under;
        }
    }
    if (mean) pre.means = read_list(mean + 6, pre.mean, 4);
    if (deviation) pre.deviations = read_list(deviation + 11, pre.deviation, 4);
    return pre;
}

/* ---- texts ---- */

static void add_quoted(Text *text, const char *string)
{
    text_add(text, "\"");
    for (const unsigned char *c = (const unsigned char *)string; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_format(text, "\\%c", *c);
        else if (*c < 0x20 || *c > 0x7E || *c == '?') /* '?': no trigraphs */
            text_format(text, "\\%03o", *c);
        else
            text_format(text, "%c", *c);
    }
    text_add(text, "\"");
}

/* A name inside of a comment. */
static void add_comment_name(Text *text, const char *string)
{
    for (const unsigned char *c = (const unsigned char *)string; *c; c++)
        text_format(text, "%c", *c < 0x20 || *c == 0x7F || *c == '\\' ? '?' : *c);
}

static void add_number(Text *text, double value)
{
    char number[32];
    text_from_float(number, (float)value);
    text_add(text, number);
    if (!strpbrk(number, ".en")) text_add(text, ".0");
    text_add(text, "f");
}

static const char *c_type(int type)
{
    switch (dtype_from_onnx(type)) {
    case DTYPE_INT8: return "int8_t";
    case DTYPE_INT16: return "int16_t";
    case DTYPE_INT32: return "int32_t";
    case DTYPE_INT64: return "int64_t";
    case DTYPE_FLOAT32: return "float";
    case DTYPE_BOOL: return "bool";
    default: return "uint8_t";
    }
}

/* ---- one input ---- */

static bool reads(const EspdlNode *node, const char *name)
{
    for (int i = 0; i < node->input_count; i++) {
        if (strcmp(node->inputs[i], name) == 0) return true;
    }
    return false;
}

static bool is_one_of(const char *type, const char *const *types)
{
    for (; *types; types++) {
        if (strcmp(type, *types) == 0) return true;
    }
    return false;
}

/* Nodes that keep the layout are looked through, a few deep. */
static bool wants_channels_last(const EspdlModel *model, const char *name, int depth)
{
    static const char *const spatial[] = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", NULL};
    static const char *const through[] = {"QuantizeLinear",
                                          "RequantizeLinear",
                                          "DequantizeLinear",
                                          "Mul",
                                          "Add",
                                          "Sub",
                                          "Pad",
                                          "Relu",
                                          "Clip",
                                          "Div",
                                          "StreamingCache",
                                          NULL};
    for (int i = 0; i < model->node_count; i++) {
        const EspdlNode *node = &model->nodes[i];
        if (!reads(node, name)) continue;
        if (is_one_of(node->type, spatial)) return true;
        if (depth && is_one_of(node->type, through) && node->output_count && wants_channels_last(model, node->outputs[0], depth - 1))
            return true;
    }
    return false;
}

const char *espdl_input_layout(const EspdlModel *model, int number)
{
    const EspdlValue *input = &model->inputs[number];
    if ((input->rank != 3 && input->rank != 4) || !wants_channels_last(model, input->name, 4)) return NULL;
    return input->rank == 4 ? "N H W C" : "N W C";
}

/* Damaged files may say anything. */
static int exponent_of(const EspdlValue *input)
{
    int64_t exponent = input->exponent_count ? input->exponents[0] : 0;
    return exponent < -126 ? -126 : exponent > 126 ? 126 : (int)exponent;
}

static int64_t count_of(const EspdlValue *input)
{
    int64_t count = 1;
    for (int i = 0; i < input->rank; i++) {
        if (input->dims[i] < 1 || count > INT32_MAX / input->dims[i]) return 0;
        count *= input->dims[i];
    }
    return count;
}

static void add_quantize(Text *text, const EspdlValue *input, int number, const Target *target)
{
    int exponent = exponent_of(input);
    bool wide = dtype_from_onnx(input->elem_type) == DTYPE_INT16, even = target->rounding == ROUND_HALF_EVEN;
    const char *type = c_type(input->elem_type);
    text_format(text,
                "// integer = round(x * 2^%d), cut to %s; halves are rounded %s, as the runtime for %s does it\n"
                "static inline %s espq_quantize_%d(float x)\n{\n    float v = %s(ldexpf(x, %d)%s);\n    return v >= %s ? %s : v <= %s ? %s "
                ": (%s)v;\n}\n\n",
                -exponent, wide ? "16 bits" : "8 bits", even ? "to even" : "up", target->name, type, number, even ? "rintf" : "floorf",
                -exponent, even ? "" : " + 0.5f", wide ? "32767.0f" : "127.0f", wide ? "32767" : "127", wide ? "-32768.0f" : "-128.0f",
                wide ? "-32768" : "-128", type);
}

static void add_list(Text *text, const char *name, const double *values, int count)
{
    text_format(text, "    static const float %s[] = {", name);
    for (int c = 0; c < count; c++) {
        if (c) text_add(text, ", ");
        add_number(text, values[c]);
    }
    text_add(text, "};\n");
}

static void add_picture(Text *text, const EspdlValue *input, int number, const Preprocess *pre)
{
    int channels = (int)input->dims[3];
    const char *type = c_type(input->elem_type);
    text_format(text, "// picture: %lld rows of %lld pixels, resized and cut as said above; %s\n", (long long)input->dims[1],
                (long long)input->dims[2], channels == 3 ? "3 bytes a pixel: red, green, blue" : "one byte a pixel");
    text_format(
        text,
        "void espq_fill_%d(dl::Model *model, const uint8_t *picture)\n{\n    static %s table[%d][256];\n    static bool made = false;\n",
        number, type, channels);
    if (pre->means) add_list(text, "mean", pre->mean, pre->means);
    if (pre->deviations) add_list(text, "deviation", pre->deviation, pre->deviations);
    text_format(
        text,
        "    for (int c = 0; !made && c < %d; c++) {\n        for (int level = 0; level < 256; level++) {\n            float x = level * ",
        channels);
    add_number(text, pre->scale);
    text_add(text, ";\n");
    if (pre->means) text_format(text, "            x -= mean[%s];\n", pre->means == 1 ? "0" : "c");
    if (pre->deviations) text_format(text, "            x /= deviation[%s];\n", pre->deviations == 1 ? "0" : "c");
    text_format(
        text,
        "            table[c][level] = espq_quantize_%d(x);\n        }\n    }\n    made = true;\n    %s *to = (%s *)model->get_input(",
        number, type, type);
    add_quoted(text, input->name);
    text_format(text,
                ")->get_element_ptr();\n    for (int i = 0; i < %lld; i++) {\n        for (int c = 0; c < %d; c++)\n            to[%d * i "
                "+ c] = table[c][picture[%d * i + %s]];\n    }\n}\n",
                (long long)(input->dims[1] * input->dims[2]), channels, channels, channels, pre->reversed && channels == 3 ? "2 - c" : "c");
}

static void add_plain(Text *text, const EspdlValue *input, int number, bool quantized)
{
    int64_t count = count_of(input);
    const char *type = c_type(input->elem_type);
    text_format(
        text,
        "void espq_fill_%d(dl::Model *model, const %s *x) // %lld numbers in the order above\n{\n    %s *to = (%s *)model->get_input(",
        number, quantized ? "float" : type, (long long)count, type, type);
    add_quoted(text, input->name);
    text_format(text, ")->get_element_ptr();\n    for (int i = 0; i < %lld; i++)\n        to[i] = ", (long long)count);
    if (quantized)
        text_format(text, "espq_quantize_%d(x[i]);\n}\n", number);
    else
        text_add(text, "x[i];\n}\n");
}

bool espdl_input_code(const EspdlModel *model, int number, const Target *target, Text *text, Error *error)
{
    const EspdlValue *input = &model->inputs[number];
    Preprocess pre = read_preprocess(model);
    const char *layout = espdl_input_layout(model, number);
    Dtype dtype = dtype_from_onnx(input->elem_type);
    bool quantized = dtype == DTYPE_INT8 || dtype == DTYPE_INT16;
    text_format(text, "// input %d, '", number);
    add_comment_name(text, input->name);
    text_format(text, "': %s [", dtype == DTYPE_NONE ? "?" : dtype_rows[dtype].label);
    for (int i = 0; i < input->rank; i++)
        text_format(text, "%s%lld", i ? ", " : "", (long long)input->dims[i]);
    text_format(text, "], in the order %s, the last one fastest", layout ? layout : "of the model's dimensions");
    if (quantized) text_format(text, "; value = integer * 2^%lld", (long long)exponent_of(input));
    text_add(text, "\n");
    bool picture = quantized && layout && input->rank == 4 && (input->dims[3] == 1 || input->dims[3] == 3) && count_of(input);
    if (picture && pre.given) {
        text_add(text, "// calibrated with: ");
        add_comment_name(text, pre.line);
        text_add(text, "\n");
    }
    if (quantized) add_quantize(text, input, number, target);
    if (picture && pre.given)
        add_picture(text, input, number, &pre);
    else
        add_plain(text, input, number, quantized);
    return !text->failed || fail_memory(error, text->length);
}

/* ---- the whole ---- */

static void add_head(Text *text, const EspdlModel *model, const Target *target)
{
    text_add(text, "// Made by `espq boardkit` for the model '");
    add_comment_name(text, model->graph_name ? model->graph_name : "");
    text_format(text,
                "' on %s. Needs esp-dl 3.3.6 or newer.\n"
                "// espq_check() runs the model node by node and prints a line a tensor, and the numbers of the first that are not as espq "
                "computes\n"
                "// them. Save what the board prints and call: espq diff MODEL.espdl --log SERIAL.txt\n"
                "//   @espq:begin 1 NODES NAME*SUM\n"
                "//   @espq:t INDEX TYPE EXPONENT SHAPE BYTES CRC NAME*SUM   CRC-32 of the tensor's bytes\n"
                "//   @espq:d INDEX OFFSET HEX*SUM                           bytes of the tensor of that INDEX\n"
                "//   @espq:end NODES*SUM\n"
                "// SUM is the exclusive or of all bytes between @ and *, in hex; text around the lines does no harm.\n"
                "#include <cmath>\n#include <cstdint>\n#include <cstdio>\n#include <cstring>\n#include <string>\n#include <vector>\n\n"
                "#include \"dl_model_base.hpp\"\n#include \"espq_vectors.h\"\n\n",
                target->name);
}

static void add_test_inputs(Text *text, const EspdlModel *model, bool pattern)
{
    if (!pattern) {
        text_add(text, "// The test inputs that are in the file.\nstatic bool espq_fill_test(dl::Model *model)\n{\n"
                       "    bool fine = true;\n    fbs::FbsModel *file = model->get_fbs_model();\n    file->load_map();\n"
                       "    for (auto &input : model->get_inputs()) {\n"
                       "        dl::TensorBase *test = file->get_test_input_tensor(input.first);\n"
                       "        fine = fine && test && input.second->assign(test);\n        delete test;\n    }\n"
                       "    file->clear_map();\n    return fine;\n}\n\n");
        return;
    }
    text_add(text, "// Numbers of the kit's own, since the file has no test inputs.\nstatic bool espq_fill_test(dl::Model *model)\n{\n"
                   "    static const char *const names[] = {");
    for (int i = 0; i < model->input_count; i++) {
        if (i) text_add(text, ", ");
        add_quoted(text, model->inputs[i].name);
    }
    text_format(text,
                "};\n    for (int k = 0; k < %d; k++) {\n        dl::TensorBase *input = model->get_input(names[k]);\n        if (!input) "
                "return false;\n"
                "        uint32_t state = 0x9E3779B9u * (uint32_t)(k + 1);\n        void *to = input->get_element_ptr();\n"
                "        for (int i = 0; i < input->get_size(); i++) {\n            state = state * 1664525u + 1013904223u;\n"
                "            if (input->get_dtype() == dl::DATA_TYPE_INT8) ((int8_t *)to)[i] = (int8_t)(state >> 24);\n"
                "            if (input->get_dtype() == dl::DATA_TYPE_INT16) ((int16_t *)to)[i] = (int16_t)(state >> 16);\n"
                "            if (input->get_dtype() == dl::DATA_TYPE_FLOAT) ((float *)to)[i] = (float)(int8_t)(state >> 24) / 128.0f;\n"
                "        }\n    }\n    return true;\n}\n\n",
                model->input_count);
}

static const char printing[] =
    "static void espq_line(std::string body) // one write, so that other tasks do not get in between\n{\n"
    "    uint8_t sum = 0;\n    for (char c : body)\n        sum ^= (uint8_t)c;\n    char tail[8];\n    snprintf(tail, sizeof tail, "
    "\"*%02x\\n\", sum);\n"
    "    body = \"@\" + body + tail;\n    fputs(body.c_str(), stdout);\n}\n\n"
    "static uint32_t espq_crc(const uint8_t *data, size_t bytes)\n{\n    uint32_t crc = 0xFFFFFFFFu;\n"
    "    for (size_t i = 0; i < bytes; i++) {\n        crc ^= data[i];\n        for (int k = 0; k < 8; k++)\n"
    "            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);\n    }\n    return ~crc;\n}\n\n"
    "static const char *espq_type(dl::dtype_t type)\n{\n    switch (type) {\n    case dl::DATA_TYPE_INT8: return \"INT8\";\n"
    "    case dl::DATA_TYPE_INT16: return \"INT16\";\n    case dl::DATA_TYPE_FLOAT: return \"FLOAT\";\n    case dl::DATA_TYPE_BOOL: return "
    "\"BOOL\";\n"
    "    case dl::DATA_TYPE_INT32: return \"INT32\";\n    case dl::DATA_TYPE_INT64: return \"INT64\";\n    default: return \"UINT8\";\n    "
    "}\n}\n\n"
    "#ifndef ESPQ_PRINTED // tensors of which the numbers are printed when they are not as expected\n#define ESPQ_PRINTED 3\n#endif\n\n"
    "static int espq_index, espq_printed;\n\n"
    "static void espq_print(const std::string &name, dl::TensorBase *tensor)\n{\n    if (!tensor) return;\n"
    "    const uint8_t *data = (const uint8_t *)tensor->get_element_ptr();\n    size_t bytes = tensor->get_bytes();\n    std::string "
    "shape;\n"
    "    for (int size : tensor->get_shape())\n        shape += (shape.empty() ? \"\" : \"x\") + std::to_string(size);\n"
    "    if (shape.empty()) shape = \"-\";\n    uint32_t crc = espq_crc(data, bytes);\n    char head[160];\n"
    "    snprintf(head, sizeof head, \"espq:t %d %s %d %s %u %08lx \", espq_index, espq_type(tensor->get_dtype()), "
    "tensor->get_exponent(),\n"
    "             shape.c_str(), (unsigned)bytes, (unsigned long)crc);\n    espq_line(head + name);\n    bool as_expected = false;\n"
    "    for (const auto &expected : espq_expected)\n        as_expected = as_expected || (name == expected.name && crc == expected.crc);\n"
    "    if (!as_expected && espq_printed++ < ESPQ_PRINTED) {\n        for (size_t at = 0; at < bytes; at += 32) {\n"
    "            snprintf(head, sizeof head, \"espq:d %d %u \", espq_index, (unsigned)at);\n            std::string line = head;\n"
    "            for (size_t i = at; i < bytes && i < at + 32; i++) {\n                snprintf(head, sizeof head, \"%02x\", data[i]);\n"
    "                line += head;\n            }\n            espq_line(line);\n        }\n    }\n    espq_index++;\n}\n\n"
    "void espq_check(dl::Model *model)\n{\n    if (!espq_fill_test(model)) {\n        puts(\"espq: the test inputs could not be "
    "assigned\");\n        return;\n    }\n"
    "    fbs::FbsModel *file = model->get_fbs_model();\n    file->load_map();\n    std::vector<std::string> nodes = "
    "file->topological_sort(), from, to;\n"
    "    int count = (int)nodes.size();\n    espq_index = espq_printed = 0;\n"
    "    espq_line(\"espq:begin 1 \" + std::to_string(count) + \" \" + file->get_model_name());\n"
    "    for (auto &input : model->get_inputs())\n        espq_print(input.first, input.second);\n"
    "    for (int i = 0; i < count; i++) {\n        model->run(count, i, dl::RUNTIME_MODE_SINGLE_CORE); // node i alone\n"
    "        file->get_operation_inputs_and_outputs(nodes[i], from, to);\n        for (auto &name : to)\n"
    "            espq_print(name, model->get_intermediate(name));\n    }\n    file->clear_map();\n"
    "    espq_line(\"espq:end \" + std::to_string(count));\n}\n\n";

static const char main_part[] =
    "// The model in flash: target_add_aligned_binary_data(${COMPONENT_LIB} model.espdl BINARY) in CMakeLists.txt gives this symbol.\n"
    "extern const uint8_t model_espdl[] asm(\"_binary_model_espdl_start\");\n\n"
    "extern \"C\" void app_main(void)\n{\n"
    "    dl::Model *model = new dl::Model((const char *)model_espdl, fbs::MODEL_LOCATION_IN_FLASH_RODATA);\n"
    "    espq_check(model);\n    model->profile(); // time and memory a node: `espq diff --log` prints them beside its estimates\n    "
    "delete model;\n}\n";

bool board_code(const EspdlModel *model, const Target *target, const BoardRun *run, Text *text, Error *error)
{
    add_head(text, model, target);
    for (int i = 0; i < model->input_count; i++) {
        if (!espdl_input_code(model, i, target, text, error)) return false;
        text_add(text, "\n");
    }
    add_test_inputs(text, model, run->pattern);
    text_add(text, printing);
    text_add(text, main_part);
    return !text->failed || fail_memory(error, text->length);
}

bool board_vectors(const BoardRun *run, Text *text, Error *error)
{
    text_add(text, "// Made by `espq boardkit`: what each tensor's bytes give (CRC-32) when the chip computes as espq does.\n#pragma "
                   "once\n\n#include <cstdint>\n\n"
                   "static const struct {\n    const char *name;\n    uint32_t crc;\n} espq_expected[] = {\n");
    for (int i = 0; i < run->count; i++) {
        text_add(text, "    {");
        add_quoted(text, run->tensors[i].name);
        text_format(text, ", 0x%08x},\n", run->tensors[i].crc);
    }
    text_add(text, "};\n");
    return !text->failed || fail_memory(error, text->length);
}
