#!/usr/bin/env bash
# Installs what the tests need beside Go: redis-server, redis-tools, strace, and for
# Redis' own tests its source, Tcl and what unpacks Debian's sources; for
# redis-py the library itself. Packages are installed as root, or through sudo
# with INSTALL=1; else the script names what is missing and fails. The source
# and the library lie in the user's cache, outside the tree.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/quipu-test
redis=7.0.15
redis_py=8.1.0

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need redis-server redis-server
need redis-cli redis-tools
need redis-benchmark redis-tools
need strace strace
need tclsh tcl
need dpkg-source dpkg-dev
[ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
	run=()
	if [ "$(id -u)" -ne 0 ]; then
		if [ "${INSTALL:-}" != 1 ]; then
			echo "missing: ${missing[*]} (install them, or run with INSTALL=1 to use sudo)" >&2
			exit 1
		fi
		run=(sudo)
	fi
	echo "installing for the tests: ${missing[*]}" >&2
	"${run[@]}" apt-get update -qq
	DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	# The package starts a server of its own; the tests start theirs.
	"${run[@]}" service redis-server stop >/dev/null 2>&1 || true
fi

fetch=()
[ -e "$cache/redis-$redis/runtest" ] || fetch+=("the source of redis $redis")
[ -x "$cache/redis-py-$redis_py/bin/python" ] || fetch+=("redis-py $redis_py")
[ ${#fetch[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] && [ "${INSTALL:-}" != 1 ]; then
	echo "missing in $cache: ${fetch[*]} (run with INSTALL=1 to get it)" >&2
	exit 1
fi
echo "getting for the tests, into $cache: ${fetch[*]}" >&2
mkdir -p "$cache"
# Each is made beside its place and moved there whole, so that what is there is
# complete.
work=$(mktemp -d "$cache/getting.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The machine's own package lists stay as they are: the same archives are asked
# for sources through lists of our own.
if [ ! -e "$cache/redis-$redis/runtest" ]; then
	mkdir -p "$work"/apt/{parts,lists/partial,cache/archives/partial}
	shopt -s nullglob
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -e "$file" ] && sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$work/apt/parts/$(basename "$file" .list).list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/apt/parts/$(basename "$file")"
	done
	apt=(-qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/apt/parts" -o Dir::State::Lists="$work/apt/lists"
		-o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User=)
	apt-get "${apt[@]}" update
	(cd "$work" && apt-get "${apt[@]}" source redis) >/dev/null
	if [ ! -d "$work/redis-$redis" ]; then
		echo "this system's source of redis is not $redis: $(cd "$work" && echo redis*/)" >&2
		exit 1
	fi
	rm -rf "$cache/redis-$redis"
	mv "$work/redis-$redis" "$cache/"
fi

# An environment can't be moved, since it names its own path: pip puts the
# library alone into a folder, and a script stands for its interpreter.
py=$cache/redis-py-$redis_py
if [ ! -x "$py/bin/python" ]; then
	/usr/bin/python3 -m venv "$work/venv"
	mkdir "$work/py" "$work/py/bin"
	"$work/venv/bin/pip" install --quiet --disable-pip-version-check --target "$work/py/lib" "redis==$redis_py"
	printf '#!/bin/sh\nPYTHONPATH="%s" exec /usr/bin/python3 "$@"\n' "$py/lib" >"$work/py/bin/python"
	chmod +x "$work/py/bin/python"
	rm -rf "$py"
	mv "$work/py" "$py"
fi
