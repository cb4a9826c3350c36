package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"inos.dev/edge/cas"
	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitCorrupt     = 4
	exitNoRight     = 5
	exitNoRoom      = 6
	exitUnavailable = 7
	exitInterrupted = 130
)

// errUsage: the command line makes no sense.
var errUsage = errors.New("wrong usage")

// exitCodes says for each code what it means, which errors have it, and what a
// user can do about it beyond what the error itself says. The first row that
// fits counts.
var exitCodes = []struct {
	code    int
	meaning string
	errs    []error
	hint    string
}{
	{exitOK, "success", nil, ""},
	{exitFailure, "any other failure", nil, ""},
	{exitFailure, "", []error{credit.ErrUnderfunded, credit.ErrOutOfCredit}, "inos credits balance shows the account; an operator adds to it with inos credits grant"},
	{exitUsage, "the command line or the configuration is wrong", []error{errUsage, cas.ErrBadHash, credit.ErrAccount, auth.ErrRules}, ""},
	{exitInterrupted, "interrupted; the same command takes up what was done", []error{context.Canceled}, ""},
	{exitCorrupt, "bytes are not what their hash says", []error{cas.ErrHashMismatch, cas.ErrShape, cas.ErrCorrupt, cas.ErrNotCanonical}, "nothing of it was kept; try another node"},
	{exitNoRight, "the node wants a token, or denies the hash", []error{remote.ErrNoRight}, "name a token that may with --token-file or INOS_TOKEN"},
	{exitNoRight, "", []error{cas.ErrDenied}, ""},
	{exitNoRoom, "no room, at the node or on this disk", []error{cas.ErrNoSpace, syscall.ENOSPC, syscall.EDQUOT}, ""},
	{exitUnavailable, "the node cannot be reached, or is too busy", []error{remote.ErrUnavailable}, "see that the node runs, and what --node or INOS_NODE names"},
	{exitNotFound, "there is no such chunk, object, path or file", []error{cas.ErrNotFound, cas.ErrNotObject, fs.ErrNotExist}, ""},
}

// exitCode returns the code of an error and a hint for people, if there is one.
func exitCode(err error) (code int, hint string) {
	if err == nil {
		return exitOK, ""
	}
	if _, ok := errors.AsType[*kong.ParseError](err); ok {
		return exitUsage, "inos --help tells more"
	}
	for _, row := range exitCodes {
		for _, is := range row.errs {
			if errors.Is(err, is) {
				return row.code, row.hint
			}
		}
	}
	return exitFailure, ""
}

// fail tells of an error in one line and returns its code.
func fail(c *console, err error) int {
	code, hint := exitCode(err)
	switch code {
	case exitOK:
	case exitInterrupted:
		fmt.Fprintln(c.err, "inos: interrupted")
	default:
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		if hint != "" {
			text += " (" + hint + ")"
		}
		fmt.Fprintln(c.err, "inos:", text)
	}
	return code
}

// exitCodeHelp is the table for the help.
func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for code := exitOK; code <= exitInterrupted; code++ {
		for _, row := range exitCodes {
			if row.code == code && row.meaning != "" {
				fmt.Fprintf(&b, "  %-4d %s\n", code, row.meaning)
			}
		}
	}
	return b.String()
}
