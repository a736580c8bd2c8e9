/* tls.c - TLS 1.3 with a pre-shared key: the key of one broadcast */
#include "tls.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define IDENTITY "flux-tree"

/* The only cipher suite: hardware does it, and one is enough. */
#define CIPHER "TLS_AES_128_GCM_SHA256"
static const unsigned char cipher_id[2] = { 0x13, 0x01 };

struct tls {
    SSL_CTX *client;
    SSL_CTX *server;
    unsigned char key[TLS_KEY_SIZE];
};

/* A session made of nothing but the key, as OpenSSL wants an external PSK. */
static SSL_SESSION *make_session (SSL *ssl)
{
    struct tls *tls = SSL_CTX_get_app_data (SSL_get_SSL_CTX (ssl));
    const SSL_CIPHER *cipher = SSL_CIPHER_find (ssl, cipher_id);
    SSL_SESSION *sess;

    if (!cipher || !(sess = SSL_SESSION_new ()))
        return NULL;
    if (!SSL_SESSION_set1_master_key (sess, tls->key, sizeof (tls->key))
        || !SSL_SESSION_set_cipher (sess, cipher)
        || !SSL_SESSION_set_protocol_version (sess, TLS1_3_VERSION)) {
        SSL_SESSION_free (sess);
        return NULL;
    }
    return sess;
}

static int use_key (SSL *ssl,
                    const EVP_MD *md,
                    const unsigned char **id,
                    size_t *idlen,
                    SSL_SESSION **sess)
{
    (void)md;
    if (!(*sess = make_session (ssl)))
        return 0;
    *id = (const unsigned char *)IDENTITY;
    *idlen = strlen (IDENTITY);
    return 1;
}

static int find_key (SSL *ssl,
                     const unsigned char *id,
                     size_t idlen,
                     SSL_SESSION **sess)
{
    *sess = NULL;
    if (idlen == strlen (IDENTITY) && !memcmp (id, IDENTITY, idlen)
        && !(*sess = make_session (ssl)))
        return 0;
    return 1;
}

static SSL_CTX *make_context (struct tls *tls, const SSL_METHOD *method)
{
    SSL_CTX *ctx;

    if (!(ctx = SSL_CTX_new (method)))
        return NULL;
    SSL_CTX_set_app_data (ctx, tls);
    SSL_CTX_set_mode (ctx,
                      SSL_MODE_ENABLE_PARTIAL_WRITE
                          | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                          | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode (ctx, SSL_SESS_CACHE_OFF);
    /* a peer that just closes is a lost peer, which we see by ourselves */
    SSL_CTX_set_options (ctx,
                         SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_COMPRESSION
                             | SSL_OP_NO_TICKET);
    if (!SSL_CTX_set_min_proto_version (ctx, TLS1_3_VERSION)
        || !SSL_CTX_set_ciphersuites (ctx, CIPHER)
        || !SSL_CTX_set1_groups_list (ctx, "X25519")
        || !SSL_CTX_set_num_tickets (ctx, 0)) {
        SSL_CTX_free (ctx);
        return NULL;
    }
    return ctx;
}

struct tls *tls_create (const unsigned char key[TLS_KEY_SIZE], struct fault *f)
{
    struct tls *tls;

    if (!(tls = calloc (1, sizeof (*tls))))
        goto error;
    memcpy (tls->key, key, sizeof (tls->key));
    if (!(tls->client = make_context (tls, TLS_client_method ()))
        || !(tls->server = make_context (tls, TLS_server_method ())))
        goto error;
    /* a peer without the key cannot fall back on a certificate */
    SSL_CTX_set_verify (tls->client, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_psk_use_session_callback (tls->client, use_key);
    SSL_CTX_set_psk_find_session_callback (tls->server, find_key);
    return tls;
error:
    fault_set (f, ENOMEM, -1, "OpenSSL cannot set up TLS 1.3 with a shared key");
    tls_destroy (tls);
    return NULL;
}

void tls_destroy (struct tls *tls)
{
    if (tls) {
        int saved_errno = errno;
        SSL_CTX_free (tls->client);
        SSL_CTX_free (tls->server);
        OPENSSL_cleanse (tls->key, sizeof (tls->key));
        free (tls);
        errno = saved_errno;
    }
}

SSL *tls_session (struct tls *tls, int fd, bool connecting)
{
    SSL *ssl = SSL_new (connecting ? tls->client : tls->server);

    if (!ssl || !SSL_set_fd (ssl, fd)) {
        SSL_free (ssl);
        errno = ENOMEM;
        return NULL;
    }
    if (connecting)
        SSL_set_connect_state (ssl);
    else
        SSL_set_accept_state (ssl);
    return ssl;
}

bool tls_is_authentic (SSL *ssl)
{
    return SSL_version (ssl) == TLS1_3_VERSION && SSL_session_reused (ssl);
}
