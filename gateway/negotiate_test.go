package gateway

import (
	"strings"
	"testing"
)

func TestEncodingForm(t *testing.T) {
	const absent = "(absent)"
	for header, want := range map[string]form{
		absent:                            formIdentity,
		"":                                formIdentity,
		" ":                               formIdentity,
		",,":                              formIdentity,
		"br":                              formBrotli,
		"BR":                              formBrotli,
		"gzip, deflate, br, zstd":         formBrotli,
		"br;q=1.000":                      formBrotli,
		"br;q=0.001":                      formBrotli,
		"br ; q=0.001":                    formBrotli,
		"br;Q=0.5":                        formBrotli,
		"br;q=0":                          formIdentity,
		"br;q=0.000":                      formIdentity,
		"br;q=2":                          formIdentity,
		"br;q=-1":                         formIdentity,
		"br;q=abc":                        formIdentity,
		"br;q=":                           formIdentity,
		"br;q=0.0001":                     formIdentity,
		"br;q=1.001":                      formIdentity,
		"br;level=5":                      formBrotli,
		"br;level=5;q=0":                  formIdentity,
		"*":                               formBrotli,
		"*;q=0.1":                         formBrotli,
		"*;q=0.1, br;q=0":                 formIdentity,
		"br;q=0, *":                       formIdentity,
		"gzip":                            formIdentity,
		"bgzip":                           formIdentity,
		"xbr":                             formIdentity,
		"brotli":                          formIdentity,
		"br2, b r":                        formIdentity,
		"identity":                        formIdentity,
		"identity, br":                    formBrotli,
		"identity;q=0.5, br;q=0.5":        formBrotli,
		"identity;q=1, br;q=0.9":          formIdentity,
		"identity;q=0.2, *;q=0.1":         formIdentity,
		"identity;q=0":                    formNone,
		"identity;q=0, br":                formBrotli,
		"identity;q=0, *":                 formBrotli,
		"identity;q=0, gzip":              formNone,
		"*;q=0":                           formNone,
		"*;q=0, identity":                 formIdentity,
		"*;q=0, identity;q=0.1":           formIdentity,
		"*;q=0, br":                       formBrotli,
		"gzip;q=1.0, identity;q=0, *;q=0": formNone,
		"br;q=0, br":                      formBrotli,
	} {
		values := []string{header}
		if header == absent {
			values = nil
		}
		if got := encodingForm(values); got != want {
			t.Errorf("Accept-Encoding %q: form %d, want %d", header, got, want)
		}
		if header == absent {
			continue
		}
		if got := encodingForm(strings.Split(header, ",")); got != want {
			t.Errorf("%q as several lines: form %d, want %d", header, got, want)
		}
	}
}

func TestAccepts(t *testing.T) {
	for header, want := range map[string]bool{
		"":                              false,
		"*/*":                           false,
		"application/*":                 false,
		chunkMediaType:                  true,
		"text/html, " + chunkMediaType:  true,
		chunkMediaType + ";q=0":         false,
		chunkMediaType + ";q=0.1":       true,
		strings.ToUpper(chunkMediaType): true,
		chunkMediaType + "x":            false,
	} {
		if got := accepts([]string{header}, chunkMediaType); got != want {
			t.Errorf("Accept %q: %v", header, got)
		}
	}
}

func TestPrefersJSON(t *testing.T) {
	for header, want := range map[string]bool{
		"":                                    false,
		"*/*":                                 false,
		"application/json":                    true,
		"text/html,application/xhtml+xml,*/*": false,
		"text/html, application/json":         false,
		"text/html;q=0.5, application/json":   true,
		"application/json;q=0":                false,
	} {
		if got := prefersJSON([]string{header}); got != want {
			t.Errorf("Accept %q: %v", header, got)
		}
	}
}

func TestMatches(t *testing.T) {
	const tag = `"abc"`
	for header, want := range map[string]struct{ weak, strong bool }{
		`"abc"`:         {true, true},
		`W/"abc"`:       {true, false},
		`"x", "abc"`:    {true, true},
		`"x",W/"abc" `:  {true, false},
		`*`:             {true, true},
		`"abc-raw"`:     {false, false},
		`abc`:           {false, false},
		`"ABC"`:         {false, false},
		``:              {false, false},
		`w/"abc"`:       {false, false},
		`"x" , , "abc"`: {true, true},
		`"abc`:          {false, false},
	} {
		if got := matches([]string{header}, tag, true); got != want.weak {
			t.Errorf("If-None-Match %q: %v", header, got)
		}
		if got := matches([]string{header}, tag, false); got != want.strong {
			t.Errorf("If-Match %q: %v", header, got)
		}
	}
}
