#!/bin/sh
# Makes capagent-VERSION.pkg of what `make dist` built, on a Mac. Not run so far.
#
#   packaging/launchd/build-pkg.sh dist 1.2.3 ["Developer ID Installer: …"]
#
# What lies where afterwards:
#   /usr/local/bin/capagent                                for Intel and Apple processors
#   /usr/local/share/man/man1, …/zsh/site-functions
#   /Library/LaunchDaemons/org.capagent.agent.plist
#   /Library/Application Support/capagent/agent.toml       made from the example, once
#   /etc/newsyslog.d/capagent.conf
# Sign the program itself (codesign) before, and notarise the package after this, where
# Gatekeeper shall let it through.
set -eu
dist=$1 version=$2 identity=${3-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in amd64 arm64; do
	tar -xzf "$dist/capagent_${version}_darwin_$arch.tar.gz" -C "$work"
done
from="$work/capagent_${version}_darwin_arm64" root="$work/root"
support="$root/Library/Application Support/capagent"
mkdir -p "$root/usr/local/bin" "$root/usr/local/share/man/man1" "$root/usr/local/share/zsh/site-functions" \
	"$root/Library/LaunchDaemons" "$root/etc/newsyslog.d" "$support"
lipo -create -output "$root/usr/local/bin/capagent" "$work"/capagent_"$version"_darwin_*/capagent
cp "$from"/man/*.1 "$root/usr/local/share/man/man1/"
cp "$from/completions/_capagent" "$root/usr/local/share/zsh/site-functions/"
cp "$from/agent.toml.example" "$from/capagent.cdx.json" "$from/LICENSE" "$support/"
cp "$here/org.capagent.agent.plist" "$root/Library/LaunchDaemons/"
cp "$here/newsyslog.conf" "$root/etc/newsyslog.d/capagent.conf"
chmod 755 "$root/usr/local/bin/capagent" "$here"/scripts/*
plutil -lint "$root/Library/LaunchDaemons/org.capagent.agent.plist"
pkgbuild --root "$root" --scripts "$here/scripts" --identifier org.capagent.agent --version "$version" \
	--ownership recommended "$work/capagent.pkg"
if [ -n "$identity" ]; then
	productsign --sign "$identity" "$work/capagent.pkg" "capagent-$version.pkg"
else
	cp "$work/capagent.pkg" "capagent-$version.pkg"
fi
