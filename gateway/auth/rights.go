package auth

import (
	"fmt"
	"strings"
)

// Rights is a set of what an identity may do. The zero value is nothing.
type Rights uint8

// The rights. None includes another.
const (
	Read  Rights = 1 << iota // read what is not public
	Write                    // upload, and delete what one owns
	Admin                    // what belongs to others, and to the node

	None Rights = 0
	All         = Read | Write | Admin
)

// rightNames has the text of each right, by its bit.
var rightNames = [...]string{"read", "write", "admin"}

// ParseRights reads right names with commas between them, each at most once;
// "" is none. Anything else is an error.
func ParseRights(s string) (Rights, error) {
	if s == "" {
		return None, nil
	}
	return rightsOf(strings.Split(s, ","))
}

// rightsOf reads a list of right names.
func rightsOf(names []string) (Rights, error) {
	var r Rights
	for _, name := range names {
		bit := None
		for i, n := range rightNames {
			if n == name {
				bit = 1 << i
			}
		}
		switch {
		case bit == None:
			return None, fmt.Errorf("auth: %.20q is no right; have %s", name, strings.Join(rightNames[:], ", "))
		case r.Has(bit):
			return None, fmt.Errorf("auth: the right %s is there twice", name)
		}
		r |= bit
	}
	return r, nil
}

// Has reports whether r holds all of want.
func (r Rights) Has(want Rights) bool { return r&want == want }

// names lists the rights in their order.
func (r Rights) names() []string {
	list := make([]string, 0, len(rightNames))
	for i, n := range rightNames {
		if r.Has(1 << i) {
			list = append(list, n)
		}
	}
	return list
}

// String is what ParseRights reads, or "nothing".
func (r Rights) String() string {
	if r&All == None {
		return "nothing"
	}
	return strings.Join(r.names(), ",")
}
