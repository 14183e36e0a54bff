---@meta cotls
-- SPDX-License-Identifier: MIT
-- The whole face, for editors (LuaLS) and, through scripts/reference.lua, for the HTML reference. It is never run:
-- a spec compares it with what the modules export.

-- ---- names of values ----

---What was wrong, for programs; `reason` and `tostring(err)` are for people.
---@alias cotls.ErrorCode
---| '"closed"' # this side has closed the connection, or the peer has where more was needed
---| '"truncated"' # the stream ended without close_notify: somebody may have cut it
---| '"timeout"' # the deadline has passed; all but a handshake that used up `handshake_timeout` may be tried again
---| '"want_read"' # with a timeout of 0: it would have to wait until the peer sends; of bytes: more have to follow
---| '"want_write"' # with a timeout of 0: it would have to wait until the peer reads
---| '"busy"' # another coroutine is at the same thing
---| '"cancelled"' # who resumed the coroutine said so, for `reason`
---| '"limit"' # a line longer than `read_limit`, or more than 64 KiB on their way at a shutdown
---| '"verify"' # the peer's certificate is not good: `verify` says why
---| '"alert"' # the peer has refused: `alert` says why
---| '"tls"' # OpenSSL has failed: `reason` and `queue` say how
---| '"system"' # the system has failed: `errno`
---| '"hook"' # a Lua function of the context's has refused or failed: `reason`, `cause`
---| '"config"' # an option's value, or a file, is refused: `reason` begins with the option's name

---A certificate or key: PEM text (told by its BEGIN line), DER (a string that is one whole SEQUENCE), or a path (any
---other string). Outright: `{ file = path }` or `{ data = bytes }`.
---@alias cotls.File string|{ file: string }|{ data: string }

---A certificate: a file, or what `tls.x509` and `Connection:peer_certificate` give.
---@alias cotls.CertificateFile cotls.File|cotls.X509

---A version of the protocol, as `"1.3"` or `"TLSv1.3"`.
---@alias cotls.Version
---| '"1.0"' # RFC 2246; OpenSSL 3 refuses it at its default security level
---| '"1.1"' # RFC 4346; as 1.0
---| '"1.2"' # RFC 5246
---| '"1.3"' # RFC 8446

---What can be waited for.
---@alias cotls.Want
---| '"read"' # the descriptor is readable
---| '"write"' # the descriptor is writable

---How much to read, as in Lua's `file:read`; the form with a star in front (`"*l"`) is taken too.
---@alias cotls.Format
---| integer # so many bytes, fewer only at the end; 0: an empty string while there is more
---| '"l"' # a line without its end (the default)
---| '"L"' # a line with its end
---| '"a"' # all up to the peer's close_notify; an empty string at the end
---| '"n"' # a number in Lua's notation

---What a connection lies on. Chosen in this order, unless the option `transport` says which:
---1. an integer: the descriptor of a connected stream socket, which is the connection's own from then on;
---2. a cotls connection: TLS in TLS, a stream through its `recv` and `write`;
---3. an object with `receiveany` and `send` (an OpenResty cosocket), or with `recv` and `write` and no `pollfd`: a
---   stream;
---4. an object whose `getfd`, `fileno` or `pollfd` gives a descriptor;
---5. an object with `read` and `write`: a stream, see `cotls.Stream`.
---
---An object is kept alive, and its `close` is called by the connection's. A descriptor becomes non-blocking. Objects of
---LuaSocket, cqueues and luv (tcp, pipe) have one and are taken as they are, unless bytes wait in their buffers or a
---handle of luv reads: what TLS would then miss.
---docs/transports.md is the guide.
---@alias cotls.Transport integer|table|userdata|cotls.Stream|cotls.Connection

---A transport written in Lua. Its functions may yield; what they raise, and what they give beside what is named here,
---fails the operation with code `"system"` and `err.cause`. `deadline` is on `tls.now()`'s clock, `nil` without one;
---one that has passed means: don't wait. `nil, "timeout"`, and an error object of cotls with code `"timeout"`,
---`"want_read"` or `"want_write"`, end the operation by a timeout (`"want_read"` or `"want_write"` where the
---connection's is 0); an error object with code `"cancelled"` is what the operation then returns. It may be tried
---again.
---@class cotls.Stream
---@field read fun(self, max: integer, deadline?: number): string?, any At least one and at most `max` bytes that are
---  there now; `nil` at the end; or `nil` and why not.
---@field write fun(self, bytes: string, deadline?: number): any, any, integer? Writes all: a true value. Or `nil`, why
---  not, and how many bytes were written; one that gives up in time and doesn't say that can't be written to any more.
---@field try_write? fun(self, bytes: string): integer? For the close_notify of `close`: writes all at once, without
---  waiting or yielding, and gives their number; or does nothing. Without it `close` says nothing to the peer.
---@field close? fun(self) Called once.

---What a scheduler is asked to wait for: a connection, a socket on its way to be one, a pipe of `tls.pair`.
---`waiter:fileno()` is its descriptor; `nil` for what only the scheduler's `wake` ends the waits of.
---@alias cotls.Waiter cotls.Connection|table|userdata

-- ---- the module ----

---Coroutine TLS over OpenSSL: `local tls = require "cotls"`.
---
---Each operation is written as if it blocked, and waits in its own coroutine. Failures return `nil, err` with a
---`cotls.Error`; wrong types and unknown options raise. Strings are bytes, times are seconds.
---@class cotls
---@field version string The version of cotls.
---@field openssl_version string The version of OpenSSL that runs, as `"3.0.19"`.
---@field scheduler? cotls.Scheduler Who is asked to wait, unless a connection or its context has its own. May be set.
---  Without one an operation yields where it can, and blocks in poll(2) where it can't.
local tls = {}

---Makes a context: what connections have in common. It never changes afterwards.
---
---A context for clients verifies chain and name against the system's CAs. TLS 1.2 is the least version, compression
---and renegotiation are off, and a session of one context never resumes under another. See SSL_CTX_new(3).
---@param options? cotls.ContextOptions A client's without one.
---@return cotls.Context? context
---@return cotls.Error? err `"config"`: an option or a file is refused.
function tls.context(options) end

---Connects and shakes hands: name lookup, TCP, TLS. The `server_name` is the host unless given, and all addresses of a
---name are tried in turn. One deadline, the shorter of `timeout` and `handshake_timeout`, is over all of it.
---
---Without context options one shared default context serves all calls. See SSL_connect(3).
---@param host string A name or an IP address.
---@param port integer From 1 to 65535.
---@param options? cotls.ConnectOptions
---@return cotls.Connection? conn
---@return cotls.Error? err `"system"`, `"verify"`, `"alert"`, `"timeout"`, `"truncated"`, `"tls"`, `"config"`.
function tls.connect(host, port, options) end

---Listens. `for conn in listener do` gives connections that have not shaken hands yet: do that, by `conn:accept()`, in
---a coroutine of their own, lest a slow client holds up the others.
---@param host string A name or an IP address to listen on; `"*"`: all addresses of the machine.
---@param port integer From 0 to 65535; 0: any that is free, see `Listener:port`.
---@param options cotls.ListenOptions
---@return cotls.Listener? listener
---@return cotls.Error? err `"system"`: the address is taken or not the machine's; `"config"`.
function tls.listen(host, port, options) end

---Two connections joined in memory, not handshaken yet: for tests, and for TLS between two parts of one process. Each
---direction is a pipe that holds so many bytes; who finds it full or empty waits through the scheduler in force, whose
---`wake` ends the wait. One coroutine that holds both ends can't wait for itself: use two.
---@param client_context cotls.Context
---@param server_context cotls.Context
---@param options? cotls.PairOptions
---@return cotls.Connection? client
---@return cotls.Connection|cotls.Error server Or the error: `"config"`.
function tls.pair(client_context, server_context, options) end

---A session that was exported, in this process or another. See d2i_SSL_SESSION(3).
---@param exported string What `Session:export` gave. It is a secret.
---@return cotls.Session? session
---@return cotls.Error? err `"config"`
function tls.session(exported) end

---Makes a key and a certificate, for development and tests. It serves servers and clients alike.
---
---A version 3 certificate with a random serial number, valid from five minutes ago. See RFC 5280.
---@param options cotls.CertificateOptions
---@return cotls.Certificate? certificate
---@return cotls.Error? err `"config"`: an option is refused.
function tls.make_certificate(options) end

---Shows what a list of ciphers means, see ciphers(1): the preferred first, whatever the security level. Suites of
---TLS 1.3 may be among them and come first.
---@param list? string|string[] As the option `ciphers`. Default: what a context begins with.
---@return cotls.Cipher[]? ciphers
---@return cotls.Error? err `"config"`: a word of it is refused.
function tls.ciphers(list) end

---Reads a ClientHello: for a proxy that chooses by the server name and passes the bytes on, or of what was captured.
---See RFC 8446 sections 4.1.2 and 5.1.
---@param bytes string What a client sends first, in records as they come, or the message alone. What follows it is not
---  looked at.
---@return cotls.Hello? hello
---@return cotls.Error? err `"want_read"`: it goes on, ask again with more bytes (it ends before 131400, and the headers
---  of the records); `"tls"`: it is no ClientHello, or malformed, or has an extension twice.
function tls.parse_client_hello(bytes) end

---Reads a certificate: the first one in a file. See PEM_read_bio_X509(3), d2i_X509(3).
---@param file cotls.CertificateFile A certificate object is given back as it is.
---@return cotls.X509? certificate
---@return cotls.Error? err `"config"`: the file can't be read, or holds no certificate.
function tls.x509(file) end

---The clock that deadlines are on: seconds of the monotonic clock, see clock_gettime(2).
---@return number seconds
function tls.now() end

---Is the value an error object of cotls?
---@param value any
---@return boolean
function tls.is_error(value) end

-- ---- options ----

---Options of `tls.context`. An unknown name raises, and so does a value of the wrong type.
---@class cotls.ContextOptions
---@field role? "client"|"server" The side that connections take. Default: client.
---@field certificate? cotls.CertificateFile|cotls.CertificateFile[] The certificate, and behind it the chain to
---  the CA. A server needs one.
---@field key? cotls.File The private key. Default: the one in `certificate`.
---@field password? string|fun(file: string): string? Of an encrypted key. The function gets the file's name or the URI,
---  and is asked once, if it is encrypted. Without one it is refused; nobody is asked at the terminal.
---@field pkcs12? cotls.File Certificate, key and chain in one (RFC 7292), instead of the two. See PKCS12_parse(3).
---@field key_uri? string The private key by what ossl_store(7) reaches, as `"file:/etc/key.pem"` or `"pkcs11:…"`,
---  instead of `key`. Without `certificate` the certificate that belongs to the key, and its chain, are there, too.
---@field credentials? cotls.Credential[] Several certificates, of different types of keys, instead of the options
---  above: each handshake takes one that the peer can verify. See SSL_CTX_use_cert_and_key(3).
---@field ocsp_response? cotls.File Servers: the OCSP response in DER that is stapled to the certificate for clients
---  that ask (RFC 6066 section 8). It must be about this certificate; whether it still holds is not looked at: keep it
---  fresh by `Context:set_ocsp_response`.
---@field ca? cotls.CertificateFile|cotls.CertificateFile[] Whom to trust: files, or directories by hash (see
---  openssl-rehash(1)). Default for clients: the system's, `SSL_CERT_FILE` and `SSL_CERT_DIR` honoured; servers that
---  verify need it.
---@field insecure? boolean A client that verifies nothing. Default: false.
---@field verify_client? "none"|"optional"|"require" Does a server ask clients for a certificate, and must there be one?
---  One that is given must be good. Default: none. See SSL_CTX_set_verify(3).
---@field crl? cotls.File|cotls.File[] Certificate revocation lists (RFC 5280 section 5), PEM or DER, also several in a
---  file. The peer's certificate must be covered by one that is valid now. Files are read once: a new list needs a new
---  context.
---@field crl_check? "leaf"|"chain" The peer's certificate alone, or every one of its chain up to the root? Default with
---  `crl`: leaf. Without `crl` it needs a directory in `ca`, where the CRLs lie by hash (`.r0`, openssl-rehash(1)) and
---  are looked up at each verification.
---@field verify_depth? integer How many CAs there may be between the peer's certificate and the trusted one, at most
---  100, which is the default. See X509_VERIFY_PARAM_set_depth(3).
---@field purpose? "sslserver"|"sslclient"|"any"|string What the peer's certificate must be for, by OpenSSL's short
---  names. Default: clients want sslserver, servers sslclient. See openssl-verification-options(1).
---@field partial_chain? boolean May a chain end at any certificate of `ca`, not only at one that signs itself?
---  Default: false. `crl_check = "chain"` refuses such a chain: it shows nobody whose list could have the last one.
---  See X509_VERIFY_PARAM_set_flags(3).
---@field pins? string|string[] One key of the verified chain must be among these: `"sha256/"` and the base64 of its
---  SubjectPublicKeyInfo's SHA-256, as `X509:spki_pin` gives it. RFC 7469 section 2.4.
---@field ocsp? "request"|"require" Clients: ask for an OCSP response to the server's certificate (RFC 6066 section 8).
---  One that is given must be good: fresh, signed by the certificate's issuer or a delegate of it (RFC 6960), and
---  saying so; else the handshake fails with `"verify"`. `"require"` refuses a server that gives none, `"request"` only
---  one whose certificate demands it (RFC 7633). A response that names no end holds a day. Also asks for SCTs
---  (RFC 6962), which are reported only. Default: nothing is asked, so that nothing is demanded either.
---@field psk? table<string, string> Pre-shared keys: identity → key, both bytes; 1 to 255 of an identity, 1 to 512 of
---  a key, which should be at least 16 from a good random source. A client has one pair. With it a client needs no
---  `server_name` (a certificate in the place of the key is then refused), a server no certificate. On TLS 1.3 it goes
---  with SHA-256, on TLS 1.2 its cipher suites come first unless `ciphers` says otherwise. A wrong key is refused by
---  `illegal_parameter` (1.3) or `bad_record_mac` (1.2), an unknown identity by `handshake_failure`, or the certificate
---  where the server has one (1.3), or by `unknown_psk_identity` (1.2). An identity with a NUL needs `min_version` 1.3.
---  Not together with `verify_client = "require"`. RFC 8446 section 2.2, RFC 4279.
---@field renegotiation? "never"|"allow"|"allow-client" Of TLS 1.2: `"allow"`: this side may call `renegotiate`, and a
---  client also answers when its server starts one; `"allow-client"`: a server takes a client's too, which costs it a
---  full handshake each time. Default: never; a peer that tries is refused. RFC 5746.
---@field post_handshake_auth? boolean Clients: offer to show the certificate when the server asks later. Default:
---  false. See SSL_CTX_set_post_handshake_auth(3), RFC 8446 section 4.6.2.
---@field min_version? cotls.Version|number The least version. Default: 1.2.
---@field max_version? cotls.Version|number The greatest version. Default: the newest there is.
---@field ciphers? string|string[] For TLS 1.2 and older, the preferred first: a list as of ciphers(1), in which unknown
---  words are refused; what is excluded may be unknown. Where it names DHE a server has parameters for that. A context
---  that verifies never takes a cipher without a certificate. Default: OpenSSL's. See SSL_CTX_set_cipher_list(3).
---@field ciphersuites? string|string[] For TLS 1.3, the preferred first. See SSL_CTX_set_ciphersuites(3).
---@field groups? string|string[] For the key exchange, the preferred first. See SSL_CTX_set1_groups_list(3).
---@field signature_algorithms? string|string[] What this side takes of its peers, and on a server also what it signs
---  with. See SSL_CTX_set1_sigalgs_list(3).
---@field client_signature_algorithms? string|string[] The same for clients' certificates: what a server takes, what a
---  client signs with. See SSL_CTX_set1_client_sigalgs_list(3).
---@field security_level? integer From 0 to 5: how strong keys, digests and ciphers must be, on either side. Counts
---  before a `@SECLEVEL` in `ciphers`. Default: OpenSSL's. See SSL_CTX_set_security_level(3).
---@field max_send_fragment? integer Bytes of data that a record holds at most, 512 to 16384. Default: 16384.
---  See SSL_CTX_set_max_send_fragment(3).
---@field options? string[] Options of SSL_CTX_set_options(3), without `SSL_OP_` in any case; after a `-` one that is to
---  be off, as `"-CIPHER_SERVER_PREFERENCE"`. `"IGNORE_UNEXPECTED_EOF"` takes a truncation for an end. Refused is what
---  has an option of its own here (renegotiation and replay), and what is for DTLS or the kernel's TLS.
---@field conf? string[][] Commands for SSL_CONF_cmd(3), as `{ { "RecordPadding", "512" } }`, by their names in files;
---  they count after the options above. Refused are those for certificates, keys and CAs, and whatever would change
---  who or how is verified: that has options here.
---@field alpn? string[] Protocols for RFC 7301, the preferred first. On a server its own order decides, and a client
---  that offers none of them is refused.
---@field names? table<string, cotls.Context> Servers: the context for each server name that a client asks for (SNI),
---  with all that a context says; `"*.example.org"` stands for one label, the exact name comes first. A client that
---  asks for none of them gets this context itself. Sessions are kept, and limits of time set, by this context.
---  RFC 6066 section 3.
---@field strict_names? boolean A client that asks for none of `names` is refused (unrecognized_name), one that asks for
---  nothing too. Default: false; true where this context has no certificate.
---@field on_client_hello? fun(conn: cotls.Connection, hello: cotls.Hello): boolean?, string? Servers: sees the client's
---  first hello before anything is decided, `names` too; may call `conn:set_context`, which `names` then leave. `true`:
---  go on. Refused otherwise, with the alert whose name is the second result (default: handshake_failure).
---  SSL_CTX_set_client_hello_cb(3).
---@field on_server_name? fun(conn: cotls.Connection, name?: string): boolean? Servers: is told the server name, `nil`
---  where the client asks for none. `true`: go on; refused otherwise (unrecognized_name). It comes once sessions are
---  looked up, so that another context is better set in `on_client_hello`. SSL_CTX_set_tlsext_servername_callback(3).
---@field on_certificate? fun(conn: cotls.Connection): boolean? Before this side shows its certificate, not where a
---  session is resumed: may call `conn:use_certificate` or `conn:set_context`. `true`: go on; refused otherwise
---  (internal_error). SSL_CTX_set_cert_cb(3).
---@field on_verify? fun(conn: cotls.Connection, ok: boolean, report: cotls.Report): boolean? After the peer's
---  certificate was judged, as `report` says; not where a session is resumed. `true`: it is accepted if `ok`; refused
---  otherwise (bad_certificate). SSL_CTX_set_cert_verify_callback(3).
---@field on_verify_may_accept? boolean `on_verify` may also accept what was refused. Default: false.
---@field on_alpn? fun(conn: cotls.Connection, offered: string[]): string? Servers: chooses among the protocols that the
---  client offers, in the place of `alpn`; anything else refuses (no_application_protocol).
---  SSL_CTX_set_alpn_select_cb(3).
---@field on_session_get? fun(conn: cotls.Connection, id: string, take: boolean): string|cotls.Session|nil Servers: the
---  session of an id (1 to 32 bytes) that the own cache does not know, as an object or what it exports; `nil`:
---  unknown, a full handshake, as follows too where it is damaged, too old, or that of another id or of a context
---  with other settings. Where `take` is true the store must give it and forget it in one step, and the own cache is
---  not looked into. Implies `tickets = false`. SSL_CTX_sess_set_get_cb(3).
---@field session_get_takes? boolean `on_session_get` does forget what it gives where `take` is true: needed with
---  `max_early_data`, for early data is accepted as often as a session is given. Default: false.
---@field on_session_new? fun(conn: cotls.Connection, session: cotls.Session) Is told of each new session, after the
---  step that made it: a server's `session:id()` is what `on_session_get` will be asked for (sessions that go into
---  tickets of TLS 1.2 are not told), a client's can be offered as `session`. SSL_CTX_sess_set_new_cb(3).
---@field on_session_remove? fun(context: cotls.Context, id: string) Servers: is told of each session that has gone from
---  the cache: no room, too old, used up, its connection failed. Told by the next operation of one of the context's
---  connections, or by `flush_sessions`. With `names` it is the door's: the cache is. SSL_CTX_sess_set_remove_cb(3).
---@field on_ticket_key? fun(conn: cotls.Connection, name?: string): string? Servers: the 80 bytes of the ticket key
---  with that name (16 bytes), `nil`: unknown; asked without a name, the key to encrypt with, `nil`: no ticket. Not
---  together with `ticket_keys`. SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
---@field on_ocsp? fun(conn: cotls.Connection): string? Servers: the OCSP response in DER to staple, for a client that
---  asks; `nil`: none. SSL_CTX_set_tlsext_status_cb(3).
---@field on_psk? fun(conn: cotls.Connection, asked?: string): string?, string? Servers: the pre-shared key (1 to 512
---  bytes) of an identity that `psk` does not know; `nil`: unknown; refused otherwise (unknown_psk_identity). It needs
---  no certificate. Not asked about session tickets of this server, nor about more than 8 identities of one client.
---  Clients, in the place of `psk`: the identity (1 to 255 bytes) and the key to use; `nil`: none; refused otherwise
---  (internal_error, on TLS 1.2 handshake_failure). Asked before the ClientHello where TLS 1.3 is offered, without a
---  hint; and where a server of TLS 1.2 has chosen a suite with such keys, with its hint, if it has one: `nil` fails
---  there. The same question is asked once. Whose the hint is nobody knows yet. An identity with a NUL needs
---  `min_version` 1.3. SSL_CTX_set_psk_find_session_callback(3), SSL_CTX_set_psk_server_callback(3),
---  SSL_CTX_set_psk_use_session_callback(3), SSL_CTX_set_psk_client_callback(3).
---@field psk_hint? string Servers with `psk` or `on_psk`: what clients of TLS 1.2 are told before they choose an
---  identity; 1 to 256 bytes, no NUL. TLS 1.3 has no hints. With `names` that of the chosen context counts.
---  SSL_CTX_use_psk_identity_hint(3), RFC 4279 section 5.2.
---@field sign? fun(conn: cotls.Connection, request: cotls.SignRequest): string? The private key lives elsewhere: in the
---  place of `key` and `password`. Gives the signature that the certificate's key makes of the request; anything else
---  refuses (internal_error). Keys may be RSA, EC (ECDSA) or Ed25519, of servers and clients. An RSA signature is
---  verified before it is sent, for a faulty one gives the key away; of the others only the form is looked at. A server
---  with such an RSA key has no cipher suites with RSA key exchange. EVP_DigestSign(3), provider-signature(7).
---@field keylog? string A file to which the connections' secrets are appended, in the NSS key log format, by which
---  Wireshark decrypts what was recorded; whoever has it can read the connections. It is made for its owner alone
---  (mode 0600). `"env"`: the file that SSLKEYLOGFILE names, if it is set. With `names` the door's counts.
---  SSL_CTX_set_keylog_callback(3).
---@field on_keylog? fun(conn: cotls.Connection, line: string) Is told each of these lines, after the step that made it,
---  with or without `keylog`. With `names` it is the door's.
---@field on_trace? fun(conn: cotls.Connection, event: cotls.TraceEvent) Is told of each handshake message, alert and
---  state, after the step in which they went by; of a flood at most 512 a step. What `close` sends is not told. With
---  `names` it is the door's. SSL_CTX_set_msg_callback(3), SSL_CTX_set_info_callback(3).
---@field session_cache? integer|false Servers: how many sessions are kept; `false`: none. Default: 20480.
---  SSL_CTX_sess_set_cache_size(3).
---@field session_timeout? integer Servers: seconds for which a session can be resumed. Default: 7200.
---  SSL_CTX_set_timeout(3).
---@field tickets? integer|false Servers: how many session tickets TLS 1.3 sends; 0: none. `false`: no stateless
---  tickets; sessions stay in the cache and are found by id, on TLS 1.3 by a ticket that is one. Default: 2.
---  SSL_CTX_set_num_tickets(3), RFC 8446 section 4.6.1, RFC 5077.
---@field ticket_keys? string[] Servers: keys of 80 bytes (name 16, HMAC-SHA256 32, AES-256 32), the same in all
---  processes that are to resume each other's sessions. The first encrypts, all decrypt; a ticket of another than the
---  first is renewed. Default: a random key of this context. SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
---@field max_early_data? integer Servers: bytes of early data (0-RTT) that a client may send with its hello; see
---  `Connection:read_early`. With it TLS 1.3's tickets can be used once, in this process only, and `ticket_keys` serve
---  TLS 1.2. Default: 0. SSL_CTX_set_max_early_data(3), RFC 8446 section 8.
---@field anti_replay? boolean Servers: `false` makes tickets stateless again in spite of `max_early_data`: whoever saw
---  early data can send it again, as often as they like. Default: true.
---@field resume? boolean Clients: sessions are remembered and resumed, each only for the same server name, ALPN list,
---  address of the peer and settings of verification; TLS 1.3's once. At most 1000, and 4 for one server. Where a
---  handshake that offers one fails, those of that server are forgotten. Default: false.
---@field session_key? string Clients with `resume`: stands for the peer in the place of its address. Without either
---  nothing is resumed.
---@field timeout? number|false Seconds that one operation may take, 0: it never waits. Default: false, none.
---@field handshake_timeout? number|false Seconds that the handshake may take from its first call on, over all calls.
---  Default: 60.
---@field read_limit? integer Bytes of the longest line that `"l"` and `"L"` read. Default: 1 MiB.
---@field scheduler? cotls.Scheduler Who waits for the connections. Default: `tls.scheduler`.

---One of several certificates, in the context's `credentials`: `certificate` and `key`, or what stands for them.
---@class cotls.Credential
---@field certificate? cotls.CertificateFile|cotls.CertificateFile[] As the context's.
---@field key? cotls.File As the context's.
---@field sign? boolean The key is the one behind the function `sign` of the context.
---@field password? string|fun(file: string): string? As the context's.
---@field pkcs12? cotls.File As the context's.
---@field key_uri? string As the context's.
---@field ocsp_response? cotls.File As the context's.

---Options of `Context:wrap`, for one connection. What a context has too counts before the context's.
---@class cotls.ConnectionOptions
---@field server_name? string Clients: the name that is asked for (SNI, RFC 6066) and that the certificate must bear. An
---  IP address is checked but not sent. A client that verifies needs this or `verify_name`.
---@field verify_name? string|string[] Clients: the name, or any of the names, to be checked instead. RFC 6125; the
---  subject's CN doesn't count.
---@field dane? cotls.Tlsa[] Clients: the server's TLSA records (RFC 7671), from a DNS answer that DNSSEC has proven.
---  One must match. Usages 0 and 1 also need a chain to `ca`; 2 and 3 don't, and with 3 (DANE-EE) names, dates and CRLs
---  of the certificate don't count. Records that can't be used are skipped; without any left the option is refused.
---@field alpn? string[] As the context's.
---@field timeout? number|false As the context's.
---@field handshake_timeout? number|false As the context's.
---@field read_limit? integer As the context's.
---@field scheduler? cotls.Scheduler As the context's.
---@field transport? "fd"|"stream" What kind of transport it is. Default: found out, see `cotls.Transport`.
---@field owns? boolean Close the transport with the connection? Default: true.
---@field session? cotls.Session|string Clients: a session to resume, or what it exports. One that was made with other
---  names to verify or under other settings of verification is not offered: a full handshake follows.
---  SSL_set_session(3).
---@field session_key? string As the context's.
---@field early_data? string Clients: bytes that `connect` sends with the hello, all of them if the session allows it,
---  else none: `early_data_status` tells. Whoever sees them can send them again, see RFC 8446 section 8.

---Options of `tls.connect`: a context's and a connection's together, or a context and a connection's.
---@class cotls.ConnectOptions : cotls.ContextOptions, cotls.ConnectionOptions
---@field context? cotls.Context A client's context, instead of options for one.

---Options of `tls.listen`: a context's and a connection's together, or a context and a connection's.
---@class cotls.ListenOptions : cotls.ContextOptions, cotls.ConnectionOptions
---@field context? cotls.Context A server's context, instead of options for one.

---@class cotls.PairOptions
---@field size? integer How many bytes each direction holds. Default: 65536.
---@field client? cotls.ConnectionOptions The client's, as `ctx:wrap` takes them.
---@field server? cotls.ConnectionOptions The server's.

---Options of `tls.make_certificate`.
---@class cotls.CertificateOptions
---@field subject? string RFC 2253 text, as `"CN=localhost,O=Example"`. Default: the first of `names` as CN.
---@field names? string[] DNS names and IP addresses, told apart by their form. Default: none.
---@field days? number How long it is valid; less than 0: it ended so long ago. Default: 30.
---@field not_before? number When it begins, seconds since 1970. Default: five minutes ago, or a day before its end.
---@field not_after? number When it ends, seconds since 1970. Default: 30 days from its beginning. Not with `days`.
---@field key_type? "ec"|"rsa"|"ed25519" P-256, RSA, Ed25519. Default: ec.
---@field bits? integer Of an RSA key, 512 to 8192. Default: 2048.
---@field digest? string That the signature is made with, as OpenSSL names it. Default: `"sha256"`.
---@field ca? cotls.Certificate The issuer, from an earlier call. Default: it signs itself.
---@field is_ca? boolean May it issue others? Default: false.
---@field path_length? integer How many CAs may stand between this one and a leaf. Default: no limit.
---@field purposes? cotls.Purpose|cotls.Purpose[] What it is for (extended key usage); an empty list: it doesn't say.
---  Default: server and client; a CA doesn't say.
---@field must_staple? boolean Must a server show an OCSP response with it (TLS feature, RFC 7633)? Default: false.
---@field ocsp_urls? string[] Where its OCSP responder is. Default: none.
---@field ca_issuer_urls? string[] Where its issuer's certificate is. Default: none.

---What a certificate is for. See RFC 5280 section 4.2.1.12.
---@alias cotls.Purpose
---| '"server"' # TLS servers
---| '"client"' # TLS clients
---| '"code"' # signing programs
---| '"email"' # S/MIME
---| '"time"' # timestamps
---| '"ocsp"' # answering for its issuer about revocation
---| '"any"' # anything

---What `tls.make_certificate` gives: usable as options of `tls.context` as it is.
---@class cotls.Certificate
---@field certificate string PEM text.
---@field key string PEM text, not encrypted.

-- ---- contexts ----

---What connections have in common: certificates, trust, versions, defaults. Made by `tls.context`.
---@class cotls.Context
local Context = {}

---Makes a connection over a connected stream socket. Nothing is sent yet.
---
---The descriptor becomes non-blocking, and TCP's small writes are not held back (TCP_NODELAY).
---@param transport cotls.Transport
---@param options? cotls.ConnectionOptions
---@return cotls.Connection? conn
---@return cotls.Error? err `"config"`: the transport or an option is refused.
function Context:wrap(transport, options) end

---Staples another OCSP response, for handshakes to come: to that certificate of a server's context which it is about.
---If it is refused, the old one stays. See `ocsp_response`, RFC 6960.
---@param response cotls.File In DER.
---@return cotls.Context? context Itself.
---@return cotls.Error? err `"config"`: it can't be parsed, has no answer, or is about another certificate.
function Context:set_ocsp_response(response) end

---The ciphers that its connections can use: suites of TLS 1.3 and others, the preferred first, within the range of
---versions and the security level. See SSL_get1_supported_ciphers(3).
---@return cotls.Cipher[] ciphers
function Context:ciphers() end

---A cipher suite, of `tls.ciphers` and `Context:ciphers`.
---@class cotls.Cipher
---@field name string OpenSSL's name. See SSL_CIPHER_get_name(3).
---@field standard_name string The RFCs' name.
---@field version string The oldest version that has it, as `"TLSv1.2"`.
---@field bits integer How strong its encryption is.
---@field key_exchange string As `"ECDHE"`; `"any"` in TLS 1.3.
---@field authentication string As `"ECDSA"`; `"any"` in TLS 1.3; `"none"`: anonymous.
---@field encryption string As `"AES-128-GCM"`; `"none"`.
---@field mac? string As `"SHA256"`; absent where encryption does it too.
---@field aead boolean Does encryption authenticate too?

---Other keys for session tickets, while the context serves: those that are listed no more resume no more.
---@param keys string[] As the option `ticket_keys`.
---@return cotls.Context context Itself. Raises if it is a client's.
function Context:set_ticket_keys(keys) end

---Counts of sessions. See SSL_CTX_sess_number(3).
---@return cotls.SessionStats stats
function Context:session_stats() end

---Forgets all sessions that are kept here, and tells `on_session_remove` of each: what that raises is raised. See
---SSL_CTX_flush_sessions(3).
---@return cotls.Context context Itself.
function Context:flush_sessions() end

---Of `Context:session_stats`.
---@class cotls.SessionStats
---@field accepted integer Handshakes that were done as a server.
---@field connected integer Handshakes that were done as a client.
---@field resumed integer Handshakes that resumed a session, of a server.
---@field unknown integer Sessions that were asked for and not found.
---@field timeouts integer Sessions that were asked for and too old.
---@field cache_full integer Sessions that had to go because others came.
---@field cached integer Sessions that are kept now.

-- ---- certificates ----

---What a client says first, RFC 8446 section 4.1.2: what `on_client_hello` is given, and `tls.parse_client_hello`
---gives. All of it is the client's word, and nothing is decided by it yet. What has no name is written as `"0x1a1a"`,
---and so is GREASE (RFC 8701). A list that is not sent is empty, and so is one that is malformed: its bytes are in
---`extensions`, and OpenSSL refuses it after the hook. That of a hook makes its fields when they are asked for, and may
---be kept as long as one likes: `pairs(hello)` makes all of them, and so does `hello()`, which returns the hello, also
---where `pairs` can't (Lua 5.1, LuaJIT).
---@class cotls.Hello
---@field server_name? string The name that it asks for, as it was sent: capitals and a dot behind it stay.
---@field alpn string[] Protocols, the preferred first, RFC 7301.
---@field versions string[] As `Connection:version` tells them. Where the client does not list them: the highest alone.
---@field ciphers string[] Standard names, those that this OpenSSL knows: `"TLS_AES_128_GCM_SHA256"`.
---@field groups string[] As `Connection:group` tells them.
---@field signature_algorithms string[] As `Connection:peer_signature_algorithm` tells them.
---@field extensions table<integer, string> The bytes of each, by type; of one that is sent twice the first.
---@field extension_types integer[] The types, in the client's order.
---@field session_id string At most 32 bytes. On TLS 1.3 it means nothing.
---@field random string 32 bytes.
---@field legacy_version integer `0x0303` for TLS 1.2 and all later versions.
---@field ja3? string A fingerprint of the client's program: MD5 of `ja3_text`. `nil` where OpenSSL has no MD5. See
---  github.com/salesforce/ja3.
---@field ja3_text string What JA3 is made from: version, ciphers, extensions, groups and point formats, in decimal.
---@field ja4 string A fingerprint that the order of extensions does not change, as
---  `"t13d1516h2_8daaf6152771_e5627efa2ab1"`. See github.com/FoxIO-LLC/ja4, technical_details/JA4.md.

---A certificate, read by `tls.x509` or shown by a peer. It never changes. Two are equal (`==`) if their DER is;
---`tostring` tells the subject. Strings are the certificate's bytes: a hostile one may put anything into its names, NUL
---bytes too. An extension that is malformed, or there twice, says nothing.
---@class cotls.X509
local X509 = {}

---Whose it is. See X509_get_subject_name(3), RFC 2253.
---@return string text As `"CN=localhost,O=Example"`, the most specific first, in UTF-8; what is no text is `#` and the
---  DER in hexadecimal. Empty: it has names only.
---@return cotls.Name name
function X509:subject() end

---Who has signed it. See X509_get_issuer_name(3).
---@return string text As of `subject`.
---@return cotls.Name name
function X509:issuer() end

---The serial number. Only together with the issuer does it name a certificate. See X509_get0_serialNumber(3).
---@return string hex Lower-case hexadecimal, two digits a byte.
function X509:serial() end

---When it begins. See X509_get0_notBefore(3).
---@return integer? moment Seconds since 1970; `nil`: it doesn't say a valid time.
function X509:not_before() end

---When it ends. See X509_get0_notAfter(3).
---@return integer? moment Seconds since 1970; `nil`: it doesn't say a valid time.
function X509:not_after() end

---The names that it is for, of its subjectAltName. To compare them, use `check_host` and its like.
---RFC 5280 section 4.2.1.6.
---@return cotls.Names names
function X509:names() end

---A digest of the DER. See X509_digest(3).
---@param digest? string Its name, as OpenSSL knows it. Default: `"sha256"`.
---@return string? hex Lower-case hexadecimal.
---@return cotls.Error? err `"config"`: there is no such digest.
function X509:fingerprint(digest) end

---What names the key in the option `pins`, in HPKP and in curl: `"sha256/"` and the base64 of the SHA-256 of its
---SubjectPublicKeyInfo. RFC 7469 section 2.4.
---@return string pin
function X509:spki_pin() end

---What key it is. See EVP_PKEY_get_bits(3).
---@return cotls.Key? key `nil`: a kind that OpenSSL doesn't know, or damaged.
function X509:key() end

---What it is signed with. See X509_get_signature_nid(3).
---@return string name OpenSSL's long name, as `"ecdsa-with-SHA256"`; of an unknown one the OID.
function X509:signature_algorithm() end

---Is it a CA's? Basic constraints must say so, and key usage, if there is one, allow it. See X509_check_ca(3).
---@return boolean
function X509:is_ca() end

---What it may be used for, by its extended key usage: a set. Without that extension: `any`. RFC 5280 section 4.2.1.12.
---@return table<cotls.Purpose|string, true> purposes As `{ server = true }`; one without a name is there by its OID.
function X509:purposes() end

---All extensions, as they come. See X509_get_ext(3).
---@return cotls.Extension[] extensions
function X509:extensions() end

---Where its issuer's OCSP responder is. RFC 5280 section 4.2.2.1.
---@return string[] urls
function X509:ocsp_urls() end

---Where its issuer's certificate is. RFC 5280 section 4.2.2.1.
---@return string[] urls
function X509:ca_issuer_urls() end

---Is it for that DNS name? As a connection checks it: by subjectAltName only, and a wildcard stands for one label.
---See X509_check_host(3), RFC 6125.
---@param name string
---@return boolean match `false` also if it is no DNS name.
function X509:check_host(name) end

---Is it for that IP address? See X509_check_ip(3).
---@param address string IPv4 or IPv6.
---@return boolean match `false` also if it is no IP address.
function X509:check_ip(address) end

---Is it for that mail address? By subjectAltName only; case counts before the at sign. See X509_check_email(3).
---@param address string
---@return boolean match
function X509:check_email(address) end

---The certificate as PEM text (RFC 7468).
---@return string pem
function X509:pem() end

---The certificate as DER (RFC 5280).
---@return string der
function X509:der() end

---A distinguished name: its attributes in the certificate's order, the most general first, and by the short names of
---their types (`name.CN`, `name.O`; of an unknown type the OID) their values: a string, or a list where there are
---several.
---@class cotls.Name
---@field [integer] cotls.NameAttribute
---@field [string] string|string[]

---One attribute of a distinguished name. See X509_NAME_ENTRY_get_object(3).
---@class cotls.NameAttribute
---@field type string Its short name, as `"CN"`; of an unknown one the OID.
---@field oid string As `"2.5.4.3"`.
---@field rdn integer Attributes of the same number stand side by side (joined by `+`).
---@field value? string In UTF-8.
---@field der? string Instead of the value, if that is no text.

---Names that a certificate is for; each list may be empty.
---@class cotls.Names
---@field dns string[] DNS names, wildcards too.
---@field ip string[] IP addresses as text.
---@field email string[] Mail addresses.
---@field uri string[] URIs.

---A certificate's key.
---@class cotls.Key
---@field type string `"ec"`, `"rsa"`, `"ed25519"`, `"rsa-pss"` or what else OpenSSL has, in lower case.
---@field bits integer
---@field curve? string Of an EC key: NIST's name, as `"P-256"`, or else OpenSSL's.

---An extension of a certificate.
---@class cotls.Extension
---@field oid string As `"2.5.29.17"`.
---@field name? string OpenSSL's short name, as `"subjectAltName"`, if it knows it.
---@field critical boolean
---@field data string Its value in DER.
---@field text? string What OpenSSL prints for people, if it can read it. Never decide by it.

-- ---- sessions ----

---What a later handshake can resume. Made by `Connection:session` and `tls.session`.
---@class cotls.Session
local Session = {}

---The session as bytes, for `tls.session` in any process. They are a secret: who has them can be taken for this side.
---See i2d_SSL_SESSION(3).
---@return string bytes
function Session:export() end

---Its id. See SSL_SESSION_get_id(3).
---@return string bytes
function Session:id() end

---The version of the protocol, as `"TLSv1.3"`.
---@return string version
function Session:version() end

---OpenSSL's name of the cipher suite. See SSL_SESSION_get0_cipher(3).
---@return string? cipher
function Session:cipher() end

---For how many seconds it can be resumed. See SSL_SESSION_get_timeout(3).
---@return integer seconds
function Session:timeout() end

---When it was made. See SSL_SESSION_get_time(3).
---@return integer moment Seconds since 1970.
function Session:time() end

---For how many seconds the server means to take the ticket; `nil` where there is none.
---See SSL_SESSION_get_ticket_lifetime_hint(3).
---@return integer? seconds
function Session:ticket_lifetime() end

---How many bytes of early data the server takes with it. See SSL_SESSION_get_max_early_data(3).
---@return integer bytes
function Session:max_early_data() end

---The server name it was made for. See SSL_SESSION_get0_hostname(3).
---@return string? name
function Session:server_name() end

---The protocol that was agreed on, if any. See SSL_SESSION_get0_alpn_selected(3).
---@return string? protocol
function Session:alpn() end

---Can it still be resumed? A session of TLS 1.3 only once a ticket has come, which reading takes in; not when its time
---is over. See SSL_SESSION_is_resumable(3).
---@return boolean
function Session:is_resumable() end

-- ---- connections ----

---A TLS connection. Made by `Context:wrap`, `tls.connect` and listeners.
---
---One coroutine may read while another writes; a second reader or writer, and anything during a handshake, gets
---`"busy"`. On a closed connection operations return `nil, err` with `"closed"`, and getters tell what was. A timeout
---or a cancellation loses nothing: what was read stays for later reads, and the operation may be tried again.
---
---With `local conn <close> = …` it is closed at the end of the block; if that ends by an error, without close_notify:
---the peer shall see a truncation. So does the collector.
---@class cotls.Connection
local Connection = {}

---Chooses the server's side, without sending anything. See SSL_set_accept_state(3).
---@return cotls.Connection? conn Itself. Raises if the context is a client's.
---@return cotls.Error? err `"closed"`
function Connection:set_accept_state() end

---Chooses the client's side, without sending anything. See SSL_set_connect_state(3).
---@return cotls.Connection? conn Itself. Raises if the context is a server's.
---@return cotls.Error? err `"closed"`
function Connection:set_connect_state() end

---Shakes hands, on the side that was chosen. A handshake that fails closes the connection. Once done it does nothing.
---
---Of SSL_do_handshake(3)'s results 1 is `conn`; 0 is `nil, err` with `"closed"` or the alert; below 0 is a wait, or
---`nil, err`. After `"want_read"`, `"want_write"`, and the `"timeout"` of one call, call it again to go on.
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err `"verify"`, `"alert"`, `"tls"`, `"truncated"`, `"system"`, `"timeout"`, `"cancelled"`,
---  `"busy"`, `"closed"`, `"want_read"`, `"want_write"`.
function Connection:do_handshake() end

---Chooses the server's side and shakes hands: `set_accept_state` and `do_handshake`. See SSL_accept(3).
---@return cotls.Connection? conn Itself. Raises if the context is a client's.
---@return cotls.Error? err As of `do_handshake`.
function Connection:accept() end

---Chooses the client's side and shakes hands: `set_connect_state` and `do_handshake`. See SSL_connect(3).
---
---In TLS 1.3 a client is done before the server has judged its certificate: a refusal comes with the first read.
---@return cotls.Connection? conn Itself. Raises if the context is a server's.
---@return cotls.Error? err As of `do_handshake`.
function Connection:connect() end

---Reads by Lua's formats, one result each, as `file:read` does; before the handshake it shakes hands first.
---
---A count gives what there is if the stream ends in between, `"l"` an unfinished last line. Behind a failure for good,
---what had come before is still there for `recv` and for counts. See SSL_read(3).
---@param ... cotls.Format Default: `"l"`.
---@return string|number|nil data One for each format. `nil` alone: the peer has ended the stream by close_notify.
---@return string|number|cotls.Error|nil more `err` behind `nil`: any other end; `err.partial` says how many bytes stay
---  for later reads.
function Connection:read(...) end

---Iterates by Lua's formats, as `file:lines` does. It ends at close_notify and **raises the error object** on anything
---else, timeouts too: a loop must not take a truncation for an end.
---@param ... cotls.Format Default: `"l"`.
---@return fun(): string|number|nil, ...
function Connection:lines(...) end

---Takes what is there, at least one byte; waits only while there is none. See SSL_read(3).
---@param max? integer Bytes at most. Default: 16384.
---@return string? data `nil` alone: the peer has ended the stream by close_notify.
---@return cotls.Error? err
function Connection:recv(max) end

---As `recv`, but leaves the data to be read again. See SSL_peek(3).
---@param max? integer Bytes at most. Default: 16384.
---@return string? data `nil` alone: the peer has ended the stream by close_notify.
---@return cotls.Error? err
function Connection:peek(max) end

---How many bytes can be read without waiting for the descriptor. See SSL_pending(3).
---@return integer bytes
function Connection:pending() end

---Writes all of its arguments, or fails; short ones share records. Before the handshake it shakes hands first.
---See SSL_write(3).
---@param ... string|number
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err `err.written` says how many bytes are sent, or encrypted and on their way.
function Connection:write(...) end

---Says that nothing more will be written (close_notify). With `"write"` that is all, and reading goes on. With `"both"`
---it then reads until the peer's; what arrives meanwhile is kept for later reads, up to 64 KiB, beyond which it fails
---with `"limit"`. See SSL_shutdown(3), RFC 8446 section 6.1.
---@param how? "write"|"both" Default: both.
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err
function Connection:shutdown(how) end

---Renews the keys that this side encrypts with (TLS 1.3); with `ask_peer` the peer renews its own before it writes
---again. Waits for output only. Before the handshake it shakes hands first. See SSL_key_update(3), RFC 8446 section
---4.6.3.
---@param ask_peer? boolean Default: false.
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err `"busy"` while a write is under way; `"tls"`, and nothing has happened: it is TLS 1.2.
function Connection:key_update(ask_peer) end

---Shakes hands anew (TLS 1.2), in full, with all verification; as a client at once, as a server by asking the client.
---
---Nobody else may read or write meanwhile. Data that arrive are kept for later reads, up to 64 KiB, beyond which it
---fails with `"limit"`: read, and call it again. It has `handshake_timeout` from its first call on; after the
---`"timeout"` of one call, call it again to go on. If it fails, or the peer refuses it, the connection is closed. See
---SSL_renegotiate(3).
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err As of `do_handshake`; `"tls"`, and nothing has happened: `renegotiation` does not allow it,
---  the peer has no RFC 5746, or it is TLS 1.3.
function Connection:renegotiate() end

---Asks the client for a certificate after the handshake (TLS 1.3), whatever `verify_client` says. Sends the request and
---returns: a later read takes in the answer, and fails with `"verify"` if the certificate is not good. Then
---`peer_certificate` shows it; a client that sends none is refused only with `verify_client = "require"`.
---
---The context needs `ca`, and the client must have offered it (`post_handshake_auth`).
---See SSL_verify_client_post_handshake(3), RFC 8446 section 4.6.2.
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err `"busy"` while a write is under way; `"tls"`, and nothing has happened: the client has not
---  offered it, a request is pending, or it is TLS 1.2.
function Connection:request_client_certificate() end

---Closes: sends close_notify if that can go out at once, never waits, and closes the transport that it owns. May be
---called again. Who waits for the connection in another coroutine gets `"closed"`.
---@return true
function Connection:close() end

---Bounds each later operation.
---@param seconds? number Without it, no bound; 0: never wait.
---@return cotls.Connection conn Itself.
function Connection:settimeout(seconds) end

---Sends early data with the hello, as a client's first call; `connect` then finishes the handshake. Whoever sees early
---data can send it again: what it asks for must do no harm when done twice. See SSL_write_early_data(3), RFC 8446
---section 2.3.
---@param ... string|number
---@return cotls.Connection? conn Itself. Raises if the context is a server's.
---@return cotls.Error? err `"limit"`: more than the session allows, which may be nothing; else as of `do_handshake`.
---  `err.written` says how many bytes are sent, or encrypted and on their way.
function Connection:write_early(...) end

---Reads early data, as a server's first call; `accept` then finishes the handshake. What it gives may have been sent
---before, by anybody: see the option `anti_replay`. A server that calls `accept` at once refuses early data.
---See SSL_read_early_data(3).
---@param max? integer Bytes at most. Default: 16384.
---@return string? data `nil` alone: early data is over, or there is none.
---@return cotls.Error? err As of `do_handshake`.
function Connection:read_early(max) end

---What became of early data; known once the handshake is done. Rejected data must be written again.
---See SSL_get_early_data_status(3).
---@return "accepted"|"rejected"|"not_sent" status
function Connection:early_data_status() end

---The session, for the option `session` of a later connection; `nil` before the handshake is done. On TLS 1.3 the
---latest ticket that reading has taken in: use each once. See SSL_get1_session(3).
---@return cotls.Session? session
function Connection:session() end

---Inside `on_client_hello`, `on_server_name` and `on_certificate`: another context, with all that it says, for the rest
---of the handshake. See SSL_set_SSL_CTX(3). Raises elsewhere, if the other context is of the other role, and where
---it comes too late: in `on_server_name`, and at a client, for one that verifies otherwise; after `on_client_hello` for
---one that does not take the version or suite agreed on; for one with a hook that would not be asked any more; and at
---a server after its ServerHello, as in a renegotiation, for any but the one in force.
---@param context cotls.Context
---@return cotls.Connection conn Itself.
function Connection:set_context(context) end

---Inside the same hooks: another certificate, for this connection. See SSL_use_cert_and_key(3). Raises elsewhere.
---@param credential cotls.Credential
---@return cotls.Connection? conn Itself.
---@return cotls.Error? err `"config"`: a part of it is refused.
function Connection:use_certificate(credential) end

---Ends TLS, and gives the transport back with the bytes that were received and are not TLS's: after the peer's
---close_notify (`shutdown` waits for it), or before anything was read or sent. The connection is closed then, the
---transport is not. For protocols that go on without TLS, as FTP's CCC (RFC 4217 section 12.3).
---@return cotls.Transport? transport
---@return string|cotls.Error bytes Empty when there are none. Or the error: `"tls"`, `"closed"`.
function Connection:detach() end

---Inside a hook: what is stapled to the certificate, in DER. Raises elsewhere.
---@param response string
---@return cotls.Connection conn Itself.
function Connection:set_ocsp_response(response) end

---The descriptor; `nil` of a stream, and once closed.
---@return integer? fd
function Connection:fileno() end

---Its context.
---@return cotls.Context context
function Connection:context() end

---What was wrapped. A socket of `tls.connect` or a listener has become its descriptor.
---@return cotls.Transport transport
function Connection:transport() end

---Is it of a server's context?
---@return boolean
function Connection:is_server() end

---OpenSSL's words for where the handshake is, or `"closed"`. See SSL_state_string_long(3).
---@return string state
function Connection:state() end

---Is the handshake done?
---@return boolean
function Connection:handshake_done() end

---The version, as `"TLSv1.3"`; `nil` before it is agreed on. See SSL_get_version(3).
---@return string? version
function Connection:version() end

---The cipher suite; `nil` before it is agreed on. See SSL_CIPHER_get_name(3).
---@return string? name OpenSSL's name, as `"ECDHE-RSA-AES128-GCM-SHA256"`.
---@return string? standard_name The TLS registry's, as `"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"`.
---@return integer? bits How strong its encryption is.
---@return string? version The first protocol that has it.
function Connection:cipher() end

---The group of the key exchange by the TLS registry's name, as `"x25519"` or `"secp256r1"`, which `groups` takes too;
---`nil` where none was used. A session that TLS 1.2 resumes tells of the handshake that made it. See
---SSL_get_negotiated_group(3), RFC 8446 section 4.2.7.
---@return string? group
function Connection:group() end

---By what scheme this side has signed in the latest handshake, as `"rsa_pss_rsae_sha256"`; `nil`: it has not, as in a
---resumed one. Before TLS 1.3 the curve in such a name is no more than part of it. See SSL_get_signature_nid(3),
---RFC 8446 section 4.2.3.
---@return string? scheme
function Connection:signature_algorithm() end

---As `signature_algorithm`, of the peer.
---@return string? scheme
function Connection:peer_signature_algorithm() end

---The protocol that was agreed on, if any. See SSL_get0_alpn_selected(3), RFC 7301.
---@return string? protocol
function Connection:alpn() end

---The name that the client asked for (SNI), if any. See SSL_get_servername(3), RFC 6066 section 3.
---@return string? name
function Connection:server_name() end

---Was an earlier session resumed? See SSL_session_reused(3).
---@return boolean
function Connection:resumed() end

---The identity of the pre-shared key (`psk`) by which the peers know each other, in this handshake or in the one whose
---session is resumed; `nil`: there is none. See SSL_get_psk_identity(3).
---@return string? identity
function Connection:psk_identity() end

---The peer's certificate, if there is one. Whether it is good is another matter: `verify_result`. After a resumption it
---is the one of the session; of a handshake that failed for it, the one that was refused.
---See SSL_get0_peer_certificate(3).
---@return cotls.X509? certificate
function Connection:peer_certificate() end

---The certificates that the peer has shown, its own first. A session that was exported, or came back from a client in a
---ticket, has kept the first only. See SSL_get_peer_cert_chain(3).
---@return cotls.X509[]? chain
function Connection:peer_chain() end

---The chain that verification has built, from the peer's certificate to one that is trusted. `nil` where it has built
---none in this handshake, as in a resumed one, or the peer was not verified. See SSL_get0_verified_chain(3).
---@return cotls.X509[]? chain
function Connection:verified_chain() end

---The certificate that this side has shown in the latest handshake; `nil`: it has shown none, as in a resumed one.
---See SSL_get_certificate(3).
---@return cotls.X509? certificate
function Connection:certificate() end

---The OCSP response that was stapled in this handshake: on a client what came, on a server what it sent; `nil`: none.
---See SSL_get_tlsext_status_ocsp_resp(3), RFC 6066 section 8.
---@return string? der
function Connection:ocsp_response() end

---The signed certificate timestamps that came with the peer's certificate, however they came, not verified; `nil`
---without a certificate. See SSL_get0_peer_scts(3), RFC 6962 section 3.2.
---@return cotls.SCT[]? list
function Connection:scts() end

---The bytes of this side's Finished message of the latest handshake; `nil` before it. See SSL_get_finished(3).
---@return string? bytes
function Connection:finished() end

---As `finished`, of the peer. See SSL_get_peer_finished(3).
---@return string? bytes
function Connection:peer_finished() end

---The 32 bytes of the client's random; `nil` before it is agreed on. See SSL_get_client_random(3).
---@return string? bytes
function Connection:client_random() end

---The 32 bytes of the server's random; `nil` before it is agreed on. See SSL_get_server_random(3).
---@return string? bytes
function Connection:server_random() end

---What binds an authentication inside the connection to the connection: equal at both ends, and nowhere else. It is
---refused where its definition does: `"tls-unique"` with TLS 1.3, and in a resumed session without extended master
---secret; `"tls-exporter"` without extended master secret, and where renegotiation is allowed;
---`"tls-server-end-point"` where the signature on the certificate has no hash (Ed25519), and on a server with several
---certificates that has resumed a session.
---@param kind "tls-exporter"|"tls-unique"|"tls-server-end-point" RFC 9266; RFC 5929 section 3; RFC 5929 section 4.
---@return string? bytes
---@return cotls.Error? err `"tls"`: it is not defined, or the handshake is not done; `"closed"`: the exporter needs
---  the keys.
function Connection:channel_binding(kind) end

---Bytes that both ends derive from the keys of the connection. Refused for TLS 1.2 without extended master secret, as
---RFC 7627 section 5.4 wants it. See SSL_export_keying_material(3), RFC 5705, RFC 8446 section 7.5.
---@param label string As `"EXPORTER-my protocol"`.
---@param length integer From 1 to 8160.
---@param context? string Up to 65535 bytes; OpenSSL 3.0 refuses more than some 900 for TLS 1.2, to which none and an
---  empty one are two things.
---@return string? bytes
---@return cotls.Error? err `"tls"`: the label is reserved, or the handshake is not done; `"closed"`.
function Connection:export_keying_material(label, length, context) end

---All that the getters tell, under their names: those without arguments, `cipher` with `cipher_standard_name`,
---`cipher_bits` and `cipher_version`, and `hello_retry`. What is `nil` is not there.
---@return cotls.Info info
function Connection:info() end

---Of `Connection:info`: what the getters of these names give.
---@class cotls.Info
---@field alpn? string
---@field certificate? cotls.X509
---@field cipher? string
---@field cipher_bits? integer
---@field cipher_standard_name? string
---@field cipher_version? string
---@field client_random? string
---@field context cotls.Context
---@field dane_result? cotls.DaneResult
---@field early_data_status "accepted"|"rejected"|"not_sent"
---@field fileno? integer
---@field finished? string
---@field group? string
---@field handshake_done boolean
---@field hello_retry? boolean Has the server asked for another ClientHello? RFC 8446 section 4.1.4.
---@field is_server boolean
---@field ocsp_response? string
---@field peer_certificate? cotls.X509
---@field peer_chain? cotls.X509[]
---@field peer_finished? string
---@field peer_signature_algorithm? string
---@field pending integer
---@field psk_identity? string
---@field resumed boolean
---@field scts? cotls.SCT[]
---@field server_name? string
---@field server_random? string
---@field session? cotls.Session
---@field signature_algorithm? string
---@field state string
---@field stats cotls.Stats
---@field transport cotls.Transport
---@field verified_chain? cotls.X509[]
---@field verify_result cotls.Verify
---@field version? string

---Of `Connection:scts`. One of an unknown version has the first two fields only.
---@class cotls.SCT
---@field version integer 1: RFC 6962's.
---@field source? "extension"|"ocsp"|"certificate" Where it came from: the TLS extension, the stapled response, or the
---  certificate itself.
---@field log_id? string 32 bytes: the log that has signed it.
---@field timestamp? number Seconds since 1970.
---@field signature? string

---What verification came to; code 0 also where none was asked for. See SSL_get_verify_result(3).
---@return cotls.Verify result
function Connection:verify_result() end

---The TLSA record of the option `dane` by which the peer was accepted. `nil` without `dane`, before the verdict, and
---where a session was resumed. See SSL_get0_dane_tlsa(3).
---@return cotls.DaneResult? result
function Connection:dane_result() end

---Counts of the connection so far.
---@return cotls.Stats stats
function Connection:stats() end

---Of `Connection:stats`.
---@class cotls.Stats
---@field bytes_in integer Bytes received, as they were on the wire.
---@field bytes_out integer Bytes sent, as they were on the wire.
---@field handshake_seconds? number How long the handshake took, once it is done.

---What `on_trace` is told.
---@class cotls.TraceEvent
---@field type "handshake"|"alert"|"change_cipher_spec"|"state"
---@field direction? "sent"|"received" Absent of a state.
---@field name string Of a message the RFCs' name, as `"client_hello"` or `"hello_retry_request"`, of an alert as
---  `"close_notify"`, else its number; of a state OpenSSL's text. See SSL_state_string_long(3).
---@field length? integer Bytes of the message with its header, before encryption. Absent of a state.
---@field seconds number Since the handshake began.
---@field version? string As `"TLSv1.3"`; until one is agreed on, the highest that this side would speak.

---A TLSA record, RFC 6698 section 2.1, RFC 7671.
---@class cotls.Tlsa
---@field usage integer 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE.
---@field selector integer 0: the certificate, 1: its SubjectPublicKeyInfo.
---@field matching_type integer 0: `data` is that itself, 1: its SHA-256, 2: its SHA-512.
---@field data string Bytes, not hexadecimal.

---Of `Connection:dane_result`: the record, and what it matched.
---@class cotls.DaneResult : cotls.Tlsa
---@field depth integer Where in the chain; 0: the peer's own certificate. Of a CA's bare key (2 1 0): the certificate
---  that it has signed.

---Of `Connection:verify_result` and of errors.
---@class cotls.Verify
---@field code integer OpenSSL's `X509_V_ERR_…`; 0: good. See X509_STORE_CTX_get_error(3).
---@field text string The same in words, ours where OpenSSL's say nothing (`pins`).
---@field depth? integer Where in the chain it failed; 0: the peer's own certificate.
---@field subject? string Whose certificate failed, as RFC 2253 text.

-- ---- errors ----

---What failed. `tostring(err)` is one readable line. Fields that say nothing about the case are absent.
---@class cotls.Error
---@field code cotls.ErrorCode For programs.
---@field operation? string What was called, as `"read"`.
---@field reason? string Why it failed.
---@field library? string The part of OpenSSL that failed.
---@field queue? cotls.QueueEntry[] All of OpenSSL's error queue, the first failure first. See ERR_get_error(3).
---@field alert? cotls.Alert The fatal alert that was sent or received.
---@field verify? cotls.Verify Why the certificate is not good.
---@field errno? integer The system's number.
---@field cause? cotls.Cause What a hook that failed has raised.
---@field written? integer Bytes of a failed write that are sent, or encrypted and on their way.
---@field partial? integer Bytes of a failed read that stay for later reads.
---@field peer? string The peer's address, as `"127.0.0.1:443"` or `"[::1]:443"`.

---Of a hook that failed.
---@class cotls.Cause
---@field error any What it raised.
---@field traceback string

---What `on_verify` is given.
---@class cotls.Report
---@field chain cotls.X509[] The peer's certificate first, as far as it was built.
---@field code integer OpenSSL's `X509_V_ERR_…`; 0: good.
---@field text string The same in words.
---@field depth integer Where in the chain it failed; 0: the peer's own certificate.
---@field name? string The first name that was checked.

---What `sign` is given.
---@class cotls.SignRequest
---@field scheme "ecdsa"|"rsa_pkcs1"|"rsa_pss"|"ed25519" The signature wanted: ECDSA in DER (RFC 3279 section 2.2.3);
---  RSASSA-PKCS1-v1_5 or RSASSA-PSS (RFC 8017), whose salt is as long as the digest; Ed25519 (RFC 8032).
---@field digest? string As `"SHA256"`; none with Ed25519.
---@field message string What is to be signed, all of it.
---@field hashed? string Its digest, for signers that take no more; none with Ed25519.

---A TLS alert; `tostring` gives its name. RFC 8446 section 6.
---@class cotls.Alert
---@field name? string As `"unknown_ca"`; absent where the number has none.
---@field number integer
---@field sent boolean By this side; else it was received.

---An entry of OpenSSL's error queue.
---@class cotls.QueueEntry
---@field library? string
---@field reason? string
---@field data? string What OpenSSL adds, a file's name say.
---@field text string All of it, as ERR_error_string_n(3) puts it.

-- ---- listeners ----

---A listening socket that gives connections: `for conn in listener do … end`. Made by `tls.listen`.
---
---The loop waits as any operation does and ends once the listener is closed. What befalls a single client, or the lack
---of descriptors, does not end it; any other failure raises its error object.
---@class cotls.Listener
---@operator call: cotls.Connection?
local Listener = {}

---The port that it listens on.
---@return integer port
function Listener:port() end

---The IP address that it listens on.
---@return string address
function Listener:address() end

---Stops listening; the loop over it ends. Its connections live on.
---@return true
function Listener:close() end

---Another context for connections to come: certificates are renewed without a restart.
---@param context cotls.Context A server's.
---@return cotls.Listener listener Itself.
function Listener:set_context(context) end

-- ---- schedulers ----

---Who waits for connections, in the place of the raw yields: a table. `cotls.luv`, `cotls.cqueues`, `cotls.ngx` and
---`cotls.blocking` are such.
---@class cotls.Scheduler
---@field wait fun(waiter: cotls.Waiter, want: cotls.Want, deadline?: number): any, any Returns once `waiter:fileno()`
---  is readable or writable: nothing, or a true value. To end the operation: `nil, "timeout"` when the deadline (on
---  `tls.now()`'s clock) has passed; `nil` and an error object, which the operation then returns; any other `nil, why`
---  cancels. To return too early does no harm. One connection may have two waits at a time, also for the same want.
---@field release? fun(waiter: cotls.Waiter) The descriptor is about to be closed: forget it, wake who waits for it.
---  Must not yield; the collector calls it too.
---@field wake? fun(waiter: cotls.Waiter, want: cotls.Want) Ends the waits of a waiter without a descriptor for one
---  want. Must not yield. Without it `tls.pair` can't wait, and a second coroutine that needs a stream's function while
---  one is in it gets `"busy"`.
---@field blocking? boolean Its `wait` does not yield, so that it can be asked anywhere. Default: false.
---@field connect? fun(host: string, port: integer, deadline?: number): userdata?, cotls.Error? A connected socket;
---  without this `tls.connect` looks names up in the blocking way and waits by `wait`.
---@field listen? fun(host: string, port: integer): userdata?, cotls.Error? A listening socket.

---The embedded loop, on libuv: `local luv = require "cotls.luv"`. While `luv.run` runs it is `tls.scheduler`.
---
---It shares the default loop of the `luv` module, whose timers, processes and pipes can be used beside it.
---@class cotls.luv : cotls.Scheduler
local luv = {}

---Options of `luv.run`, in the place of the function.
---@class cotls.RunOptions
---@field main function What to run.
---@field on_error? fun(err: any, traceback: string) Told of an error in a coroutine. Default: `run` fails with it.
---@field signals? boolean Does Ctrl-C (SIGINT) end the loop? Default: true.

---Runs a function as a coroutine, and what it spawns, to their end. Ctrl-C closes all listeners and ends the loop; a
---second one raises.
---@param main function|cotls.RunOptions
---@param ... any Arguments for it.
---@return any ... What it returns; after Ctrl-C `nil, "interrupted"`. Raises what a coroutine raised.
function luv.run(main, ...) end

---Starts a coroutine; it runs at once, until its first wait.
---@param fn function
---@param ... any Arguments for it.
---@return thread co
function luv.spawn(fn, ...) end

---Lets the others run for so many seconds.
---@param seconds number
function luv.sleep(seconds) end

---Ends the loop, once the coroutine that calls it waits. Coroutines that wait are left behind.
function luv.stop() end

---A connected socket for `Context:wrap`, as `tls.connect` asks for it: look-up by libuv, all addresses tried in turn.
---@param host string
---@param port integer
---@param deadline? number On `tls.now()`'s clock.
---@return userdata? socket
---@return cotls.Error? err
function luv.connect(host, port, deadline) end

---A listening socket, as `tls.listen` asks for it; Ctrl-C closes it.
---@param host string
---@param port integer
---@return userdata? socket
---@return cotls.Error? err
function luv.listen(host, port) end

---Waits until a waiter is readable or writable: anything with a `fileno` that gives its descriptor.
---@param waiter cotls.Waiter|table
---@param want cotls.Want
---@param deadline? number On `tls.now()`'s clock.
---@return any ok True, or `nil` and why: `"timeout"`, `"closed"`, or what the coroutine was resumed with.
---@return any why
function luv.wait(waiter, want, deadline) end

---Stops watching a descriptor: before it is closed or given to somebody else.
---@param waiter cotls.Waiter|table
function luv.release(waiter) end

---Ends the waits of a waiter without a descriptor for one want. Who waits is resumed from the loop.
---@param waiter cotls.Waiter|table
---@param want cotls.Want
function luv.wake(waiter, want) end

---Waiting under a controller of cqueues: `local scheduler = require "cotls.cqueues"`.
---
---In a program that has a controller of its own, set `tls.scheduler`, and call operations in that controller's
---coroutines. `run` makes a controller, and is `tls.scheduler` while it runs. Needs cqueues 20200726 or later.
---@class cotls.cqueues : cotls.Scheduler
local cqueues = {}

---Runs a function as a coroutine of a new controller, and what it spawns, to their end.
---@param main function
---@param ... any Arguments for it.
---@return any ... What it returns. Raises what a coroutine raised.
function cqueues.run(main, ...) end

---Starts a coroutine in the controller that runs; its turn comes with the controller's next step.
---@param fn function
---@param ... any Arguments for it.
---@return thread co
function cqueues.spawn(fn, ...) end

---Lets the others run for so many seconds.
---@param seconds number
function cqueues.sleep(seconds) end

---Ends `run`, once the coroutine that calls it waits. Coroutines that wait are left behind.
function cqueues.stop() end

---A connected socket for `Context:wrap`, as `tls.connect` asks for it: look-up by cqueues' resolver (/etc/hosts and the
---servers of /etc/resolv.conf), all IPv4 addresses tried in turn, then those of IPv6.
---@param host string
---@param port integer
---@param deadline? number On `tls.now()`'s clock.
---@return userdata? socket
---@return cotls.Error? err
function cqueues.connect(host, port, deadline) end

---A listening socket, as `tls.listen` asks for it.
---@param host string
---@param port integer
---@return userdata? socket
---@return cotls.Error? err
function cqueues.listen(host, port) end

---Waits until a waiter is readable or writable. A coroutine around the one that waits can end the wait, by resuming it
---with nil and why.
---@param waiter cotls.Waiter|table Its `fileno` gives a descriptor, or nil: then `wake` ends the wait.
---@param want cotls.Want
---@param deadline? number On `tls.now()`'s clock.
---@return any ok True, or a false value and why: `"timeout"`, or what the coroutine was resumed with.
---@return any why
function cqueues.wait(waiter, want, deadline) end

---Ends the waits of a waiter that has no descriptor.
---@param waiter table
---@param want cotls.Want
function cqueues.wake(waiter, want) end

---Makes cqueues forget a descriptor, and wakes who waits for it: before it is closed or given to somebody else.
---@param waiter cotls.Waiter|table
function cqueues.release(waiter) end

---Waiting in nginx with its Lua module (OpenResty): `tls.scheduler = require "cotls.ngx"` in init_by_lua. Connections
---are over cosockets, which wait by themselves. See docs/openresty.md.
---@class cotls.ngx : cotls.Scheduler
local ngx = {}

---Starts a light thread of the request (ngx.thread.spawn); it runs until its first wait, and ends with the request.
---@param fn function
---@param ... any Arguments for it.
---@return thread co
function ngx.spawn(fn, ...) end

---Waits (ngx.sleep).
---@param seconds number
function ngx.sleep(seconds) end

---A connected cosocket, as `tls.connect` asks for it. Names are looked up by nginx's `resolver`.
---@param host string
---@param port integer
---@param deadline? number On `tls.now()`'s clock.
---@return table? socket
---@return cotls.Error? err
function ngx.connect(host, port, deadline) end

---Waits for what has no descriptor, until `wake`. nginx watches no descriptors of others: that is an error.
---@param waiter cotls.Waiter|table
---@param want cotls.Want
---@param deadline? number On `tls.now()`'s clock.
---@return any ok True, or a false value and why: `"timeout"`, or an error object.
---@return any why
function ngx.wait(waiter, want, deadline) end

---Ends the waits of a waiter.
---@param waiter table
---@param want cotls.Want
function ngx.wake(waiter, want) end

---Wakes who waits for it.
---@param waiter cotls.Waiter|table
function ngx.release(waiter) end

---Waiting by blocking the process in poll(2), in a coroutine too: `local blocking = require "cotls.blocking"`. For
---scripts that do one thing after the other, and for hooks or servers written for `cotls.luv` that are to run so.
---@class cotls.blocking : cotls.Scheduler
local blocking = {}

---Calls a function; meanwhile this is `tls.scheduler`.
---@param main function
---@param ... any Arguments for it.
---@return any ... What it returns. Raises what it raised.
function blocking.run(main, ...) end

---Calls a function: it has ended when this returns.
---@param fn function
---@param ... any Arguments for it.
function blocking.spawn(fn, ...) end

---Waits.
---@param seconds number
function blocking.sleep(seconds) end

---A connected socket for `Context:wrap`: look-up by the system's resolver, all addresses tried in turn.
---@param host string
---@param port integer
---@param deadline? number On `tls.now()`'s clock.
---@return userdata? socket
---@return cotls.Error? err
function blocking.connect(host, port, deadline) end

---A listening socket.
---@param host string
---@param port integer
---@return userdata? socket
---@return cotls.Error? err
function blocking.listen(host, port) end

---Blocks until a waiter is readable or writable: anything with a `fileno` that gives its descriptor. A pipe in memory
---has none, and nobody runs who could fill it: that is an error.
---@param waiter cotls.Waiter|table
---@param want cotls.Want
---@param deadline? number On `tls.now()`'s clock.
---@return any ok True, or nil and why: `"timeout"`, or an error object.
---@return any why
function blocking.wait(waiter, want, deadline) end

---Does nothing: nobody else can be waiting.
---@param waiter cotls.Waiter|table
function blocking.release(waiter) end

---How `cotls.luasec.install` makes the drop-in behave.
---@class cotls.LuasecOptions
---@field strict? boolean cotls' defaults (system CAs, chain and name verified, TLS 1.2), not LuaSec's (default false).
---@field yielding? boolean In a coroutine calls wait by `tls.scheduler`, if there is one (default false: they block).

---A drop-in for LuaSec: `require("cotls.luasec").install()`, or `lua -l cotls.luasec_preload script.lua`.
---@class cotls.luasec
local luasec = {}

---Makes `require` give what is made of cotls for ssl, ssl.core, ssl.context, ssl.x509, ssl.config, ssl.https and
---ssl.options, through `package.preload`. What has required LuaSec's own before keeps that.
---@param options? cotls.LuasecOptions
---@return cotls.luasec luasec
function luasec.install(options) end

---One of these modules, without any installation.
---@param name string As it is required: `"ssl"`.
---@return table module
function luasec.module(name) end

return tls
