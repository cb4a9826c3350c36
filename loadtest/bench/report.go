package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// report is everything that a run measured.
type report struct {
	Machine  machine
	Pairs    int
	Quick    bool
	Reads    []outcome
	Encode   inProcess
	Ingest   []transfer
	Overhead overhead
	Measured time.Time
}

//go:embed benchmarks.md.tmpl
var page string

// publish writes benchmarks.md and benchmarks.svg; a quick run prints the
// former instead, so that nobody takes its figures for results.
func publish(r report, c Config, out io.Writer) error {
	var text strings.Builder
	if err := render(&text, r); err != nil {
		return err
	}
	if c.Quick {
		_, err := io.WriteString(out, text.String())
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Docs, "benchmarks.svg"), plot(r), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Docs, "benchmarks.md"), []byte(text.String()), 0o644)
}

func render(w io.Writer, r report) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"micros":  func(s []sample) string { return spreadText(micros(s), "%.1f") },
		"millis":  func(s []sample) string { return spreadText(micros(s).scaled(1e-3), "%.1f") },
		"rate":    func(s []sample) string { return fmt.Sprintf("%.0f", rates(s).Median) },
		"ratio":   func(s Spread) string { return spreadText(s, "%.3g") },
		"times":   func(s Spread) string { return fmt.Sprintf("%.3g", 1/s.Median) },
		"bar":     barText,
		"mib":     func(n int64) string { return fmt.Sprintf("%d", n/mib) },
		"seconds": func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) },
		"mbps":    func(f float64) string { return fmt.Sprintf("%.0f", f/1e6) },
		"verdict": verdict,
	}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

// Tables are the reads by group, in the order measured.
func (r report) Tables() []Table {
	var all []Table
	for _, o := range r.Reads {
		if n := len(all); n == 0 || all[n-1].Group != o.Group {
			all = append(all, Table{Group: o.Group})
		}
		t := &all[len(all)-1]
		t.Rows = append(t.Rows, o)
	}
	return all
}

// Table is one group of reads.
type Table struct {
	Group string
	Rows  []outcome
}

// Object says whether it is the group of the whole object, whose figures are
// milliseconds.
func (t Table) Object() bool { return t.Group == groupObject }

func spreadText(s Spread, format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
}

func (s Spread) scaled(by float64) Spread { return Spread{s.Median * by, s.Min * by, s.Max * by} }

func barText(o outcome) string {
	if o.Bar == 0 {
		return ""
	}
	return fmt.Sprintf("≤ %.3g: %s", o.Bar, verdict(o.Met()))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**not met**"
}
