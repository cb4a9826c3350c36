package main

import (
	"context"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	all *mpb.Progress
	bar *mpb.Bar
}

// newProgress shows a bar for total bytes, 0 if it is not known how many, on
// the console's error output.
func newProgress(ctx context.Context, c *console, name string, total int64, quiet bool) *progress {
	if quiet {
		return &progress{}
	}
	all := mpb.NewWithContext(ctx, mpb.WithOutput(c.err), mpb.WithWidth(72))
	before := mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.Counters(decor.SizeB1024(0), "% .1f / % .1f"))
	if total == 0 {
		before = mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.Current(decor.SizeB1024(0), "% .1f"))
	}
	speed := mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"))
	return &progress{all, all.AddBar(total, before, speed, mpb.BarRemoveOnComplete())}
}

// add tells of n more bytes. It may be called by several goroutines.
func (p *progress) add(n int) {
	if p.bar != nil {
		p.bar.IncrBy(n)
	}
}

// end takes the bar away. Nothing may be added any more.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.all.Wait()
	}
}
