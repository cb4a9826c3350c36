package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// cli is the whole command line. A flag that may also come from the
// environment or the config file has one name and one meaning in all
// commands; one that belongs to a single call has env:"-".
type cli struct {
	Config string `help:"Config file (TOML). Default: inos/config.toml in $XDG_CONFIG_HOME, or in ~/.config." type:"path" placeholder:"FILE"`

	Serve serveCmd `cmd:"" help:"Run a node." group:"node"`

	Put    putCmd    `cmd:"" help:"Put files, folders or standard input into a node." group:"content"`
	Get    getCmd    `cmd:"" help:"Get a file or folder from a node, verified." group:"content"`
	Cat    catCmd    `cmd:"" help:"Write files to standard output, verified." group:"content"`
	Ls     lsCmd     `cmd:"" help:"List the objects of a node, or the entries of a folder." group:"content"`
	Stat   statCmd   `cmd:"" help:"Tell what an object is made of." group:"content"`
	Rm     rmCmd     `cmd:"" help:"Take objects off a node's list." group:"content"`
	Verify verifyCmd `cmd:"" help:"Hash every chunk of a data directory again." group:"node"`
	Gc     gcCmd     `cmd:"" help:"Remove chunks that no object names." group:"node"`
	Token  tokenCmd  `cmd:"" help:"Make and inspect tokens." group:"node"`

	Credits creditsCmd `cmd:"" help:"Show and move credits, and check the books." group:"credits"`
	Heat    heatCmd    `cmd:"" help:"Show which chunks are hot, and what follows." group:"credits"`
	Events  eventsCmd  `cmd:"" help:"Follow and publish events." group:"credits"`

	Settings   configCmd     `cmd:"" name:"config" help:"Print the configuration." group:"program"`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell." group:"program"`
	Version    versionCmd    `cmd:"" help:"Print the version." group:"program"`
}

const description = `A content-addressed edge node, and its client.

Files become verified chunks that a hash names; folders are objects, too. A
value that is not given as a flag comes from the environment (INOS_NODE for
--node), then from the config file, then it has its default.`

// newParser returns the parser of the whole command line.
func newParser(c *console, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(&cli{}, append([]kong.Option{
		kong.Name("inos"),
		kong.Description(description),
		kong.DefaultEnvars("INOS"),
		kong.Vars{"exit_codes": exitCodeHelp()},
		kong.Writers(c.out, c.err),
		kong.Bind(c),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Help(helpPrinter),
		kong.ExplicitGroups([]kong.Group{
			{Key: "content", Title: "Content:"},
			{Key: "node", Title: "Nodes and their data:"},
			{Key: "credits", Title: "Credits, heat and events:"},
			{Key: "program", Title: "This program:"},
		}),
	}, more...)...)
}

// helpPrinter adds the exit codes to the help of the whole program.
func helpPrinter(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	_, err := strings.NewReader("\n" + exitCodeHelp()).WriteTo(ctx.Stdout)
	return err
}

// examples is the help of a verb below its flags: what to type.
func examples(lines ...string) string {
	return "Examples:\n\n  " + strings.Join(lines, "\n  ")
}
