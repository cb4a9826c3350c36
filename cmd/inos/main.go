// Command inos is a node of the network and the client of one: inos serve
// runs a node, every other verb talks to one or works on its data directory.
//
// Each verb is a struct with a Run method in a file of its own. cli.go has
// the whole command line, config.go where values come from, exit.go what the
// exit codes mean.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the linker.
var version = "dev"

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, stop, os.Args[1:], &console{os.Stdin, os.Stdout, os.Stderr})
	os.Exit(code)
}

// run carries one command line out and returns its exit code. The first
// signal ends ctx; release lets a second one end the process at once.
func run(ctx context.Context, release func(), args []string, c *console) int {
	stop := context.AfterFunc(ctx, release)
	defer stop()
	parser, err := newParser(c)
	if err != nil {
		return fail(c, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fail(c, err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Canceled // whatever it looked like from below
	}
	return fail(c, err)
}
