// Package folder moves files and folders between a disk and objects.
//
// # Adding
//
// Add walks a folder inside an os.Root, so that a name that turns into a link
// meanwhile leads nowhere else, and gives it to a dag.Tree. Devices, FIFOs and
// sockets are left out with a warning. A link that leads out of the folder is
// an error, since a reader would refuse it, unless it is to be left out.
//
// # Writing
//
// A Writer writes a file to NAME.<first digits of its hash>.part beside the
// target, and renames it there when every piece, the BLAKE3 and the SHA-256 of
// the whole fit. A folder is built as a whole under such a name. So the target
// is there as a whole or not at all.
//
// The part file is its own state. A later run, after whatever end of the first
// one, reads what lies there piece by piece, keeps what has the hash that the
// manifest asks for, and fetches the rest: no record of progress could be
// wrong, because there is none.
//
// All names are opened inside an os.Root of the target's folder. Symbolic links
// are made after all files, and only if they stay inside the folder with all
// other links resolved; no file is written through a link.
package folder
