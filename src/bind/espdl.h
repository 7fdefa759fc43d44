/* Boxes of .espdl files, shared by the bindings that look into them. */
#ifndef ESPQ_BIND_ESPDL_H
#define ESPQ_BIND_ESPDL_H

#include "bind/box.h"

#define ESPDL_TYPE "espq.espdl" /* an EspdlModel */

#endif
