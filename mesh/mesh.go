// Package mesh has the words of the network: keys, and the records that are
// signed with them and travel between nodes, clients and owners. It knows no
// transport, no disk and no clock, and builds for a browser.
//
// A record is signed over its canonical bytes behind the name of its kind (see
// Secret.Sign), so that a signature for one purpose is none for another.
package mesh
