package ledger

import (
	"crypto/rand"
	"fmt"
)

// newSecret makes the secret that cursors are signed with.
func newSecret() ([]byte, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return b, nil
}
