// Package dag cuts readers into chunks and puts them together again.
//
// A file becomes pieces of 1 MiB, each a br1 chunk, under a manifest, which is
// itself br1-encoded and stored as a chunk; the hash of the root manifest's
// chunk names the object. A file of more than cas.Fanout pieces gets inner
// nodes: pieces are collected in order, a full list becomes a node when the
// next piece arrives, and a list of one node is never wrapped, so that one
// object has one tree. Directories are sorted entries in records of the same
// kind.
//
// Writing is a pipeline with one lane per upload: the caller's goroutine reads
// a piece and feeds SHA-256 (the one thing that cannot be split); a goroutine
// per piece encodes it, checks the encoding, hashes it and puts it into the
// store; links are taken in order. Writer bounds the pieces in flight over all
// uploads; a piece counts as soon as it has been read, so that no slow client
// keeps others waiting. The memory is that bound, and one piece per upload.
//
// The BLAKE3 of the whole object follows from the pieces' chaining values at
// their offsets (BLAKE3 paper, section 2.1: a piece of 1 MiB is a complete
// subtree of 1,024 leaves), without a second pass.
package dag
