package sandbox

import (
	"crypto/sha256"
	"io"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID makes an id with Stripe's prefix and n characters. Entropy was checked by New; a reader that fails later is a bug.
func (s *Server) newID(prefix string, n int) string {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Entropy, b); err != nil {
		panic("sandbox: entropy: " + err.Error())
	}
	return prefix + letters(b)
}

func letters(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = base62[int(c)%len(base62)]
	}
	return string(out)
}

// objectID is the length of most of Stripe's ids: pi_, ch_, pm_, seti_, re_, dp_, evt_, we_, txn_.
func (s *Server) objectID(prefix string) string { return s.newID(prefix+"1", 23) }

// fingerprint is the same for the same card number, in every sandbox.
func fingerprint(number string) string {
	sum := sha256.Sum256([]byte("card fingerprint\x00" + number))
	return letters(sum[:16])
}
