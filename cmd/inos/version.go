package main

import (
	"fmt"
	"runtime"
)

type versionCmd struct {
	JSON bool `help:"Print JSON." env:"-"`
}

func (versionCmd) Help() string { return examples("inos version", "inos version --json") }

func (v versionCmd) Run(c *console) error {
	if v.JSON {
		return printJSON(c.out, map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	_, err := fmt.Fprintf(c.out, "inos %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
