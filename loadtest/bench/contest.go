package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
)

// contest is one case: the same bytes asked of both servers.
type contest struct {
	Group string  // the table it stands in
	Name  string  // its row
	Size  int64   // of the content, raw
	Bar   float64 // the most that the ratio may be; 0: none is set

	nginx, inos         load
	nginxProbe, oursURL string // compared before the first pair, with header
	header              string
	otherBytes          bool // both send the same content in different encodings: only the node's answer is looked at
}

// outcome is a contest with what was measured.
type outcome struct {
	contest
	Nginx, Inos []sample
}

// Spread is the median of some figures, and the smallest and the largest.
type Spread struct{ Median, Min, Max float64 }

func spreadOf(figures []float64) Spread {
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	return Spread{(s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]}
}

// Ratio is the node's CPU time per request over nginx', pair by pair.
func (o outcome) Ratio() Spread {
	r := make([]float64, len(o.Inos))
	for i := range r {
		r[i] = o.Inos[i].micros() / o.Nginx[i].micros()
	}
	return spreadOf(r)
}

// Met says whether the bar holds.
func (o outcome) Met() bool { return o.Bar == 0 || o.Ratio().Median <= o.Bar }

func micros(s []sample) Spread { return spreadOf(each(s, sample.micros)) }
func rates(s []sample) Spread  { return spreadOf(each(s, sample.rate)) }

func each(s []sample, f func(sample) float64) []float64 {
	out := make([]float64, len(s))
	for i := range s {
		out[i] = f(s[i])
	}
	return out
}

// fight checks that both servers send the same, warms both up, and measures
// the pairs in swapped order.
func fight(ctx context.Context, c contest, n *nginx, ours *node, pairs int, out io.Writer) (outcome, error) {
	if err := c.check(ctx); err != nil {
		return outcome{}, err
	}
	o := outcome{contest: c}
	for i := range pairs + 1 {
		var theirs, mine sample
		var err error
		measureTheirs := func() error { theirs, err = observe(ctx, n.process, c.nginx); return err }
		measureOurs := func() error { mine, err = observe(ctx, ours.process, c.inos); return err }
		order := []func() error{measureTheirs, measureOurs}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, measure := range order {
			if err := measure(); err != nil {
				return outcome{}, fmt.Errorf("%s, %s: %w", c.Group, c.Name, err)
			}
		}
		if i > 0 { // the first pair warms both up
			o.Nginx, o.Inos = append(o.Nginx, theirs), append(o.Inos, mine)
		}
	}
	r := o.Ratio()
	fmt.Fprintf(out, "%-44s nginx %10.1f µs  inos %10.1f µs  ratio %6.3f (%.3f to %.3f)\n", c.Group+", "+c.Name,
		micros(o.Nginx).Median, micros(o.Inos).Median, r.Median, r.Min, r.Max)
	return o, nil
}

// check compares one answer of both servers.
func (c contest) check(ctx context.Context) error {
	mine, head, err := fetch(ctx, c.oursURL, c.header)
	if err != nil {
		return err
	}
	if coded := head.Get("Content-Encoding") == "br"; coded != (c.header == acceptBrotli) {
		return fmt.Errorf("%s: Content-Encoding is %q for %q", c.oursURL, head.Get("Content-Encoding"), c.header)
	}
	if c.otherBytes {
		return nil
	}
	theirs, _, err := fetch(ctx, c.nginxProbe, c.header)
	if err != nil {
		return err
	}
	if !bytes.Equal(mine, theirs) {
		return fmt.Errorf("%s (%d bytes) and %s (%d bytes) differ", c.oursURL, len(mine), c.nginxProbe, len(theirs))
	}
	return nil
}
