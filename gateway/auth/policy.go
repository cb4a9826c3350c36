package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Door is the set of doors that a request came through: the protocol, and the
// proxy's listener if it was that.
type Door uint8

// The doors.
const (
	DoorHTTP    Door = 1 << iota // plain HTTP: /chunk, /object, /upload, the home page
	DoorConnect                  // the Connect services
	DoorAdmin                    // the admin listener
	DoorProxy                    // the listener that only the proxy can reach, beside one of the others

	numDoors = iota
)

var doorNames = [numDoors]string{"http", "connect", "admin", "proxy"}

// String lists the doors with + between them.
func (d Door) String() string {
	var names []string
	for i, name := range doorNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// Object says whose object a request is about.
type Object uint8

// The relations between a caller and an object.
const (
	ObjectNone   Object = iota // no particular one, or a new one
	ObjectOwn                  // the caller published it
	ObjectOthers               // others did, and the caller did not

	numObjects = iota
)

var objectNames = [numObjects]string{"none", "own", "others"}

// Issuer is the kind of key that signed a token.
type Issuer uint8

// The kinds of issuers.
const (
	IssuerNone    Issuer = iota // no token: anybody
	IssuerOwn                   // the node's own key
	IssuerTrusted               // a further issuer
	IssuerDev                   // no token either: --dev believes a request from this machine

	numIssuers = iota
)

var issuerNames = [numIssuers]string{"none", "own", "trusted", "dev"}

// Request is what a caller wants to do, as far as it is verified.
type Request struct {
	Action   Action
	Doors    Door
	Object   Object
	Identity Identity
	Client   netip.Addr // zero: unknown
	Resource string     // path or procedure: for the record, no rule looks at it
}

// Decision is what the rules say to a Request.
type Decision struct {
	Allow bool
	Rule  string // that decided; empty: none did, which is a denial
	Why   string // of a denial
}

// Rules decide about requests: the first rule that fits, and if none does, the
// request is denied. They are compiled and never change; their methods may be
// called at the same time.
type Rules struct {
	// table has the rules that can fit, by action and doors, so that the
	// decision about most requests is the first row.
	table [numActions][1 << numDoors][]compiled
}

// compiled is a rule as it is evaluated. What is empty fits everything.
type compiled struct {
	decision      Decision
	unconditional bool
	rights        Rights
	issuers       uint8 // set by 1 << Issuer
	objects       uint8 // set by 1 << Object
	subjects      map[string]struct{}
	networks      []netip.Prefix
	hidden        bool // whether a client without an address is in the networks
}

// denied is what a request gets that no rule fits.
var denied = Decision{Why: "no rule allows it"}

// expired is what a token gets whose time is over.
var expired = Decision{Why: "the token expired"}

// Decide says what the rules say to a request at now. It does not allocate.
func (r *Rules) Decide(req *Request, now time.Time) Decision {
	if req.Action >= numActions || req.Doors >= 1<<numDoors || req.Object >= numObjects {
		return denied
	}
	if id := &req.Identity; id.Subject != "" && !id.Expires.IsZero() && !now.Before(id.Expires) {
		return expired
	}
	rules := r.table[req.Action][req.Doors]
	for i := range rules {
		if c := &rules[i]; c.unconditional || c.fits(req) {
			return c.decision
		}
	}
	return denied
}

// Open reports whether everybody may do an action who comes in by some doors:
// then there is no need to know more of a request.
func (r *Rules) Open(action Action, doors Door) bool {
	if action >= numActions || doors >= 1<<numDoors {
		return false
	}
	rules := r.table[action][doors]
	return len(rules) > 0 && rules[0].unconditional && rules[0].decision.Allow
}

func (c *compiled) fits(req *Request) bool {
	id := &req.Identity
	if c.rights != None && (id.Anonymous() || !id.Rights.Has(c.rights)) ||
		c.issuers != 0 && c.issuers&(1<<id.issuer()) == 0 ||
		c.objects&(1<<req.Object) == 0 {
		return false
	}
	if c.subjects != nil {
		if _, named := c.subjects[id.Subject]; !named || id.Anonymous() {
			return false
		}
	}
	return c.networks == nil || c.inNetwork(req.Client)
}

func (c *compiled) inNetwork(client netip.Addr) bool {
	if !client.IsValid() {
		return c.hidden
	}
	for _, n := range c.networks {
		if n.Contains(client) {
			return true
		}
	}
	return false
}

// Err is nil for what is allowed; otherwise ErrUnauthenticated for anybody,
// whom a token might help, and for whom a new one might, and ErrForbidden for
// somebody.
func (d Decision) Err(req *Request) error {
	if d.Allow {
		return nil
	}
	why := d.Why
	if d.Rule != "" {
		why = fmt.Sprintf("rule %q denies it", d.Rule)
	}
	id := &req.Identity
	right := req.Action.Right()
	switch {
	case d == expired:
		return fmt.Errorf("%w: it expired, ask for a new one", ErrUnauthenticated)
	case id.Anonymous() && right != None:
		return fmt.Errorf("%w: send one with the right to %s as Authorization: Bearer", ErrUnauthenticated, right)
	case id.Anonymous():
		return fmt.Errorf("%w: this node does not let everybody %s; send one as Authorization: Bearer", ErrUnauthenticated, req.Action)
	case req.Object == ObjectOthers:
		return fmt.Errorf("%w: the object belongs to somebody else", ErrForbidden)
	case !id.Rights.Has(right):
		return fmt.Errorf("%w: %q may %s, and this needs %s", ErrForbidden, id.Subject, id.Rights, right)
	}
	return fmt.Errorf("%w: %q may not %s here: %s", ErrForbidden, id.Subject, req.Action, why)
}
