// Command reference writes the generated part of the documentation: the keys of
// weir.yaml and of the server's configuration, the commands, the API.
//
//	go run ./internal/app/reference docs/reference
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"weir/internal/app"
	"weir/internal/catalog"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	schema, err := json.MarshalIndent(app.Schema(), "", "  ")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"weir.yaml.md":          app.Reference("weir.yaml", catalog.Document{}),
		"config.md":             app.Reference("The server's configuration file", app.Config{}),
		"weir.yaml.schema.json": string(schema) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
