/* What a test of QEMU's includes first: of it, what tests of findings use. */

#ifndef OSDEP_H
#define OSDEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#endif
