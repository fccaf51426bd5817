package build

import (
	"weir/internal/artifact"
	"weir/internal/pipeline"
)

// nodeScript installs what the lock file says, builds if the package knows how,
// and stages the service with the Node program of the runner and the libraries
// that it is linked with. Times are fixed, so that one revision gives one tree.
const nodeScript = `set -eu
out="$PWD/$WEIR_OUTPUT"
mkdir -p "$(dirname "$out")"
for tool in node npm ldd; do
	command -v $tool >/dev/null || { echo "the release of a Node service needs $tool on the runner, and there is none; install it" >&2; exit 1; }
done
cd -- "./$WEIR_PATH"
has() { node -e 'const p = require("./package.json"); process.exit(Object.keys((p[process.argv[1]]) || {}).length && (!process.argv[2] || p[process.argv[1]][process.argv[2]]) ? 0 : 1)' "$@"; }
if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
	npm ci --no-audit --no-fund
elif has dependencies; then
	echo "there is no package-lock.json beside package.json, so nobody could say what would be installed; run npm install and commit it" >&2
	exit 1
fi
if has scripts build; then npm run build; fi
if [ -d node_modules ]; then npm prune --omit=dev --no-audit --no-fund; fi
stage=$(mktemp -d)
mkdir -p "$stage/app" "$stage/usr/bin" "$stage/usr/share/weir"
tar --exclude=./.git --exclude=./.weir --exclude=./.github --exclude=./node_modules/.cache -cf - . | tar -xf - -C "$stage/app"
node=$(readlink -f "$(command -v node)")
cp -- "$node" "$stage/usr/bin/node"
ldd "$node" | grep -o '/[^ ]*' | sort -u | while read -r lib; do
	mkdir -p "$stage$(dirname "$lib")"
	cp -L -- "$lib" "$stage$lib"
done
node -p 'JSON.stringify(process.versions)' > "$stage/usr/share/weir/node.json"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --hard-dereference -cf "$out" -C "$stage" .
`

// fromNode completes the build of a Node service.
func fromNode(b *pipeline.Build, s artifact.Spec) error {
	if _, err := inside(s, "artifact.build.node", s.Node); err != nil {
		return err
	}
	b.Script = nodeScript
	return nil
}
