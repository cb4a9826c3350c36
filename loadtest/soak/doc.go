// Package soak has tests of the real binary under crashes, slow clients, a
// full disk and shutdown. They build the node themselves, talk to it over
// loopback only, and stop by themselves. INOS_SOAK=1 runs the full numbers,
// anything else about a tenth.
package soak
