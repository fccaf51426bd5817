package image_test

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact/image"
	. "weir/internal/artifact/layout/layouttest"
	"weir/internal/base/fault"
)

func nodeTree(t *testing.T, more ...File) *bytes.Reader {
	t.Helper()
	b, err := os.ReadFile(build(t)) // any program will do
	if err != nil {
		t.Fatal(err)
	}
	files := append([]File{{Name: "./usr/bin/node", Body: string(b), Mode: 0o755}, {Name: "./app/server.js", Body: "1"},
		{Name: "./app/node_modules/.bin/x", Type: tar.TypeSymlink, Link: "../x/cli.js"}}, more...)
	return bytes.NewReader(Tar(files...))
}

func TestANodeServiceSharesItsRuntimeBetweenReleases(t *testing.T) {
	in := image.Input{Name: "shop", Created: time.Unix(1, 0)}
	first, err := image.FromNode(t.TempDir(), in, nodeTree(t), "server.js")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := image.FromNode(t.TempDir(), in, nodeTree(t, File{Name: "./app/new.js", Body: "2"}), "server.js")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if len(first.Layers) != 3 || first.Layers[1].Digest != second.Layers[1].Digest || first.Layers[2].Digest == second.Layers[2].Digest {
		t.Errorf("layers %v and %v; want one runtime and two services", first.Layers, second.Layers)
	}
	if !strings.Contains(string(first.Config), `"Entrypoint":["/usr/bin/node","/app/server.js"]`) {
		t.Errorf("configuration %s", first.Config)
	}
}

func TestATreeThatIsNoNodeServiceIsRefused(t *testing.T) {
	for want, c := range map[string]struct {
		program string
		more    File
	}{
		"has no such file":     {"other.js", File{Name: "x"}},
		"leads outside":        {"server.js", File{Name: "app/l", Type: tar.TypeSymlink, Link: "../../etc/passwd"}},
		"to \"/etc/passwd\"":   {"server.js", File{Name: "app/l", Type: tar.TypeSymlink, Link: "/etc/passwd"}},
		"outside their folder": {"server.js", File{Name: "../x"}},
		"a hard link":          {"server.js", File{Name: "app/l", Type: tar.TypeLink, Link: "app/server.js"}},
		"file and as a folder": {"server.js", File{Name: "app/server.js/x"}},
	} {
		_, err := image.FromNode(t.TempDir(), image.Input{Name: "shop"}, nodeTree(t, c.more), c.program)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("FromNode() = %v; want %q", err, want)
		}
	}
	if _, err := image.FromNode(t.TempDir(), image.Input{Name: "shop"}, bytes.NewReader(Tar(File{Name: "app/server.js"})), "server.js"); !strings.Contains(fault.Sentence(err), "left no usr/bin/node") {
		t.Errorf("FromNode() = %v", err)
	}
}
