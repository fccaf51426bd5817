package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"hash/crc32"
	"strings"
)

// A token is "weir_", 32 characters of randomness (160 bits) and a checksum of
// 7, so that scanners can tell one from noise. Only its hash is stored.
const tokenPrefix = "weir_"

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newToken() string {
	var b [20]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail on supported systems.
	}
	body := letters.EncodeToString(b[:])
	return tokenPrefix + body + checksum(body)
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return letters.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// WellFormed reports whether s has the form and the checksum of a token.
func WellFormed(s string) bool {
	body, ok := strings.CutPrefix(s, tokenPrefix)
	return ok && len(body) == 39 && checksum(body[:32]) == body[32:]
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
