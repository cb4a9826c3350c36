package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return examples(
		"inos completion bash > /etc/bash_completion.d/inos",
		"inos completion zsh > ~/.zfunc/_inos",
		"inos completion fish > ~/.config/fish/completions/inos.fish",
	)
}

func (k *completionCmd) Run(ctx *kong.Context, c *console) error {
	var b strings.Builder
	switch k.Shell {
	case "bash":
		bashCompletion(&b, ctx.Model.Node)
	case "zsh":
		zshCompletion(&b, ctx.Model.Node)
	case "fish":
		fishCompletion(&b, ctx.Model.Node)
	}
	_, err := fmt.Fprint(c.out, b.String())
	return err
}

// completed is one command with what may follow it.
type completed struct {
	path  string // "token create", "" for the program
	verbs []*kong.Node
	flags []*kong.Flag
}

// completions lists all commands, the program first.
func completions(n *kong.Node, path string, inherited []*kong.Flag) []completed {
	c := completed{path: path, flags: slices.Concat(inherited, n.Flags)}
	c.flags = slices.DeleteFunc(c.flags, func(f *kong.Flag) bool { return f.Hidden })
	var below []completed
	for _, child := range n.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			c.verbs = append(c.verbs, child)
			below = append(below, completions(child, strings.TrimSpace(path+" "+child.Name), c.flags)...)
		}
	}
	return append([]completed{c}, below...)
}

// words is what may follow a command.
func (c *completed) words() string {
	words := make([]string, 0, len(c.verbs)+len(c.flags))
	for _, verb := range c.verbs {
		words = append(words, verb.Name)
	}
	for _, flag := range c.flags {
		words = append(words, "--"+flag.Name)
	}
	return strings.Join(words, " ")
}

// bashCompletion finds the longest command on the line and offers its words;
// anything else is a file name.
func bashCompletion(b *strings.Builder, root *kong.Node) {
	b.WriteString("# bash completion for inos\n_inos() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} path= word words\n" +
		"\tfor word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n\t\tcase \"${path:+$path }$word\" in\n")
	all := completions(root, "", nil)
	for _, c := range all[1:] {
		fmt.Fprintf(b, "\t\t%q) path=%q ;;\n", c.path, c.path)
	}
	b.WriteString("\t\tesac\n\tdone\n\tcase $path in\n")
	for _, c := range all {
		fmt.Fprintf(b, "\t%q) words=%q ;;\n", c.path, c.words())
	}
	b.WriteString("\tesac\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _inos inos\n")
}

// zshCompletion does the same with zsh's own functions, and shows the helps.
func zshCompletion(b *strings.Builder, root *kong.Node) {
	b.WriteString("#compdef inos\n# zsh completion for inos\n_inos() {\n\tlocal path= word\n\tlocal -a verbs flags\n" +
		"\tfor word in ${words[2,CURRENT-1]}; do\n\t\tcase \"${path:+$path }$word\" in\n")
	all := completions(root, "", nil)
	for _, c := range all[1:] {
		fmt.Fprintf(b, "\t\t%q) path=%q ;;\n", c.path, c.path)
	}
	b.WriteString("\t\tesac\n\tdone\n\tcase $path in\n")
	for _, c := range all {
		fmt.Fprintf(b, "\t%q)\n\t\tverbs=(", c.path)
		for _, verb := range c.verbs {
			fmt.Fprintf(b, " %s", single(verb.Name+":"+oneLine(verb.Help)))
		}
		b.WriteString(" )\n\t\tflags=(")
		for _, flag := range c.flags {
			fmt.Fprintf(b, " %s", single("--"+flag.Name+":"+oneLine(flag.Help)))
		}
		b.WriteString(" ) ;;\n")
	}
	b.WriteString("\tesac\n\t(( $#verbs )) && _describe command verbs\n\t_describe -o option flags\n\t_files\n}\ncompdef _inos inos\n")
}

// fishCompletion has a line for each verb and flag.
func fishCompletion(b *strings.Builder, root *kong.Node) {
	b.WriteString("# fish completion for inos\n")
	for _, c := range completions(root, "", nil) {
		var seen []string
		for name := range strings.FieldsSeq(c.path) {
			seen = append(seen, "__fish_seen_subcommand_from "+name)
		}
		verbs := make([]string, len(c.verbs))
		for i, verb := range c.verbs {
			verbs[i] = verb.Name
		}
		below := "not __fish_seen_subcommand_from " + strings.Join(verbs, " ")
		for _, verb := range c.verbs {
			when := strings.Join(append(slices.Clone(seen), below), "; and ")
			fmt.Fprintf(b, "complete -c inos -n %s -f -a %s -d %s\n", single(when), verb.Name, single(oneLine(verb.Help)))
		}
		for _, flag := range c.flags {
			takes := " -r"
			if flag.IsBool() {
				takes = ""
			}
			if len(c.verbs) > 0 && c.path != "" {
				continue // no flags between a command and its verb
			}
			when := "__fish_use_subcommand"
			if len(seen) > 0 {
				when = strings.Join(seen, "; and ")
			}
			fmt.Fprintf(b, "complete -c inos -n %s -l %s%s -d %s\n", single(when), flag.Name, takes, single(oneLine(flag.Help)))
		}
	}
}

// single quotes a text for a shell.
func single(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// oneLine is the first sentence of a help, without what zsh takes for a
// separator.
func oneLine(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(first, "."), ":", ","), "\n", " ")
}
