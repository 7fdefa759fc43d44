#include "graph/contents.h"

#include <string.h>

void contents_add_text(Sha1 *sha1, const char *text)
{
    uint8_t given = text != NULL;
    sha1_add(sha1, &given, 1);
    if (text) sha1_add(sha1, text, strlen(text) + 1);
}

void contents_add_integer(Sha1 *sha1, int64_t value)
{
    sha1_add(sha1, &value, sizeof value);
}

bool contents_add_tensor(Sha1 *sha1, Tensor *tensor, Error *error)
{
    contents_add_integer(sha1, tensor != NULL);
    if (!tensor) return true;
    Tensor *whole = tensor_contiguous(tensor, error);
    if (!whole) return false;
    contents_add_integer(sha1, whole->dtype);
    contents_add_integer(sha1, whole->shape.rank);
    sha1_add(sha1, whole->shape.dims, sizeof whole->shape.dims[0] * (size_t)whole->shape.rank);
    sha1_add_content(sha1, whole->data, tensor_bytes(whole)); /* weights have megabytes and are asked for at every state */
    tensor_release(whole);
    return true;
}

bool contents_add_attribute(Sha1 *sha1, const Attribute *attribute, Error *error)
{
    contents_add_text(sha1, attribute->name);
    contents_add_integer(sha1, attribute->kind);
    switch (attribute->kind) {
    case ATTRIBUTE_INT: contents_add_integer(sha1, attribute->integer); break;
    case ATTRIBUTE_FLOAT: sha1_add(sha1, &attribute->number, sizeof attribute->number); break;
    case ATTRIBUTE_STRING: contents_add_text(sha1, attribute->string); break;
    case ATTRIBUTE_INTS:
        contents_add_integer(sha1, attribute->count);
        sha1_add(sha1, attribute->integers, sizeof(int64_t) * (size_t)attribute->count);
        break;
    case ATTRIBUTE_FLOATS:
        contents_add_integer(sha1, attribute->count);
        sha1_add(sha1, attribute->numbers, sizeof(float) * (size_t)attribute->count);
        break;
    case ATTRIBUTE_STRINGS:
        contents_add_integer(sha1, attribute->count);
        for (int i = 0; i < attribute->count; i++)
            contents_add_text(sha1, attribute->strings[i]);
        break;
    case ATTRIBUTE_TENSOR: return contents_add_tensor(sha1, attribute->tensor, error);
    }
    return true;
}
