package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrName says: a text is no event name.
var ErrName = errors.New("not an event name")

// State is how far an operation has come.
type State uint8

// The states. The zero value is that of an operation that nobody has heard of.
const (
	Requested State = iota + 1
	Processing
	Completed
	Failed

	numStates = iota + 1
)

var stateNames = [numStates]string{"unknown", "requested", "processing", "completed", "failed"}

// String is the last part of a name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// ParseState reads what String writes: ErrName.
func ParseState(s string) (State, error) {
	for state := Requested; state < numStates; state++ {
		if stateNames[state] == s {
			return state, nil
		}
	}
	return 0, fmt.Errorf("%w: %.20q is none of the states %s", ErrName, s, strings.Join(stateNames[Requested:], ", "))
}

// Name is the type of an event: {service}:{action}:v{version}:{state}. It may
// be compared; the zero value is none.
type Name struct {
	Service string // who does it, such as "storage"
	Action  string // what it does, such as "replicate_chunk"
	Version int    // of the payload's shape, 1 … maxVersion
	State   State
}

// Limits of a name.
const (
	maxWord    = 48 // bytes of a service or an action
	maxVersion = 999
	maxName    = 2*maxWord + len("::v999:processing")
)

// ParseName reads a name; there is one way to write each. ErrName.
func ParseName(s string) (Name, error) {
	if len(s) > maxName {
		return Name{}, fmt.Errorf("%w: it has %d bytes, at most %d", ErrName, len(s), maxName)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return Name{}, fmt.Errorf("%w: %q is not {service}:{action}:v{version}:{state}", ErrName, s)
	}
	state, err := ParseState(parts[3])
	if err != nil {
		return Name{}, err
	}
	n := Name{Service: parts[0], Action: parts[1], State: state}
	if err := checkOperation(n.Operation()); err != nil {
		return Name{}, err
	}
	n.Version, err = strconv.Atoi(strings.TrimPrefix(parts[2], "v"))
	if err != nil || n.Version < 1 || n.Version > maxVersion || parts[2] != "v"+strconv.Itoa(n.Version) {
		return Name{}, fmt.Errorf("%w: %q is no version v1 to v%d", ErrName, parts[2], maxVersion)
	}
	return n, nil
}

// String is what ParseName reads.
func (n Name) String() string {
	return n.Service + ":" + n.Action + ":v" + strconv.Itoa(n.Version) + ":" + n.State.String()
}

// Operation is what handlers register for: "service:action".
func (n Name) Operation() string { return n.Service + ":" + n.Action }

// In is the same name in another state.
func (n Name) In(s State) Name {
	n.State = s
	return n
}

// checkOperation checks "service:action": ErrName.
func checkOperation(s string) error {
	service, action, ok := strings.Cut(s, ":")
	if !ok || !isWord(service) || !isWord(action) {
		return fmt.Errorf("%w: %.100q is not service:action, each a lower-case letter and then at most %d letters, digits and _", ErrName, s, maxWord-1)
	}
	return nil
}

func isWord(s string) bool {
	if s == "" || len(s) > maxWord || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
