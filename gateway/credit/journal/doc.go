// Package journal keeps the truth of the books: records that are appended,
// chained by their hashes, and never changed.
//
//	DIR/0000000000000000.log   the first segment; its name is the position of its first byte
//	DIR/0000000004000123.log   the next one, from where the first one ends
//
// A record has a header, the names of the accounts that appear for the first
// time, which get numbers by it, and entries, which speak of numbers. So an
// entry is some 40 to 70 bytes. Each carries, for both of its accounts, the
// distance to the entry that the account had before: an account's statement is
// read backwards along these links and needs no index.
//
// The hash of a record covers the hash of the one before: no byte of the past
// changes without changing the present.
//
// # An append, system call by system call
//
//	1  pwrite(segment)      the record, and all that were staged meanwhile: a batch
//	2  fsync(segment)       the batch is durable
//	3  Sync returns         the client knows it
//
// and if the segment is full, before 1:
//
//	a  openat(next segment, O_CREAT|O_EXCL), pwrite(its header), fsync
//	b  fsync(DIR)
//
// What a crash leaves: between 1 and 2, any part of the batch, in any order of
// its pages; nobody was told, and the next Open cuts off what is not whole, or
// keeps it if it is whole. After 2, the batch. Between a and 1, a segment with
// a header or a part of it; the next Open removes it or goes on with it.
//
// Batches are written one after the other: the next one only when the one
// before is durable. Every record says where its batch begins. So a record
// that is not whole may be cut off only if no record of a later batch is
// behind it; else it was durable, and is damaged: Open refuses, and names the
// place. It does the same for any bad record in front of the last segment.
//
// # When the disk fails
//
// After a failed write or fsync the journal takes nothing more. An fsync is
// never tried again: the kernel may have dropped the pages and call the next
// one fine. The batch is cut off the file, those who wait for it get
// ErrFailed, and so do all who come later, until the journal is opened anew.
// That writes the last batch again before it syncs, since after a failed fsync
// the bytes that are read may be nowhere but in memory.
//
// # Who commits
//
// Whoever stages a record starts a committer unless one is at work. It takes
// one batch after the other, and ends when none waits. So a lone record waits
// for nobody, and many share one fsync. Close waits for the committer.
package journal
