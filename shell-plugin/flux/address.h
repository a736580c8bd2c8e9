/* address.h - where the children of this shell find it */
#ifndef FLUX_TREE_ADDRESS_H
#define FLUX_TREE_ADDRESS_H

#include <stddef.h>

#include "bcast.h"

#define ADDRESS_SIZE 80

/* Listen on the address that the TBON uses, or on that of an interface, on any
 * port; 'text' says which, as "1.2.3.4:56". Returns a socket, or -1.
 */
int address_listen (struct bcast *b, const char *interface, char text[ADDRESS_SIZE], struct fault *f);

#endif
