package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	const good = "Running 2s test\n  41320 requests in 2.00s, 1.2GB read\nRequests/sec:  20650.1\n"
	n, err := parseWrk(good)
	if n != 41320 || err != nil {
		t.Errorf("parseWrk = %d, %v", n, err)
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"socket errors": good + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
		"wrong status":  good + "  Non-2xx or 3xx responses: 7\n",
	} {
		if _, err := parseWrk(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		figures []float64
		want    Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{5, 1}, Spread{3, 1, 5}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
	} {
		if got := spreadOf(c.figures); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.figures, got, c.want)
		}
	}
}

func TestExchange(t *testing.T) {
	for round := range uint64(3) {
		text, binary := []byte("Package main; func(x)"), []byte{0, 0, 1, 255, 7}
		letters(round).apply(text)
		bytesButZero(round).apply(binary)
		same := string(text) == "Package main; func(x)" && bytes.Equal(binary, []byte{0, 0, 1, 255, 7})
		if same != (round == 0) {
			t.Errorf("round %d: %q, %v", round, text, binary)
		}
		if text[0] != 'P' || text[7] != ' ' || binary[0] != 0 {
			t.Errorf("round %d exchanged more than it should: %q, %v", round, text, binary)
		}
	}
}

func TestCorpusIsExactlyAsLongAsAsked(t *testing.T) {
	goroot := t.TempDir()
	for _, file := range []string{"src/a.go", "bin/go", "pkg/tool/asm"} {
		name := filepath.Join(goroot, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Repeat(file, 300)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := corpus{goroot}
	for _, n := range []int64{1, 512, 40_000} {
		for name, write := range map[string]func(io.Writer, int64) error{"source": c.source, "binaries": c.binaries, "random": random} {
			var out bytes.Buffer
			if err := write(&out, n); err != nil || int64(out.Len()) != n {
				t.Errorf("%s of %d bytes: %d, %v", name, n, out.Len(), err)
			}
		}
	}
	mixed := filepath.Join(t.TempDir(), "mix")
	if err := c.mix(t.Context(), mixed, 20<<20); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(mixed); err != nil || info.Size() != 20<<20 {
		t.Errorf("mix: %v, %v", info, err)
	}
}

func TestLimitWriter(t *testing.T) {
	var out bytes.Buffer
	w := &limitWriter{&out, 5}
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	if n, err := w.Write([]byte("defg")); n != 2 || !errors.Is(err, errFull) {
		t.Errorf("Write = %d, %v", n, err)
	}
	if out.String() != "abcde" {
		t.Errorf("wrote %q", out.String())
	}
}

// example is a report with a bar that holds and one that does not.
func example() report {
	read := func(group, name string, size int64, limit float64, theirs, mine time.Duration) outcome {
		return outcome{
			contest: contest{Group: group, Name: name, Size: size, Bar: limit},
			Nginx:   []sample{{theirs, 100, time.Second}, {2 * theirs, 100, time.Second}},
			Inos:    []sample{{mine, 100, time.Second}, {mine, 100, time.Second}},
		}
	}
	return report{
		Pairs: 2, Measured: time.Unix(0, 0).UTC(),
		Reads: []outcome{
			read(groupBrotli, "1 KiB", kib, 2, time.Millisecond, 2*time.Millisecond),
			read(groupBrotli, "1 MiB", mib, 1.6, time.Millisecond, 5*time.Millisecond),
			read(groupObject, "8 MiB against the filter", 8*mib, 0.01, time.Second, time.Millisecond),
		},
		Overhead: overhead{
			Off: []sample{{time.Millisecond, 100, time.Second}, {time.Millisecond, 100, time.Second}},
			On:  []sample{{2 * time.Millisecond, 100, time.Second}, {2 * time.Millisecond, 100, time.Second}},
		},
		Encode: inProcess{Bytes: mib, CPU: time.Second},
		Ingest: []transfer{{What: "POST /object", Bytes: mib, Files: 1, Wall: time.Second, Bars: []bar{{"fast", false}}}},
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	if err := publish(example(), Config{Docs: dir}, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1 KiB | 15.0 (10.0–20.0) | 20.0 (20.0–20.0) | 1.5 (1–2) | ≤ 2: met | 100 | 100 |",
		"| 1 MiB | 15.0 (10.0–20.0) | 50.0 (50.0–50.0) | 3.75 (2.5–5) | ≤ 1.6: **not met** | 100 | 100 |",
		"≤ 0.01: met",
		"| 10.0 (10.0–10.0) | 20.0 (20.0–20.0) | 2 (2–2) | 2.000 | ≤ 1.05: **not met** |",
		"fast: **not met**",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	svg, err := os.ReadFile(filepath.Join(dir, "benchmarks.svg"))
	if err != nil {
		t.Fatal(err)
	}
	circles := 0
	for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 2 {
		t.Errorf("%d dots for two chunk cases", circles)
	}
}

func TestQuickRunWritesNothing(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	if err := publish(example(), Config{Docs: dir, Quick: true}, &out); err != nil || out.Len() == 0 {
		t.Errorf("printed %d bytes, %v", out.Len(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestProcess holds the harness to its word about CPU time, memory, and
// stopping what it started.
func TestProcess(t *testing.T) {
	p, err := start(t.Context(), "busy", loadCore, nil, "sh", "-c", "while :; do :; done")
	if err != nil {
		t.Fatal(err)
	}
	var used time.Duration
	for used < 50*time.Millisecond {
		if used, err = p.cpu(); err != nil {
			t.Fatal(err)
		}
	}
	if peak, err := peakRSS(p.cmd.Process.Pid); err != nil || peak < 100*kib {
		t.Errorf("peak %d, %v", peak, err)
	}
	p.stop()
	if _, err := p.cpu(); err == nil {
		t.Error("it runs on")
	}
}

func TestReadyTellsWhyAServerEnded(t *testing.T) {
	p, err := start(t.Context(), "broken", allCores, nil, "sh", "-c", "echo no such thing; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	address, err := freeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context(), "http://"+address); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("ready: %v", err)
	}
}

func TestUpperBound(t *testing.T) {
	same := slices.Repeat([]float64{1.02}, 15)
	if got := upperBound(same); math.Abs(got-1.02) > 1e-9 {
		t.Errorf("equal ratios: %v", got)
	}
	// One pair of fifteen that is far off moves the bound no further than to the
	// others' ratio.
	if got := upperBound(append(same[:14:14], 9)); math.Abs(got-1.02) > 1e-9 {
		t.Errorf("one pair that is far off: %v", got)
	}
	// e^1 … e^15: the 25th largest of the 120 pairwise means, as the tables for
	// 15 pairs have it, is e^11.
	var rising []float64
	for i := range 15 {
		rising = append(rising, math.Exp(float64(i+1)))
	}
	if got := math.Log(upperBound(rising)); math.Abs(got-11) > 1e-9 {
		t.Errorf("1 to 15: %v, want 11", got)
	}
}
