#!/bin/sh
# Sees to it that what some verbs of the Makefile need is there.
#
# usage: deps.sh GROUP...      (build demo test lint asan valgrind docs bench rock
#        clang fuzz coverage)
#
# On Debian and its kin missing packages are installed, with sudo when not root.
# Elsewhere, and where neither is possible, the programs and modules themselves
# are looked for, and only what is really missing is named, and is a failure.
lua=${LUA:-lua5.4}

say() {
  echo "cotls: $*" >&2
}

case $(basename "$lua") in
  luajit*) language='luajit libluajit-5.1-dev' ;;
  lua5.1) language='lua5.1 liblua5.1-0-dev' ;;
  lua5.3) language='lua5.3 liblua5.3-dev' ;;
  *) language='lua5.4 liblua5.4-dev' ;;
esac

packages_of() {
  case $1 in
    build) echo gcc libc6-dev make pkg-config "$language" libssl-dev ;;
    demo) echo lua-luv curl openssl ;;
    test) echo lua-busted lua-luv lua-socket lua-sec lua-cqueues curl openssl gnutls-bin strace redis-server prosody ;;
    lint) echo lua-check clang-format ;;
    asan) echo gcc ;;
    valgrind) echo valgrind libc6-dbg ;;
    docs) echo lua-ldoc ;;
    bench) echo lua-luv lua-sec lua-socket lua-luaossl lua-cqueues ;;
    rock) echo luarocks ;;
    clang) echo clang ;;
    coverage) echo gcc lcov ;;
    fuzz) echo clang libclang-rt-dev ;;
    *)
      say "deps.sh: no group '$1'"
      exit 2
      ;;
  esac
}

# Debian package | what proves it | Fedora | Alpine | Arch | Homebrew | rock
table='
gcc           | cmd:cc           | gcc                 | build-base        | gcc       | gcc          |
libc6-dev     | none             |                     |                   |           |              |
libc6-dbg     | none             |                     |                   |           |              |
make          | cmd:make         | make                | make              | make      | make         |
pkg-config    | cmd:pkg-config   | pkgconf-pkg-config  | pkgconf           | pkgconf   | pkgconf      |
lua5.4        | interpreter      | lua                 | lua5.4            | lua       | lua          |
liblua5.4-dev | headers          | lua-devel           | lua5.4-dev        | lua       | lua          |
lua5.3        | interpreter      |                     | lua5.3            | lua53     |              |
liblua5.3-dev | headers          |                     | lua5.3-dev        | lua53     |              |
lua5.1        | interpreter      | compat-lua          | lua5.1            | lua51     |              |
liblua5.1-0-dev | headers        | compat-lua-devel    | lua5.1-dev        | lua51     |              |
luajit        | interpreter      | luajit              | luajit            | luajit    | luajit       |
libluajit-5.1-dev | headers      | luajit-devel        | luajit-dev        | luajit    | luajit       |
libssl-dev    | openssl          | openssl-devel       | openssl-dev       | openssl   | openssl@3    |
curl          | cmd:curl         | curl                | curl              | curl      | curl         |
openssl       | cmd:openssl      | openssl             | openssl           | openssl   | openssl@3    |
gnutls-bin    | cmd:gnutls-cli   | gnutls-utils        | gnutls-utils      | gnutls    | gnutls       |
clang         | cmd:clang        | clang               | clang             | clang     | llvm         |
libclang-rt-dev | none           | compiler-rt         | compiler-rt       | compiler-rt |            |
clang-format  | cmd:clang-format | clang-tools-extra   | clang-extra-tools | clang     | clang-format |
redis-server  | cmd:redis-server | redis               | redis             | redis     | redis        |
prosody       | cmd:prosody      | prosody             | prosody           | prosody   | prosody      |
valgrind      | cmd:valgrind     | valgrind            | valgrind          | valgrind  |              |
luarocks      | cmd:luarocks     | luarocks            | luarocks          | luarocks  | luarocks     |
lcov          | cmd:lcov         | lcov                | lcov              | lcov      | lcov         |
lua-check     | cmd:luacheck     |                     |                   |           | luacheck     | luacheck
lua-ldoc      | cmd:ldoc         |                     |                   |           |              | ldoc
lua-busted    | lua:busted       |                     |                   |           |              | busted
lua-luv       | lua:luv          |                     |                   |           |              | luv
lua-socket    | lua:socket       |                     |                   |           |              | luasocket
lua-sec       | lua:ssl          |                     |                   |           |              | luasec
lua-luaossl   | lua:openssl.ssl  |                     |                   |           |              | luaossl
lua-cqueues   | lua:cqueues      |                     |                   |           |              | cqueues
'

present() {
  case $1 in
    cmd:*) command -v "${1#cmd:}" >/dev/null ;;
    lua:*)
      "$lua" - "${1#lua:}" 2>/dev/null <<'EOF'
local name = (...):gsub("%.", "/")
for template in (package.path .. ";" .. package.cpath):gmatch("[^;]+") do
  if io.open((template:gsub("%?", name))) then os.exit(0) end
end
os.exit(1)
EOF
      ;;
    interpreter) "$lua" -v >/dev/null 2>&1 ;;
    headers) sh "$(dirname "$0")/lua_pc.sh" "$lua" >/dev/null 2>&1 ;;
    openssl) pkg-config --atleast-version=3.0 openssl 2>/dev/null ;;
    none) true ;;
  esac
}

# Names those of the given packages that nothing on this system stands for.
check() {
  missing=0
  for package in $1; do
    row=$(echo "$table" | grep "^$package ")
    IFS='|' read -r _ proof fedora alpine arch brew rock <<EOF
$(echo "$row" | sed 's/ *| */|/g')
EOF
    present "$proof" && continue
    missing=1
    names="Debian: $package"
    [ -n "$fedora" ] && names="$names, Fedora: $fedora"
    [ -n "$alpine" ] && names="$names, Alpine: $alpine"
    [ -n "$arch" ] && names="$names, Arch: $arch"
    [ -n "$brew" ] && names="$names, Homebrew: $brew"
    [ -n "$rock" ] && names="$names, LuaRocks: $rock"
    say "missing ${proof#*:} ($names)"
  done
  return $missing
}

# Debian starts a service that it installs, unless this file forbids it
# (invoke-rc.d(8)). Here nobody wants these to run, or to stay forbidden.
services='redis-server prosody'
policy=/usr/sbin/policy-rc.d

forbid_services() {
  unwanted=$(printf '%s\n' "$@" | grep -xF "$(printf '%s\n' $services)" | sed 's/$/.service/')
  [ -n "$unwanted" ] || return
  [ -e "$policy" ] && return
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" || exit 1
  forbidden=1
}

clean_up() {
  rm -f "$log"
  [ -z "$forbidden" ] || $as_root rm -f "$policy"
}

install() {
  log=$(mktemp) || exit 1
  forbidden=
  trap clean_up EXIT
  trap 'exit 1' HUP INT TERM
  forbid_services "$@"
  say "installing $* (apt-get${as_root:+ with sudo})"
  # A machine that is offline may still have what it needs in its cache.
  get update >"$log" 2>&1 || say "apt-get update failed, trying without"
  if ! get install -y --no-install-recommends "$@" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "apt-get failed to install $*"
    return 1
  fi
  # nor at the next boot
  [ -z "$forbidden" ] || $as_root systemctl -q disable $unwanted >>"$log" 2>&1
  return 0
}

get() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

wanted=
for group in "$@"; do
  wanted="$wanted $(packages_of "$group")" || exit 2
done
wanted=$(printf '%s\n' $wanted | sort -u)

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  check "$wanted"
  exit
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
  sed -n 's/^installed //p' | sort -u)
absent=$(printf '%s\n' $wanted | grep -vxF "$installed" | tr '\n' ' ')
[ -z "${absent# }" ] && exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
  # Without a terminal nobody could type a password.
  if [ -t 0 ]; then as_root=sudo; else as_root='sudo -n'; fi
  if ! command -v sudo >/dev/null || ! $as_root true; then
    check "$absent" && exit 0
    say "as root: apt-get install --no-install-recommends $absent"
    exit 1
  fi
fi
install $absent
