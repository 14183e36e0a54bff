/* SPDX-License-Identifier: MIT
 * What is known of a connection: asked of the SSL while there is one, recorded
 * when that goes. The record refers to certificates and to the session, which
 * keeps the peer's, and copies the rest behind itself. Before a ServerHello has
 * gone by the SSL tells of the session that is offered: that is not asked. */
#include "cotls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

struct cotls_record {
    struct cotls_facts facts;
    unsigned char bytes[];
};

/* ---- names ---- */

/* The TLS registry's names of signature schemes, RFC 8446 section 4.2.3 and OpenSSL's own for the rest. */
static const struct scheme {
    int type, hash;
    const char *name;
} schemes[] =
    {
        {EVP_PKEY_RSA_PSS, NID_sha256, "rsa_pss_rsae_sha256"},
        {EVP_PKEY_RSA_PSS, NID_sha384, "rsa_pss_rsae_sha384"},
        {EVP_PKEY_RSA_PSS, NID_sha512, "rsa_pss_rsae_sha512"},
        {EVP_PKEY_EC, NID_sha256, "ecdsa_secp256r1_sha256"},
        {EVP_PKEY_EC, NID_sha384, "ecdsa_secp384r1_sha384"},
        {EVP_PKEY_EC, NID_sha512, "ecdsa_secp521r1_sha512"},
        {EVP_PKEY_EC, NID_sha224, "ecdsa_sha224"},
        {EVP_PKEY_EC, NID_sha1, "ecdsa_sha1"},
        {EVP_PKEY_ED25519, NID_undef, "ed25519"},
        {EVP_PKEY_ED448, NID_undef, "ed448"},
        {EVP_PKEY_RSA, NID_sha256, "rsa_pkcs1_sha256"},
        {EVP_PKEY_RSA, NID_sha384, "rsa_pkcs1_sha384"},
        {EVP_PKEY_RSA, NID_sha512, "rsa_pkcs1_sha512"},
        {EVP_PKEY_RSA, NID_sha224, "rsa_pkcs1_sha224"},
        {EVP_PKEY_RSA, NID_sha1, "rsa_pkcs1_sha1"},
        {EVP_PKEY_RSA, NID_md5_sha1, "rsa_pkcs1_md5_sha1"},
},
  pss_schemes[] = {
      {EVP_PKEY_RSA_PSS, NID_sha256, "rsa_pss_pss_sha256"},
      {EVP_PKEY_RSA_PSS, NID_sha384, "rsa_pss_pss_sha384"},
      {EVP_PKEY_RSA_PSS, NID_sha512, "rsa_pss_pss_sha512"},
};

static const char *find_scheme(const struct scheme *list, size_t count, int type, int hash)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].type == type && list[i].hash == hash)
            return list[i].name;
    return type != NID_undef && hash == NID_undef ? OBJ_nid2sn(type) : NULL;
}

/* The key tells a PSS signature by an ordinary RSA key from that by a PSS key: OpenSSL's numbers do not. */
static const char *scheme_name(const X509 *cert, int type, int hash)
{
    const EVP_PKEY *key = cert != NULL ? X509_get0_pubkey(cert) : NULL;
    if (key != NULL && EVP_PKEY_is_a(key, "RSA-PSS"))
        return find_scheme(pss_schemes, sizeof pss_schemes / sizeof *pss_schemes, type, hash);
    return find_scheme(schemes, sizeof schemes / sizeof *schemes, type, hash);
}

/* ---- asking the SSL ---- */

static void set_text(struct cotls_text *b, const void *data, long n)
{
    if (data != NULL && n > 0)
        *b = (struct cotls_text){data, (size_t)n};
}

/* In a handshake by RSA key exchange a server decrypts and signs nothing, whatever OpenSSL had in mind. */
static bool signs(const SSL *ssl, const SSL_CIPHER *cipher)
{
    int kx = SSL_CIPHER_get_kx_nid(cipher);
    return !SSL_is_server(ssl) || (kx != NID_kx_rsa && kx != NID_kx_rsa_psk);
}

static void ask_signatures(struct cotls_facts *f, SSL *ssl)
{
    int type, hash;
    if (signs(ssl, f->cipher) && SSL_get_signature_type_nid(ssl, &type) && SSL_get_signature_nid(ssl, &hash))
        f->signature = scheme_name(SSL_get_certificate(ssl), type, hash);
    if (SSL_get_peer_signature_type_nid(ssl, &type) && SSL_get_peer_signature_nid(ssl, &hash))
        f->peer_signature = scheme_name(f->peer, type, hash);
}

/* The server's certificate where there is one only: then it is known after a resumption too. The loop
 * moves what SSL_get_certificate tells, and moves it back. */
static X509 *only_certificate(SSL *ssl)
{
    X509 *current = SSL_get_certificate(ssl), *found = NULL;
    int count = 0;
    for (long ok = SSL_set_current_cert(ssl, SSL_CERT_SET_FIRST); ok == 1;
         ok = SSL_set_current_cert(ssl, SSL_CERT_SET_NEXT)) {
        found = SSL_get_certificate(ssl);
        count++;
    }
    if (current != NULL)
        SSL_select_current_cert(ssl, current);
    return count == 1 ? found : NULL;
}

/* A client that shows a certificate signs; of a server OpenSSL tells. */
static void ask_own(struct cotls_facts *f, const struct cotls_conn *c)
{
    SSL *ssl = c->ssl;
    bool server = SSL_is_server(ssl);
    f->shown = server ? SSL_set_current_cert(ssl, SSL_CERT_SET_SERVER) == 1 : f->signature != NULL;
    if (f->shown)
        f->own = SSL_get_certificate(ssl);
    else if (server && f->resumed && c->psk_identity == NULL) /* a key's session has no certificate */
        f->own = only_certificate(ssl);
}

static void ask_peer(struct cotls_facts *f, const struct cotls_conn *c)
{
    f->peer = SSL_get0_peer_certificate(c->ssl);
    f->peer_chain = SSL_get_peer_cert_chain(c->ssl);
    if (c->refused != NULL) {
        f->peer = sk_X509_value(c->refused, 0);
        f->peer_chain = c->refused;
    }
    if (c->verify_code == X509_V_OK && SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE &&
        SSL_get_verify_result(c->ssl) == X509_V_OK)
        f->verified = SSL_get0_verified_chain(c->ssl);
}

static void ask_secrets(struct cotls_facts *f, const SSL *ssl)
{
    SSL_get_client_random(ssl, f->client_random, sizeof f->client_random);
    SSL_get_server_random(ssl, f->server_random, sizeof f->server_random);
    f->finished_len = SSL_get_finished(ssl, f->finished, sizeof f->finished);
    f->peer_finished_len = SSL_get_peer_finished(ssl, f->peer_finished, sizeof f->peer_finished);
}

static void ask_extensions(struct cotls_facts *f, SSL *ssl)
{
    const unsigned char *alpn;
    unsigned char *staple;
    unsigned int n;
    /* which is asked of the session, and there is none yet after a HelloRetryRequest */
    int group = f->session != NULL ? (int)SSL_get_negotiated_group(ssl) : NID_undef;
    const char *name = group != NID_undef ? SSL_group_to_name(ssl, group) : NULL;
    SSL_get0_alpn_selected(ssl, &alpn, &n);
    set_text(&f->text[FACT_ALPN], alpn, n);
    set_text(&f->text[FACT_GROUP], name, name != NULL ? (long)strlen(name) : 0);
    long length = SSL_get_tlsext_status_ocsp_resp(ssl, &staple);
    set_text(&f->text[FACT_STAPLE], staple, length);
}

static void ask(struct cotls_facts *f, const struct cotls_conn *c)
{
    SSL *ssl = c->ssl;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    set_text(&f->text[FACT_SERVER_NAME], name, name != NULL ? (long)strlen(name) : 0);
    if (!c->hello_seen && !c->established)
        return;
    f->cipher = SSL_get_current_cipher(ssl);
    if (f->cipher == NULL) /* TLS 1.2 has it in use only once there are keys */
        f->cipher = SSL_get_pending_cipher(ssl);
    if (f->cipher == NULL)
        return;
    f->session = SSL_get_session(ssl);
    f->version = SSL_get_version(ssl);
    f->is_13 = SSL_version(ssl) == TLS1_3_VERSION;
    f->resumed = SSL_session_reused(ssl) && !c->psk_used;
    f->extms = SSL_get_extms_support(ssl) == 1;
    ask_peer(f, c);
    ask_signatures(f, ssl);
    ask_own(f, c);
    ask_secrets(f, ssl);
    ask_extensions(f, ssl);
}

/* The pointers live as long as the SSL or the record. */
void cotls_facts(const struct cotls_conn *c, struct cotls_facts *f)
{
    memset(f, 0, sizeof *f);
    if (c->ssl == NULL) {
        if (c->record != NULL)
            *f = c->record->facts;
        return;
    }
    ERR_set_mark(); /* the collector may come while a queue is read */
    ask(f, c);
    ERR_pop_to_mark();
}

/* ---- the record ---- */

static void refer(struct cotls_facts *f)
{
    if (f->session != NULL)
        SSL_SESSION_up_ref(f->session);
    if (f->own != NULL)
        X509_up_ref(f->own);
    if (f->verified != NULL)
        f->verified = X509_chain_up_ref(f->verified);
}

/* Before the SSL goes; without memory the getters of a closed connection tell nothing. */
void cotls_record_keep(struct cotls_conn *c)
{
    struct cotls_facts f;
    size_t n = 0;
    cotls_facts(c, &f);
    f.text[FACT_SCTS].len = f.peer != NULL ? cotls_pack_scts(c->ssl, NULL) : 0;
    for (int i = 0; i < FACT_COUNT; i++)
        n += f.text[i].len;
    struct cotls_record *r = malloc(sizeof *r + n);
    c->record = r;
    if (r == NULL)
        return;
    refer(&f);
    unsigned char *at = r->bytes;
    for (int i = 0; i < FACT_COUNT; at += f.text[i++].len) {
        if (i == FACT_SCTS && f.text[i].len > 0)
            cotls_pack_scts(c->ssl, at);
        else if (f.text[i].len > 0)
            memcpy(at, f.text[i].data, f.text[i].len);
        f.text[i].data = (const char *)at;
    }
    r->facts = f;
}

void cotls_record_free(struct cotls_conn *c)
{
    struct cotls_record *r = c->record;
    if (r != NULL) {
        SSL_SESSION_free(r->facts.session);
        X509_free(r->facts.own);
        sk_X509_pop_free(r->facts.verified, X509_free);
    }
    free(r);
    c->record = NULL;
    sk_X509_pop_free(c->refused, X509_free);
    c->refused = NULL;
}
