package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The scripts in testdata/*.txt say what a client sees of a node: requests and
// the answers to them, against the binary that users run. A script is read
// from the top; words start in the first column:
//
//	# …                          a comment
//	over h1 h2c                  the protocols it is played over; both, if it does not say
//	node NAME FLAG…              starts a node; $NAME.url, $NAME.token, $NAME.dir, $NAME.host
//	content NAME KIND ARG…       makes bytes, see content_test.go; | lines follow; $NAME.hash, .size, .sha256
//	token NAME NODE RIGHTS       issues a token; $NAME
//	file PATH                    writes | lines to a file
//	metric NODE SERIES VALUE     compares a sum of metrics, once it holds
//	mark NODE, unchanged NODE    remembers, compares, how many chunks the store has
//	stop NODE                    asks a node to end, and waits
//
//	> METHOD [NODE]/path         a request; lines with headers, and `body CONTENT [chunked]` follow
//	< STATUS [soon]              its answer; soon: asked again until it is so. Lines follow:
//	Name: pattern                a header; * stands for anything, {name} for anything and keeps it as $name
//	! Name                       the header is not there
//	= CONTENT, br= CONTENT       the body, or what it decodes to
//	~ text, !~ text              the body has, has not, the text
//	json a.0.b pattern           a value of a JSON body
//	empty                        no body
//	< broken                     the answer breaks off, before its head or in its body
//
// Text after $ is replaced: $name, $name.part. The first node is the one that
// a path without a name goes to; NODE.proxy is its socket.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		steps, protocols, err := parseScript(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, protocol := range protocols {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt")+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				play(t, path, steps, protocol)
			})
		}
	}
}

// step is a word of a script with the lines that belong to it.
type step struct {
	line  int
	words []string
	rest  string   // what follows the first word
	lines []string // | lines, headers, checks
}

func parseScript(text string) (steps []step, protocols []string, err error) {
	protocols = []string{"h1", "h2c"}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		first, rest, _ := strings.Cut(line, " ")
		switch first {
		case "", "#":
		case "over":
			protocols = strings.Fields(rest)
		case "node", "content", "token", "file", "metric", "mark", "unchanged", "stop", ">", "<":
			steps = append(steps, step{line: number, words: strings.Fields(line), rest: strings.TrimSpace(rest)})
		default:
			if len(steps) == 0 {
				return nil, nil, fmt.Errorf("line %d: what is %q?", number, line)
			}
			last := &steps[len(steps)-1]
			last.lines = append(last.lines, line)
		}
	}
	return steps, protocols, nil
}

// player plays one script over one protocol.
type player struct {
	t        *testing.T
	path     string
	protocol string
	dir      string
	vars     map[string]string
	contents map[string][]byte
	nodes    map[string]*process
	first    string // name of the first node
	marks    map[string]float64
	clients  *clients
	pending  *exchanged
}

func play(t *testing.T, path string, steps []step, protocol string) {
	t.Helper()
	p := &player{
		t: t, path: path, protocol: protocol, dir: t.TempDir(), clients: newClients(t),
		vars: map[string]string{}, contents: map[string][]byte{}, nodes: map[string]*process{}, marks: map[string]float64{},
	}
	p.vars["dir"] = p.dir
	for _, s := range steps {
		if err := p.step(s); err != nil {
			t.Fatalf("%s:%d: %s: %v", path, s.line, strings.Join(s.words, " "), err)
		}
	}
}

func (p *player) step(s step) error {
	word, name := s.words[0], ""
	if len(s.words) > 1 {
		name = s.words[1]
	}
	switch word {
	case "node":
		return p.node(name, strings.Fields(p.expand(strings.TrimPrefix(s.rest, name))))
	case "content":
		b, err := p.makeContent(name, s.words[2:], barred(s.lines))
		p.keep(name, b)
		return err
	case "token":
		return p.token(name, p.nodes[s.words[2]], s.words[3])
	case "file":
		return os.WriteFile(p.expand(name), []byte(p.expand(strings.Join(barred(s.lines), "\n")+"\n")), 0o600)
	case "metric":
		return p.metric(p.nodes[name], p.expand(s.words[2]), p.expand(s.words[3]))
	case "mark":
		p.marks[name] = p.nodes[name].metric(p.t, "inos_store_chunks")
	case "unchanged":
		if now := p.nodes[name].metric(p.t, "inos_store_chunks"); now != p.marks[name] {
			return fmt.Errorf("the store had %v chunks and has %v", p.marks[name], now)
		}
	case "stop":
		p.nodes[name].stop(p.t)
	case ">":
		return p.request(s)
	case "<":
		return p.response(s)
	}
	return nil
}

func (p *player) node(name string, flags []string) error {
	dir := filepath.Join(p.dir, name)
	n := start(p.t, dir, nil, flags...)
	p.nodes[name] = n
	if p.first == "" {
		p.first = name
	}
	p.vars[name+".url"], p.vars[name+".token"], p.vars[name+".dir"] = n.url, n.token, dir
	p.vars[name+".host"] = strings.TrimPrefix(n.url, "http://")
	return nil
}

// metric waits for a value: a node counts an answer when it is through with it,
// which may be after the client is.
func (p *player) metric(n *process, series, want string) error {
	eventually(p.t, series+" "+want, func() bool { return fmt.Sprint(n.metric(p.t, series)) == want })
	return nil
}

// barred takes the bars off | lines.
func barred(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimPrefix(strings.TrimPrefix(l, "|"), " ")
	}
	return out
}

var variable = regexp.MustCompile(`\$[a-z][a-z0-9]*(\.[a-z0-9]+)?`)

func (p *player) expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(name string) string {
		if v, ok := p.vars[name[1:]]; ok {
			return v
		}
		base, part, found := strings.Cut(name[1:], ".") // "$x.html" may be $x with a suffix
		if v, ok := p.vars[base]; ok && found {
			return v + "." + part
		}
		p.t.Fatalf("%s: nothing is called %s", p.path, name)
		return ""
	})
}
