// Package disk is the durable cas.Store: one file per chunk, named by its
// hash, so that any web server can serve the directory as it is.
//
//	DATA/LOCK          flock of the process that uses DATA
//	DATA/FORMAT        "inos-data 1"
//	DATA/chunks/ab/…   the chunks: 256 directories by the first byte, full hash as file name
//	DATA/tmp/          files of writes under way; emptied at every start
//	DATA/quarantine/   files whose bytes turned out wrong
//	DATA/index         snapshot of the index, which only saves time
//
// # A Put, system call by system call
//
//	1  openat(tmp/n, O_CREAT|O_EXCL), write      in the goroutine of the Put
//	2  sync_file_range(tmp/n)                    a head start; proves nothing
//	3  fsync(tmp/n), close                       the bytes are durable
//	4  renameat(tmp/n, chunks/ab/hash)           the name is there, whole or not at all
//	5  fsync(chunks/ab)                          the name is durable
//	6  into the index, then the Put returns      readers see it, the client knows it
//
// What a crash leaves: between 1 and 4, a file in tmp that the next start
// removes. Between 4 and 6, the whole chunk or nothing: nobody was told, and
// if it is there it is right, because its bytes were durable before its name.
// If it is there after a mere kill, its name may still not be durable: a start
// fsyncs every directory that it lists before it believes in what it finds.
// After 6, the chunk.
//
// Steps 2 to 6 are done for a batch of chunks at once (group commit). Whoever
// queues a file starts a committer unless two are at work; a committer takes
// the whole queue, fsyncs the files with a few at a time, renames, fsyncs each
// directory once, answers, and ends when the queue is empty. So a lone Put
// waits for nobody, and many Puts share the transactions of the file system.
// Close waits for the committers. Puts of one chunk at the same time share one
// write.
//
// After an fsync has failed the pages may be gone although the next fsync says
// that all is well. So it is never repeated: the file is removed and every Put
// that waited for it fails.
//
// # Who guards a chunk's name
//
// shard.names is held while a name comes into or goes out of a directory. A
// Delete or a Sweep takes the chunk out of the index and removes its file
// under it; a Put that comes meanwhile either finds the chunk in the index
// before, and touches it under the lock of the index (a Sweep looks at the
// touch under the same one, and leaves it), or finds it gone, writes it anew,
// and has to wait with its rename until the old file is removed.
//
// # The index
//
// The directories are the truth; the index is a table of 44 bytes per chunk
// without pointers. Its snapshot carries the mtime of each directory. A start
// takes over the entries of a directory whose mtime is still the same and was
// not too young for the clock of the file system; it lists any other, and
// looks only at the files that the snapshot does not know. A snapshot that is
// damaged or missing costs time, never a chunk.
//
// # Rot
//
// A file is hashed before its first reader gets it since the start, when a
// client reports it (Report), and by the scrubber (Run). If it is wrong it is
// moved to the quarantine, and the chunk is not found: whoever can, fills it in
// again. A Put of a chunk that is here counts as a read, so that what it
// acknowledges is right.
package disk
