package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// overhead is what heat and credits cost on the reads that they weigh most on:
// chunks of 1 KiB, the node as it comes against the same build with both off.
type overhead struct {
	Off, On []sample
}

// overheadBar is the most that the upper bound may be above 1, and
// overheadPairs the fewest pairs that it is computed from.
const (
	overheadBar   = 0.05
	overheadPairs = 15
)

// measureAccounting starts both nodes on one core and measures them in pairs,
// in swapped order.
func measureAccounting(ctx context.Context, c Config, size sizes, dir string, out io.Writer) (overhead, error) {
	off, err := newContender(ctx, c, size, filepath.Join(dir, "off"), "--no-heat", "--no-credits")
	if err != nil {
		return overhead{}, err
	}
	defer off.stop()
	on, err := newContender(ctx, c, size, filepath.Join(dir, "on"))
	if err != nil {
		return overhead{}, err
	}
	defer on.stop()

	var o overhead
	for i := range max(c.Pairs, overheadPairs) + 1 {
		order := []*contender{off, on}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, n := range order {
			if n.last, err = observe(ctx, n.process, n.load); err != nil {
				return overhead{}, err
			}
		}
		if i > 0 { // the first pair warms both up
			o.Off, o.On = append(o.Off, off.last), append(o.On, on.last)
		}
	}
	fmt.Fprintf(out, "%-44s off   %10.1f µs  on   %10.1f µs  ratio %6.3f, upper bound %.3f\n", "heat and credits, 1 KiB chunks",
		micros(o.Off).Median, micros(o.On).Median, o.Ratio().Median, o.Upper())
	return o, nil
}

// contender is one of the two nodes with the load on it.
type contender struct {
	*node
	load load
	last sample
}

// newContender starts a node over dir, gives it small chunks and makes the
// load that reads them.
func newContender(ctx context.Context, c Config, size sizes, dir string, flags ...string) (*contender, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	n, err := startNode(ctx, c, dir, serverCore, certificate{}, flags...)
	if err != nil {
		return nil, err
	}
	load, err := n.smallChunks(ctx, dir, size)
	if err != nil {
		n.stop()
		return nil, err
	}
	return &contender{node: n, load: load}, nil
}

// smallChunks stores random files of 1 KiB and reads their chunks in turn.
func (n *node) smallChunks(ctx context.Context, dir string, size sizes) (load, error) {
	files := make([]string, size.files)
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprintf("%02d", i))
		if err := writeFile(files[i], func(w io.Writer) error { return random(w, kib) }); err != nil {
			return nil, err
		}
	}
	objects, _, err := n.put(ctx, files...)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(objects))
	for i, o := range objects {
		links, err := n.links(ctx, o.Hash)
		if err != nil {
			return nil, err
		}
		if len(links) != 1 {
			return nil, fmt.Errorf("object %s has %d links, want one", o.Hash, len(links))
		}
		paths[i] = "/chunk/" + links[0].Hash.String()
	}
	script := filepath.Join(dir, "rotation.lua")
	if err := writeRotation(script, paths); err != nil {
		return nil, err
	}
	return wrk(n.plain, script, acceptBrotli, size.period), nil
}

// ratios are the pairs' ratios of CPU time per request, on over off.
func (o overhead) ratios() []float64 {
	r := make([]float64, len(o.On))
	for i := range r {
		r[i] = o.On[i].micros() / o.Off[i].micros()
	}
	return r
}

// Ratio is their median, with the smallest and the largest.
func (o overhead) Ratio() Spread { return spreadOf(o.ratios()) }

// Upper is the upper end of the 95 % interval of the ratio.
func (o overhead) Upper() float64 { return upperBound(o.ratios()) }

// Met says whether the bar holds.
func (o overhead) Met() bool { return o.Upper() <= 1+overheadBar }

// upperBound is the upper end of the 95 % interval of the middle of some
// ratios, by Wilcoxon's signed ranks: their pairwise means (Walsh averages of
// the logarithms) in order, cut off where the normal approximation of the rank
// sum says. On a shared machine single pairs are far off, and a mean would
// follow them.
func upperBound(ratios []float64) float64 {
	n := len(ratios)
	walsh := make([]float64, 0, n*(n+1)/2)
	for i, a := range ratios {
		for _, b := range ratios[i:] {
			walsh = append(walsh, (math.Log(a)+math.Log(b))/2)
		}
	}
	slices.Sort(walsh)
	const z = 1.96
	mean, deviation := float64(n*(n+1))/4, math.Sqrt(float64(n*(n+1)*(2*n+1))/24)
	cut := max(1, int(mean-z*deviation))
	return math.Exp(walsh[len(walsh)-cut])
}
