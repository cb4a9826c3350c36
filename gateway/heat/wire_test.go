package heat

import (
	"reflect"
	"testing"
	"time"

	"inos.dev/edge/cas"
)

func someDecision() Decision {
	return Decision{Chunk: cas.Sum(nil), Epoch: 1_782_907_200_000, Target: 9, Previous: 3, Policy: Policy{RF: 3, MaxRF: 16, Size: 1 << 20}, Reason: Hotter,
		Rate: 7.25e7, Moves: 6 << 20, Time: time.UnixMicro(1_782_907_200_000_001).UTC(), Expires: time.UnixMicro(1_782_907_800_000_001).UTC(), Node: "a"}
}

// record is a rate as Redis writes it.
func record(r Rate) []byte {
	b := append([]byte(nil), r.Chunk[:]...)
	b = order.AppendUint64(b, 0x4028000000000000) // 12
	b = order.AppendUint64(b, 0x4018000000000000) // 6
	if r.Decision.Epoch == 0 {
		return appendSized(b, nil)
	}
	return append(b, appendKnown(nil, []Decision{r.Decision})[cas.HashSize:]...)
}

func TestWire(t *testing.T) {
	want := []Rate{{Chunk: cas.Sum(nil), Fast: 12, Slow: 6, Decision: someDecision()}, {Chunk: cas.Sum([]byte{1}), Fast: 12, Slow: 6}}
	b := append(record(want[0]), record(want[1])...)
	got, err := parseRates(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v, want\n%+v", got, err, want)
	}
	for n := range b {
		if rates, err := parseRates(b[:n]); err == nil && n != 0 && n != len(record(want[0])) {
			t.Errorf("cut off after %d bytes: %+v", n, rates)
		}
	}
}

// FuzzRates reads what a broken Redis may say.
func FuzzRates(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(record(Rate{Decision: someDecision()}))
	f.Add(record(Rate{}))
	f.Add(append(record(Rate{})[:48], 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		rates, err := parseRates(b)
		if err != nil {
			return
		}
		if len(rates) > len(b)/52 {
			t.Errorf("%d rates in %d bytes", len(rates), len(b))
		}
		for _, r := range rates {
			if r.Decision.Epoch == 0 {
				continue
			}
			again, err := parseDecision(r.Chunk, appendKnown(nil, []Decision{r.Decision})[cas.HashSize+4:])
			if err != nil || again.Target != r.Decision.Target || again.Epoch != r.Decision.Epoch {
				t.Errorf("%+v is read as %+v, %v", r.Decision, again, err)
			}
		}
	})
}
