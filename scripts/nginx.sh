#!/bin/sh
# Unpacks Debian's nginx with its Lua module into a folder of its own: installed,
# it would replace libluajit-5.1-2 and remove luajit. Nothing is configured or
# started, and nothing outside of the folder changes.
#
# usage: nginx.sh FOLDER       (prints nothing; FOLDER/usr/sbin/nginx is there afterwards)
packages='nginx libnginx-mod-http-lua libnginx-mod-http-ndk libluajit2-5.1-2 lua-resty-core lua-resty-lrucache libpcre3'
folder=$1

say() {
  echo "cotls: $*" >&2
}

if [ -z "$folder" ]; then
  say "usage: nginx.sh FOLDER"
  exit 2
fi
if [ -e "$folder/complete" ]; then exit 0; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  say "nginx.sh needs Debian's packages: $packages"
  exit 1
fi

rm -rf "$folder" && mkdir -p "$folder/packages" && cd "$folder/packages" || exit 1
# As the one who asks: apt's own user may not write here.
download() {
  apt-get -q -o APT::Sandbox::User=root download $packages >download.log 2>&1
}

# Old lists name packages that the mirror has no more; only root may renew them.
if ! download && ! { [ "$(id -u)" -eq 0 ] && apt-get -q update >update.log 2>&1 && download; }; then
  cat download.log >&2
  say "apt-get failed to download $packages"
  exit 1
fi
for package in *.deb; do
  dpkg -x "$package" .. || exit 1
done
cd .. && rm -rf packages && touch complete
