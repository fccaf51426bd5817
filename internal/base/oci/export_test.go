package oci

import "bytes"

// UnpackForTest unpacks a layer as it comes.
func UnpackForTest(layer []byte, dir string) error {
	return (&room{bytes: 1 << 20, files: 100}).layer(bytes.NewReader(layer), dir)
}
