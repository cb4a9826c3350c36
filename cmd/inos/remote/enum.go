package remote

import (
	"fmt"
	"strings"
)

// enumText is the name of a value of the schema, as people write it: of
// PLEDGE_STATE_ACTIVE it is "active". One that a later node adds is its number.
func enumText(prefix string, value fmt.Stringer) string {
	name := strings.TrimPrefix(value.String(), prefix)
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}
