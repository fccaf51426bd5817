package confine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/confine"
)

func TestABuilderIsRootWhereItMeansLittle(t *testing.T) {
	dir, shown := t.TempDir(), t.TempDir()
	secret := filepath.Join(shown, "kept")
	if err := os.WriteFile(secret, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	box, err := confine.Open(t.Context(), confine.Spec{Builder: true, Dir: dir, ReadOnly: []string{shown}})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	const script = `
echo "uid $(id -u)"
mkdir m && mount -t tmpfs none m && echo mounts
touch given && chown 7:7 given && echo "given to $(stat -c %u given)"
unshare -n true && echo "has namespaces"
mount -o remount,bind,rw "$SHOWN" 2>/dev/null && echo BAD: made it writable
mount -o remount,rw "$SHOWN" 2>/dev/null && echo BAD: made the file system writable
echo changed 2>/dev/null > "$SHOWN/kept" && echo BAD: wrote
umount "$SHOWN" 2>/dev/null && echo BAD: took a mount away
umount -l /usr 2>/dev/null && echo BAD: took /usr away
mount -o remount,bind,rw /usr 2>/dev/null && echo BAD: made /usr writable
mount -o remount,bind,suid,dev /usr 2>/dev/null && echo BAD: got setuid back
mknod disk b 8 0 2>/dev/null && cat disk >/dev/null 2>&1 && echo BAD: read a disk
kill -9 1 2>/dev/null; cat /proc/1/environ >/dev/null 2>&1 && echo BAD: read init
ls /root >/dev/null 2>&1 && echo BAD: sees /root
echo end
`
	var out strings.Builder
	p, err := box.Start(confine.Cmd{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "SHOWN=" + shown}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	want := "uid 0\nmounts\ngiven to 0\nhas namespaces\nend\n"
	if out.String() != want {
		t.Errorf("a builder says:\n%s\nwant:\n%s", out.String(), want)
	}
	if b, _ := os.ReadFile(secret); string(b) != "as it was" {
		t.Errorf("the file that it saw is %q", b)
	}
}
