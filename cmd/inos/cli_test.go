package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"

	"inos.dev/edge/cas"
	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
)

func testParser(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := newParser(&console{strings.NewReader(""), io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

func eachCommand(n *kong.Node, f func(*kong.Node)) {
	f(n)
	for _, child := range n.Children {
		eachCommand(child, f)
	}
}

// TestKeysMeanOneThing: a key that several commands have is one key.
func TestKeysMeanOneThing(t *testing.T) {
	first := map[string]*kong.Flag{}
	eachCommand(testParser(t).Model.Node, func(n *kong.Node) {
		for _, flag := range n.Flags {
			if len(flag.Envs) == 0 {
				continue
			}
			same := first[flag.Name]
			if same == nil {
				first[flag.Name] = flag
				continue
			}
			if same.Default != flag.Default || same.Help != flag.Help || same.Target.Type() != flag.Target.Type() || same.Envs[0] != flag.Envs[0] {
				t.Errorf("%s --%s: %v, %q, %q; elsewhere %v, %q, %q", n.FullPath(), flag.Name,
					flag.Target.Type(), flag.Default, flag.Help, same.Target.Type(), same.Default, same.Help)
			}
		}
	})
}

// TestEveryVerbHasExamples: and a help.
func TestEveryVerbHasExamples(t *testing.T) {
	eachCommand(testParser(t).Model.Node, func(n *kong.Node) {
		if n.Type != kong.CommandNode {
			return
		}
		if n.Help == "" || n.Leaf() && !strings.Contains(n.Detail, "Examples:") {
			t.Errorf("%s: %q, %q", n.FullPath(), n.Help, n.Detail)
		}
		for _, flag := range n.Flags {
			if flag.Help == "" {
				t.Errorf("%s --%s has no help", n.FullPath(), flag.Name)
			}
		}
	})
}

func TestExitCodes(t *testing.T) {
	_, usage := testParser(t).Parse([]string{"put"})
	wrap := func(err error) error { return fmt.Errorf("a: %w", errors.Join(fmt.Errorf("b: %w", err))) }
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("other"), 1},
		{usage, 2},
		{wrap(errUsage), 2},
		{wrap(cas.ErrBadHash), 2},
		{wrap(credit.ErrAccount), 2},
		{wrap(credit.ErrUnderfunded), 1},
		{wrap(credit.ErrOutOfCredit), 1},
		{wrap(errAudit), 1},
		{wrap(cas.ErrNotFound), 3},
		{wrap(cas.ErrNotObject), 3},
		{wrap(os.ErrNotExist), 3},
		{wrap(cas.ErrHashMismatch), 4},
		{wrap(cas.ErrShape), 4},
		{wrap(cas.ErrCorrupt), 4},
		{wrap(remote.ErrNoRight), 5},
		{wrap(cas.ErrDenied), 5},
		{wrap(cas.ErrNoSpace), 6},
		{wrap(syscall.ENOSPC), 6},
		{wrap(remote.ErrUnavailable), 7},
		{wrap(context.Canceled), 130},
	} {
		if got, _ := exitCode(test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
	for _, row := range exitCodes {
		if row.meaning != "" && !strings.Contains(exitCodeHelp(), row.meaning) {
			t.Errorf("%q is not in the help", row.meaning)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, test := range []struct {
		text     string
		size     int64
		from, to int64
		ok       bool
	}{
		{"", 10, 0, 10, true},
		{"", 0, 0, 0, true},
		{"0-0", 10, 0, 1, true},
		{"2-5", 10, 2, 6, true},
		{"2-", 10, 2, 10, true},
		{"-3", 10, 7, 10, true},
		{"-30", 10, 0, 10, true},
		{"5-100", 10, 5, 10, true},
		{"-0", 10, 0, 0, false},
		{"10-", 10, 0, 0, false},
		{"5-2", 10, 0, 0, false},
		{"-", 10, 0, 0, false},
		{"x-2", 10, 0, 0, false},
		{"5", 10, 0, 0, false},
		{"0-", 0, 0, 0, false},
		{"+1-2", 10, 0, 0, false},
		{"9223372036854775808-", 10, 0, 0, false},
	} {
		from, to, err := parseRange(test.text, test.size)
		if from != test.from || to != test.to || (err == nil) != test.ok {
			t.Errorf("%q of %d: %d, %d, %v", test.text, test.size, from, to, err)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 20: "1.5 GiB", 1 << 62: "4.0 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
