/*
 * SPDX-License-Identifier: MIT
 *
 * One self-signed ECDSA P-256 certificate for all servers of a run. Nobody verifies it: what a client's
 * verification costs is no part of what is measured.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static X509 *make(EVP_PKEY *key)
{
    X509 *x = X509_new();
    if (x == NULL)
        return NULL;
    X509_NAME *name = X509_get_subject_name(x);
    if (X509_set_version(x, X509_VERSION_3) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(x), 1) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(x), -3600) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(x), 7 * 24 * 3600) == NULL || X509_set_pubkey(x, key) != 1 ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0) !=
            1 ||
        X509_set_issuer_name(x, name) != 1 || X509_sign(x, key, EVP_sha256()) <= 0) {
        X509_free(x);
        return NULL;
    }
    return x;
}

static bool save(const char *path, EVP_PKEY *key, X509 *x)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return fail("%s: %s", path, strerror(errno));
    bool ok =
        x != NULL ? PEM_write_X509(f, x) == 1 : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = fclose(f) == 0 && ok;
    return ok || fail("%s: can't write it", path);
}

bool certificate_make(const char *certificate, const char *key)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *x = pkey != NULL ? make(pkey) : NULL;
    bool ok = x != NULL || fail("can't make a certificate");
    ok = ok && save(certificate, pkey, x) && save(key, pkey, NULL);
    X509_free(x);
    EVP_PKEY_free(pkey);
    return ok;
}
