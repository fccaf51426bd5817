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
# A member of an npm workspace has its lock file at the root of that. What it uses of the workspace is built before it and comes along.
members=$(node -e '
const fs = require("fs"), path = require("path");
const read = p => { try { return JSON.parse(fs.readFileSync(path.join(p, "package.json"))); } catch { return undefined; } };
const own = path.normalize(process.argv[1]).replace(/\/$/, "");
const locked = p => fs.existsSync(path.join(p, "package-lock.json")) || fs.existsSync(path.join(p, "npm-shrinkwrap.json"));
let root;
for (let p = own; p !== "." && !locked(p); ) {
  p = path.dirname(p);
  if (read(p)?.workspaces && locked(p)) { root = p; break; }
}
if (root !== undefined) {
  const lock = JSON.parse(fs.readFileSync(path.join(root, fs.existsSync(path.join(root, "npm-shrinkwrap.json")) ? "npm-shrinkwrap.json" : "package-lock.json")));
  const at = {};
  for (const p of Object.values(lock.packages)) if (p.link) { const j = read(path.join(root, p.resolved)); if (j) at[j.name] = p.resolved; }
  const order = [], seen = new Set();
  const visit = folder => {
    if (seen.has(folder)) return;
    seen.add(folder);
    const j = read(path.join(root, folder)) || {};
    for (const name of Object.keys({ ...j.dependencies, ...j.optionalDependencies, ...j.devDependencies })) if (at[name]) visit(at[name]);
    order.push(folder);
  };
  visit(path.relative(root, own));
  console.log([root, ...order].join("\n"));
}' "./$WEIR_PATH")
if [ -n "$members" ]; then
	root=$(printf '%s\n' "$members" | head -n 1)
	set --
	while read -r member; do set -- "$@" "--workspace=$member"; done <<-MEMBERS
		$(printf '%s\n' "$members" | tail -n +2)
	MEMBERS
	cd -- "./$root"
	npm ci --no-audit --no-fund
	for member; do npm run build --if-present "$member"; done
	npm ci --omit=dev --prefer-offline --no-audit --no-fund "$@"
	stage=$(mktemp -d)
	app="$stage/app/$root"
	mkdir -p "$app" "$stage/usr/bin" "$stage/usr/share/weir"
	cp package.json "$app/"
	for member; do mkdir -p "$app/$(dirname "${member#--workspace=}")"; done
	tar --exclude=.git --exclude=node_modules/.cache -cf - node_modules $(for member; do printf '%s ' "./${member#--workspace=}"; done) | tar -xf - -C "$app"
	# What other members of the workspace are linked as is not here.
	find "$app/node_modules" -xtype l -delete
else
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
fi
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
