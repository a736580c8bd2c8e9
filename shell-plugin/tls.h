/* tls.h - TLS 1.3 with a pre-shared key: the key of one broadcast
 *
 * Whoever has the key is a rank of the broadcast; nobody else gets past the
 * handshake, in either direction.
 */
#ifndef FLUX_TREE_TLS_H
#define FLUX_TREE_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "fault.h"

#define TLS_KEY_SIZE 32

struct tls;

struct tls *tls_create (const unsigned char key[TLS_KEY_SIZE], struct fault *f);
void tls_destroy (struct tls *tls);

/* A new session over 'fd', as the side that connects or the one that accepts.
 * Returns NULL with errno = ENOMEM.
 */
SSL *tls_session (struct tls *tls, int fd, bool connecting);

/* After the handshake: did the peer prove that it has the key? */
bool tls_is_authentic (SSL *ssl);

#endif
