// Command build bundles the pages' scripts, styles and fonts into assets/dist,
// each file under a name that carries the hash of its content. It needs what
// `npm ci --ignore-scripts` fetched into node_modules, and nothing else of npm.
//
//	go run ./internal/edge/web/assets/build
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evanw/esbuild/pkg/api"
)

const (
	source = "internal/edge/web/assets/src"
	dist   = "internal/edge/web/assets/dist"
)

func main() {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "assets:", err)
		os.Exit(1)
	}
}

func build() error {
	began := time.Now()
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("run this in the root of the repository: %w", err)
	}
	for _, dep := range []string{"htmx.org", "@fontsource-variable/inter", "@fontsource-variable/jetbrains-mono"} {
		if _, err := os.Stat(filepath.Join("node_modules", dep, "package.json")); err != nil {
			return fmt.Errorf("node_modules has no %s; run `npm ci --ignore-scripts` first", dep)
		}
	}
	fmt.Println("assets: bundling scripts, styles and fonts")
	result := api.Build(api.BuildOptions{
		EntryPoints:       []string{source + "/app.ts", source + "/app.css", source + "/icon.svg"},
		Bundle:            true,
		Outdir:            dist,
		EntryNames:        "[name]-[hash]",
		AssetNames:        "[name]-[hash]",
		Loader:            map[string]api.Loader{".woff2": api.LoaderFile, ".svg": api.LoaderCopy},
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Target:            api.ES2022,
		Engines:           []api.Engine{{Name: api.EngineChrome, Version: "123"}, {Name: api.EngineFirefox, Version: "125"}, {Name: api.EngineSafari, Version: "17.5"}},
		LegalComments:     api.LegalCommentsEndOfFile,
		Metafile:          true,
		LogLevel:          api.LogLevelInfo,
	})
	if len(result.Errors) > 0 {
		return fmt.Errorf("%d errors", len(result.Errors))
	}
	return write(result, began)
}

// write replaces the content of dist. The manifest is last: with it, the set is
// complete.
func write(result api.BuildResult, began time.Time) error {
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	old, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	keep := map[string]bool{".keep": true}
	manifest := map[string]string{}
	var size int64
	for _, f := range result.OutputFiles {
		name := filepath.Base(f.Path)
		keep[name] = true
		size += int64(len(f.Contents))
		if err := os.WriteFile(filepath.Join(dist, name), f.Contents, 0o644); err != nil {
			return err
		}
		ext := filepath.Ext(name)
		if i := strings.LastIndexByte(name, '-'); i > 0 && ext != ".woff2" {
			manifest[name[:i]+ext] = name
		}
	}
	for _, e := range old {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(dist, e.Name())); err != nil {
				return err
			}
		}
	}
	raw, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dist, "manifest.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("assets: %d files, %d KiB in %s, %d ms\n", len(result.OutputFiles), size>>10, dist, time.Since(began).Milliseconds())
	return nil
}
