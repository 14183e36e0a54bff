-- Private keys that live elsewhere: what signs, and what is made of its answers. See scripts/mutants.lua.

local SPEC = "spec/remote_key_spec.lua"

return {
  title = "Keys that live elsewhere",
  {
    check = "No other provider gets the key to sign with it", file = "src/remote_key.c",
    from = "if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)", to = "if (0)", spec = SPEC,
    name = "a key of RSA with PSS elsewhere, on TLS 1.3 signs for a server",
  },
  {
    check = "A faulty RSA signature doesn't reach the peer", file = "src/remote_key.c",
    from = "ok = verifies(s, w, message, n);", to = "ok = true;", spec = SPEC,
    name = "sign refuses, on TLS 1.3: an RSA signature that is wrong, before the peer sees it",
  },
  {
    check = "The padding of an RSA signature is that which was asked for", file = "src/remote_key.c",
    from = "(!s->pss || EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING) == 1) &&", to = "", spec = SPEC,
    name = "a key of RSA with PSS elsewhere, on TLS 1.3 signs for a server",
  },
  {
    check = "An ECDSA signature is DER", file = "src/remote_key.c", from = "ok = is_der(w->data, w->len);",
    to = "ok = w->len > 0;", spec = SPEC, name = "sign refuses, on TLS 1.3: bytes that are no signature",
  },
  {
    check = "Nothing follows an ECDSA signature", file = "src/remote_key.c",
    from = "return pair != NULL && end == p + n;", to = "return pair != NULL;", spec = SPEC,
    name = "sign refuses, on TLS 1.3: bytes that are no signature",
  },
  {
    check = "An Ed25519 signature has its length", file = "src/remote_key.c",
    from = "ok = w->len == (size_t)EVP_PKEY_get_size(s->public_key);", to = "ok = w->len > 0;", spec = SPEC,
    name = "sign refuses, on TLS 1.3: bytes that are no signature",
  },
  {
    check = "A refusal signs nothing", file = "src/answer.c",
    from = "return lua_isnil(L, first) ? \"a signature\" :", to = "return", spec = SPEC,
    name = "sign refuses, on TLS 1.3: nil, false, and another type",
  },
  {
    check = "The function is asked for the connection whose job runs", file = "src/ask.c", from = "current = c;",
    to = "current = outer;", spec = SPEC,
    name = "sign may make handshakes itself, with keys elsewhere too",
  },
  {
    check = "Nothing is decrypted with a key that isn't there", file = "src/signing.c", from = "if (decrypts(cipher))",
    to = "if (0)", spec = SPEC, name = "RSA key exchange is what a server with such a key doesn't offer",
  },
  {
    check = "Nor with one that a hook gives", file = "src/change.c",
    from = "return c->ctx->server && EVP_PKEY_is_a(k->key, \"RSA\") ?", to = "return 0 ?", spec = SPEC,
    name = "RSA key exchange is what a server with such a key doesn't offer",
  },
  {
    check = "A hook gives such a key only where it is asked", file = "src/change.c",
    from = "if (!cotls_hooked(c, HOOK_SIGN))", to = "if (0)", spec = SPEC,
    name = "a credential whose key is elsewhere is refused by a hook of a context that has no function sign",
  },
  {
    check = "Nobody's credential is signed for by nobody", file = "lua/cotls/credentials.lua",
    from = "if given.sign and not sign then", to = "if false then", spec = SPEC,
    name = "a credential whose key is elsewhere excludes what else wants the key",
  },
  {
    check = "A hook that can't be waited for is refused outright", file = "src/ask.c",
    from = "return !without_jobs && ASYNC_is_capable() == 1;", to = "return true;", spec = SPEC,
    name = "where OpenSSL can't suspend a handshake hooks that need that are refused, and named",
  },
}
