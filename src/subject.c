/* SPDX-License-Identifier: MIT
 * Distinguished names: from RFC 2253 text. */
#include "cotls.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <string.h>
#include <strings.h>

#define MAX_VALUE 1024 /* of one attribute */

struct text {
    const char *at, *end;
    const char *reason; /* of a failure; NULL: OpenSSL's */
    X509_NAME *name;
};

static int refuse(struct text *s, const char *reason)
{
    s->reason = reason;
    return -1;
}

static void skip_spaces(struct text *s)
{
    while (s->at < s->end && *s->at == ' ')
        s->at++;
}

/* RFC 2253's keywords in any case, OpenSSL's names, or an OID; NULL: none of them. */
static ASN1_OBJECT *find_type(const char *text)
{
    static const struct {
        const char *name;
        int nid;
    } keywords[] = {
        {"CN", NID_commonName},
        {"L", NID_localityName},
        {"ST", NID_stateOrProvinceName},
        {"O", NID_organizationName},
        {"OU", NID_organizationalUnitName},
        {"C", NID_countryName},
        {"STREET", NID_streetAddress},
        {"DC", NID_domainComponent},
        {"UID", NID_userId},
    };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcasecmp(text, keywords[i].name) == 0)
            return OBJ_nid2obj(keywords[i].nid);
    return OBJ_txt2obj(strncasecmp(text, "OID.", 4) == 0 ? text + 4 : text, 0);
}

/* Takes the type and its "="; the caller frees it. NULL: refused. */
static ASN1_OBJECT *take_type(struct text *s)
{
    char text[80];
    skip_spaces(s);
    const char *equals = memchr(s->at, '=', (size_t)(s->end - s->at));
    size_t n = equals != NULL ? (size_t)(equals - s->at) : 0;
    while (n > 0 && s->at[n - 1] == ' ')
        n--;
    ASN1_OBJECT *type = NULL;
    if (n > 0 && n < sizeof text) {
        memcpy(text, s->at, n);
        text[n] = '\0';
        type = find_type(text);
        s->at = equals + 1;
    }
    if (type == NULL)
        refuse(s, n > 0 ? "not RFC 2253 text: unknown attribute type"
                        : "not RFC 2253 text: TYPE=value expected, as in \"CN=localhost,O=Example\"");
    return type;
}

/* Takes what follows a backslash: two hexadecimal digits or a special character; -1: neither. */
static int take_escaped(struct text *s)
{
    if (s->at == s->end)
        return -1;
    int c = (unsigned char)*s->at++, high = OPENSSL_hexchar2int((unsigned char)c);
    int low = high >= 0 && s->at < s->end ? OPENSSL_hexchar2int((unsigned char)*s->at) : -1;
    if (low >= 0) {
        s->at++;
        return high << 4 | low;
    }
    return c != '\0' && strchr(",+\"\\<>;#= ", c) != NULL ? c : -1;
}

/* Takes a value up to its "," or "+", without the spaces around it; its length, or -1. */
static int take_value(struct text *s, unsigned char *value)
{
    int n = 0, kept = 0;
    skip_spaces(s);
    if (s->at < s->end && *s->at == '#')
        return refuse(s, "a value in hexadecimal (#) is not supported; for the character write \\#");
    while (s->at < s->end && *s->at != ',' && *s->at != '+') {
        bool escaped = *s->at == '\\';
        int c = (unsigned char)*s->at++;
        if (escaped)
            c = take_escaped(s);
        if (c < 0 || (!escaped && c != '\0' && strchr("\"<>;", c) != NULL))
            return refuse(s, "not RFC 2253 text: a bad escape, or one of \" < > ; without a backslash");
        if (n == MAX_VALUE)
            return refuse(s, "a value is too long");
        value[n++] = (unsigned char)c;
        if (escaped || c != ' ')
            kept = n;
    }
    return kept;
}

/* The text names the most specific first, a certificate the other way round: each
 * RDN is put before the ones that came earlier. `set` 1 joins the RDN before it. */
static bool take_attribute(struct text *s, int set)
{
    unsigned char value[MAX_VALUE];
    ASN1_OBJECT *type = take_type(s);
    int n = type != NULL ? take_value(s, value) : -1;
    bool ok = n >= 0 && X509_NAME_add_entry_by_OBJ(s->name, type, MBSTRING_UTF8, value, n, 0, set);
    ASN1_OBJECT_free(type);
    return ok;
}

/* Adds the attributes that the text names. false: *reason says why, or for NULL OpenSSL's queue. */
bool cotls_name_parse(X509_NAME *name, const char *text, size_t n, const char **reason)
{
    struct text s = {text, text + n, NULL, name};
    bool more = n > 0;
    int set = 0;
    while (more) {
        if (!take_attribute(&s, set)) {
            *reason = s.reason;
            return false;
        }
        more = s.at < s.end;
        set = more && *s.at == '+';
        s.at += more;
    }
    return true;
}
