//go:build race

package disk

// raceDetector: the race detector takes five to ten times the memory, and much
// time; the bars are for programs without it.
const raceDetector = true
