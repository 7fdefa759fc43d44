/* Which rows have a gradient, and that each is compared with differences. Runs behind the other files of gradients, by its name. */
#include "slopes.h"

#include <string.h>

/* Promise: every quantizable operator has a gradient, but those that give integers or truth values, and those that wait for their
 * simulation (OPTIM 13). */
TEST(quantizable_operators_have_gradients)
{
    static const char *const without[] = {"ArgMax", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "GRU", "LSTM"};
    const Operator *row;
    for (int i = 0; (row = operator_at(i)) && operator_is_built_in(row); i++) {
        bool excused = false;
        for (size_t k = 0; k < sizeof without / sizeof *without; k++)
            excused = excused || strcmp(without[k], row->name) == 0;
        if (row->flags & OPERATOR_QUANTIZABLE) CHECK(excused != (row->gradient != NULL), "%s", row->name);
    }
}

/* Promise: a row that has a gradient is compared with differences (ops_gradient.c, ops_gradient_moves.c), whatever it was added for. */
TEST(rows_with_a_gradient_are_checked)
{
    const Operator *row;
    if (slopes_checked_rows() == 0) return; /* the runner was asked for this test alone */
    for (int i = 0; (row = operator_at(i)); i++)
        if (operator_is_built_in(row) && row->gradient) CHECK(slopes_checked(row), "%s has a gradient that no test compares", row->name);
}
