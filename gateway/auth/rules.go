package auth

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ErrRules says: a text is not a set of rules.
var ErrRules = errors.New("not a set of rules")

// DefaultRules is what holds without a file of rules. Rules are tried from the
// top; the first that fits decides, and what fits none is denied. All that a
// rule names must be so:
//
//	name      what the audit calls it. Needed
//	actions   read, write, pledge, publish, admin. Needed
//	effect    allow, which it is without one, or deny
//	rights    all these rights are in the token: read, write, admin
//	subjects  the token's subject is one of these
//	issuers   what vouches for the caller is one of these: own (the node's key),
//	          trusted (a further issuer), dev (--dev), none (nobody: no token)
//	networks  the client's address is in one of these, such as 10.0.0.0/8
//	doors     the request came in by one of these: http, connect, admin (the
//	          admin listener), proxy (the proxy's socket, beside one of the others)
//	objects   whose the object is: own, others, none (no particular one). Without
//	          it, a rule that allows is about own and none, one that denies about
//	          all. For write alone
//
// No rule gives what the token has not: one that allows more than read names
// the right: write for write, pledge and publish, admin for admin. A client
// whose address is not known is in the networks of a rule that denies, and in
// none of a rule that allows.
//
// A node that is not for everybody allows read with rights = ["read"] alone,
// and perhaps metrics to everybody: actions = ["read"], doors = ["admin"].
const DefaultRules = `
[[rule]]
name = "everybody reads"
actions = ["read"]

[[rule]]
name = "writers"
actions = ["write", "pledge", "publish"]
rights = ["write"]

[[rule]]
name = "administrators change what is others'"
actions = ["write"]
rights = ["write", "admin"]
objects = ["others"]

[[rule]]
name = "administrators"
actions = ["admin"]
rights = ["admin"]
`

// Limits of a set of rules.
const (
	maxRulesText = 1 << 20
	maxRules     = 256
	maxEntries   = 4096 // subjects or networks of one rule
	maxRuleName  = 64
)

// rulesText is the form of a file of rules.
type rulesText struct {
	Rules []ruleText `toml:"rule"`
}

type ruleText struct {
	Name     string   `toml:"name"`
	Actions  []string `toml:"actions"`
	Effect   string   `toml:"effect"`
	Rights   []string `toml:"rights"`
	Subjects []string `toml:"subjects"`
	Issuers  []string `toml:"issuers"`
	Networks []string `toml:"networks"`
	Doors    []string `toml:"doors"`
	Objects  []string `toml:"objects"`
}

// ParseRules reads rules as DefaultRules says: ErrRules.
func ParseRules(text []byte) (*Rules, error) {
	if len(text) > maxRulesText {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrRules, maxRulesText)
	}
	var in rulesText
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRules, tomlError(err))
	}
	if len(in.Rules) == 0 || len(in.Rules) > maxRules {
		return nil, fmt.Errorf("%w: there are %d [[rule]] tables, 1 to %d are possible", ErrRules, len(in.Rules), maxRules)
	}
	r := &Rules{}
	names := make(map[string]bool)
	for i := range in.Rules {
		if err := r.add(&in.Rules[i]); err != nil {
			return nil, fmt.Errorf("%w: rule %d (%.64q): %w", ErrRules, i+1, in.Rules[i].Name, err)
		}
		if name := in.Rules[i].Name; names[name] {
			return nil, fmt.Errorf("%w: rule %d: %q is the name of another one", ErrRules, i+1, name)
		}
		names[in.Rules[i].Name] = true
	}
	return r, nil
}

// tomlError says where the fault is.
func tomlError(err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("line %d: %s is no key of a rule", row, strings.Join(strict.Errors[0].Key(), "."))
	}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := at.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}

// add compiles one rule into the rows of the table that it can fit.
func (r *Rules) add(in *ruleText) error {
	c, doors, actions, err := compile(in)
	if err != nil {
		return err
	}
	for _, a := range actions {
		for d := range Door(1 << numDoors) {
			if doors == 0 || doors&d != 0 {
				r.table[a][d] = append(r.table[a][d], c)
			}
		}
	}
	return nil
}

func compile(in *ruleText) (c compiled, doors Door, actions []Action, err error) {
	allow := in.Effect == "" || in.Effect == "allow"
	switch {
	case !allow && in.Effect != "deny":
		return c, 0, nil, fmt.Errorf("effect is %.20q, it may be allow or deny", in.Effect)
	case !printable(in.Name, maxRuleName):
		return c, 0, nil, fmt.Errorf("a name has 1 to %d bytes of printable text", maxRuleName)
	case len(in.Actions) == 0:
		return c, 0, nil, errors.New("actions are needed")
	}
	c.decision = Decision{Allow: allow, Rule: in.Name}
	if c.rights, err = rightsOf(in.Rights); err != nil {
		return c, 0, nil, err
	}
	for _, name := range in.Actions {
		a, err := parseAction(name)
		switch {
		case err != nil:
			return c, 0, nil, err
		case allow && !c.rights.Has(a.Right()):
			return c, 0, nil, fmt.Errorf("it allows %s without the right: add %q to rights", a, a.Right())
		case len(in.Objects) > 0 && a != ActionWrite:
			return c, 0, nil, fmt.Errorf("objects are for write alone, not for %s", a)
		}
		actions = append(actions, a)
	}
	if err := c.conditions(in, allow); err != nil {
		return c, 0, nil, err
	}
	set, err := setOf("door", in.Doors, doorNames[:])
	c.unconditional = c.rights == None && c.issuers == 0 && c.subjects == nil && c.networks == nil && c.objects == 1<<numObjects-1
	return c, Door(set), slices.Compact(slices.Sorted(slices.Values(actions))), err
}

// conditions compiles what is not an action, a right or a door.
func (c *compiled) conditions(in *ruleText, allow bool) (err error) {
	if c.issuers, err = setOf("issuer", in.Issuers, issuerNames[:]); err != nil {
		return err
	}
	if c.objects, err = setOf("object", in.Objects, objectNames[:]); err != nil {
		return err
	}
	switch {
	case c.objects != 0:
	case allow && slices.Contains(in.Actions, ActionWrite.String()):
		c.objects = 1<<ObjectNone | 1<<ObjectOwn
	default:
		c.objects = 1<<numObjects - 1
	}
	if len(in.Subjects) > maxEntries || len(in.Networks) > maxEntries {
		return fmt.Errorf("more than %d subjects or networks", maxEntries)
	}
	for _, s := range in.Subjects {
		if err := checkSubject(s); err != nil {
			return err
		}
		if c.subjects == nil {
			c.subjects = make(map[string]struct{}, len(in.Subjects))
		}
		c.subjects[s] = struct{}{}
	}
	for _, s := range in.Networks {
		n, err := netip.ParsePrefix(s)
		if err != nil || n != n.Masked() || n.Addr().Is4In6() {
			return fmt.Errorf("%.60q is no network, such as 10.0.0.0/8 or 2001:db8::/32", s)
		}
		c.networks = append(c.networks, n)
	}
	c.hidden = !allow
	return nil
}

// setOf reads a list of names as a set of bits.
func setOf(what string, list, names []string) (set uint8, err error) {
	for _, s := range list {
		i := slices.Index(names, s)
		if i < 0 {
			return 0, fmt.Errorf("%.20q is no %s; have %s", s, what, strings.Join(names, ", "))
		}
		set |= 1 << i
	}
	return set, nil
}
