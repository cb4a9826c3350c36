package main

import (
	"context"
	"fmt"
	"path/filepath"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/disk"
)

type verifyCmd struct {
	dataFlag
	Quarantine bool `help:"Move bad files to the data directory's quarantine; the node fetches them again where it can." env:"-"`
	JSON       bool `help:"Print one line of JSON." env:"-"`
	Quiet      bool `short:"q" help:"Print nothing but bad files." env:"-"`
}

func (verifyCmd) Help() string {
	return "The node that uses the directory has to be stopped. The exit code is 4 if a file is bad.\n\n" + examples(
		"inos verify --data /var/lib/inos",
		"inos verify --data data --quarantine --json",
	)
}

// verifyResult is the line of --json.
type verifyResult struct {
	Chunks  int      `json:"chunks"`
	Bytes   int64    `json:"bytes"`
	Bad     int      `json:"bad"`
	Foreign int      `json:"foreign"` // files that are no chunks
	Files   []string `json:"files"`   // the bad ones
}

func (v *verifyCmd) Run(ctx context.Context, c *console) error {
	bar := newProgress(ctx, c, "verify", 0, v.Quiet)
	result := verifyResult{Files: []string{}}
	seen := int64(0)
	st, err := disk.VerifyAll(ctx, v.Data, disk.VerifyConfig{
		Quarantine: v.Quarantine,
		Progress: func(st disk.VerifyStats) {
			bar.add(int(st.Bytes - seen))
			seen = st.Bytes
		},
		Bad: func(f disk.BadFile) {
			result.Files = append(result.Files, filepath.Join(v.Data, f.Path))
			fmt.Fprintf(c.err, "inos: %s: %v\n", filepath.Join(v.Data, f.Path), f.Err)
		},
	})
	bar.end()
	if err != nil {
		return err
	}
	result.Chunks, result.Bytes, result.Bad, result.Foreign = st.Chunks, st.Bytes, st.Bad, st.Foreign
	if err := v.print(c, result); err != nil {
		return err
	}
	if st.Bad > 0 {
		return fmt.Errorf("%w: %d of %d files in %s", cas.ErrCorrupt, st.Bad, st.Chunks, v.Data)
	}
	return nil
}

func (v *verifyCmd) print(c *console, r verifyResult) error {
	switch {
	case v.JSON:
		return printJSON(c.out, r)
	case v.Quiet:
		return nil
	}
	_, err := fmt.Fprintf(c.out, "%d chunks, %s: %d bad\n", r.Chunks, bytesText(r.Bytes), r.Bad)
	return err
}
