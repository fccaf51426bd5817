package ledger

import "testing"

// SignForTest signs a checkpoint again, with the key in a file.
func SignForTest(t *testing.T, path, origin string, cp Checkpoint) string {
	t.Helper()
	key, err := readKey(path, origin)
	if err != nil {
		t.Fatal(err)
	}
	out, err := key.sign(cp.Size, cp.Root)
	if err != nil {
		t.Fatal(err)
	}
	return out.Note
}
