-- Who a context is: what is checked of certificates, keys and passwords. See scripts/mutants.lua.

local SPECS = { credential = "spec/credential_spec.lua", pkcs12 = "spec/pkcs12_spec.lua", store = "spec/store_spec.lua",
  key = "spec/key_spec.lua" }

return {
  title = "Credentials",
  {
    check = "The key is the certificate's", file = "src/credential.c",
    from = "cotls_read_key(L, &k->key, password) && check_match(L, k, lua_tostring(L, 5));",
    to = "cotls_read_key(L, &k->key, password);", spec = SPECS.key,
    name = "a key that isn't the certificate's is refused in every form",
  },
  {
    check = "The URI's key is the certificate's", file = "src/credential.c",
    from = "cotls_load_uri(L, k, password) && check_match(L, k, uri);",
    to = "cotls_load_uri(L, k, password) && uri != NULL;", spec = SPECS.store,
    name = "key_uri is refused with URI and reason: no key, or no certificate",
  },
  {
    check = "One certificate for each type of key", file = "lua/cotls/credentials.lua", from = "if place[kind] then",
    to = "if false then", spec = SPECS.credential, name = "credentials of one type are refused",
  },
  {
    check = "Nobody is asked at the terminal", file = "src/key.c",
    from = "PEM_read_bio_PrivateKey(bio, NULL, cotls_hook_password, password)",
    to = "PEM_read_bio_PrivateKey(bio, NULL, password->text ? cotls_hook_password : NULL, password)", spec = SPECS.key,
    name = "an encrypted key without a password: a process with a terminal isn't asked on it",
  },
  {
    check = "A password with a NUL byte is none", file = "src/pkcs12.c", from = "password->asked = !whole ||",
    to = "password->asked = (!whole && false) ||", spec = SPECS.pkcs12,
    name = "the password of pkcs12 that is missing, wrong or no string is told",
  },
  {
    check = "A client shows what the server can verify", file = "src/credential.c", from = "if (n > 1 && !x->server)",
    to = "if (n > COTLS_KEY_TYPES)", spec = SPECS.credential,
    name = "credentials of a client: the one that the server can verify",
  },
  {
    check = "The chain is in order", file = "src/pkcs12.c",
    from = "return cotls_sort_chain(k) || cotls_refuse_file(L, f.name, \": no memory\");", to = "return true;",
    spec = SPECS.pkcs12, name = "pkcs12 gives key, leaf and chain, each issuer behind its own",
  },
  {
    check = "Sessions stay with the certificates' names", file = "src/context.c",
    from = "ok = ok && add_names(md, x->credentials[i]->leaf);",
    to = "ok = ok && (i < COTLS_KEY_TYPES || add_names(md, x->credentials[i]->leaf));", spec = SPECS.credential,
    name = "a session resumes under certificates with the same names alone, whoever holds the ticket key",
  },
}
