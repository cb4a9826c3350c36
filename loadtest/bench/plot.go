package main

import (
	"bytes"
	"fmt"
	"math"
)

// The plot's measures, in pixels.
const (
	plotTop    = 56.0
	plotHeight = 300.0
	plotLeft   = 48.0
	slot       = 34.0 // per case
	groupGap   = 34.0
)

// plot draws the ratio of every chunk case as a dot with its smallest and
// largest pair, its bar as a dash, and nginx as the line at 1.
func plot(r report) []byte {
	var tables []Table
	cases, top := 0, 2.0
	for _, t := range r.Tables() {
		if t.Object() {
			continue
		}
		tables = append(tables, t)
		cases += len(t.Rows)
		for _, o := range t.Rows {
			top = max(top, o.Ratio().Max, o.Bar)
		}
	}
	p := canvas{top: math.Ceil(top*2) / 2}
	p.width = plotLeft + float64(cases)*slot + float64(len(tables))*groupGap
	p.open()
	x := plotLeft + groupGap/2
	for _, t := range tables {
		p.text(x+float64(len(t.Rows))*slot/2, plotTop-12, "middle", 12, t.Group)
		for _, o := range t.Rows {
			p.outcome(x+slot/2, o)
			x += slot
		}
		x += groupGap
	}
	p.printf("</svg>\n")
	return p.Bytes()
}

// canvas is an SVG that grows.
type canvas struct {
	bytes.Buffer
	width, top float64
}

func (p *canvas) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// y is where a ratio lies.
func (p *canvas) y(ratio float64) float64 { return plotTop + plotHeight*(1-ratio/p.top) }

// open draws the frame: title, grid, and the line of nginx.
func (p *canvas) open() {
	height := plotTop + plotHeight + 60
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" fill="#222">`+"\n", p.width, height)
	p.printf(`<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", p.width, height)
	p.text(plotLeft, 20, "start", 14, "CPU time per request, inos ÷ nginx (median; line: smallest to largest pair; dash: bar)")
	for ratio := 0.0; ratio <= p.top; ratio += 0.5 {
		colour := "#ddd"
		if ratio == 1 {
			colour = "#555"
		}
		p.printf(`<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, p.width, p.y(ratio), p.y(ratio), colour)
		p.text(plotLeft-6, p.y(ratio)+4, "end", 11, fmt.Sprintf("%.1f", ratio))
	}
}

// outcome draws one case.
func (p *canvas) outcome(x float64, o outcome) {
	r := o.Ratio()
	colour := "#1b6ac9"
	if !o.Met() {
		colour = "#c9421b"
	}
	p.printf(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>`+"\n", x, x, p.y(r.Min), p.y(r.Max), colour)
	p.printf(`<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s"><title>%s, %s: %.3g</title></circle>`+"\n", x, p.y(r.Median), colour, o.Group, o.Name, r.Median)
	if o.Bar > 0 {
		p.printf(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#c9421b" stroke-dasharray="3 2"/>`+"\n", x-12, x+12, p.y(o.Bar), p.y(o.Bar))
	}
	y := plotTop + plotHeight + 14
	p.printf(`<text x="%.1f" y="%.1f" font-size="10" text-anchor="end" transform="rotate(-45 %.1f %.1f)">%s</text>`+"\n", x+4, y, x+4, y, o.Name)
}

func (p *canvas) text(x, y float64, anchor string, size int, s string) {
	p.printf(`<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s">%s</text>`+"\n", x, y, size, anchor, s)
}
