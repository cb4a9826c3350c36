// Package ledger keeps the books of one node: what every account has, derived
// from the journal, which is the truth.
//
//	DIR/journal/    the journal: see package journal
//	DIR/ledger.db   checkpoints of what is derived from it (bbolt); it may be
//	                lost, and is then made anew from the journal
//
// # A record
//
// Append and Decide make a record under one lock: the states of its accounts
// are looked up, the entries applied to copies of them, each entry gets the
// positions of its accounts' previous entries, the record is staged in the
// journal, and the copies become the states. If anything is wrong, up to the
// last entry, the copies are dropped and nothing has happened. Then, without
// the lock, the writer waits for the journal's fsync, together with all who
// came meanwhile.
//
// So the state in memory may be ahead of the disk, by what is being written.
// Nobody is told of it: every state remembers the record that made it, and
// whoever reads it waits until that record is durable. A second Append with
// the same id waits for the first, and who decides waits for what he saw.
//
// # A checkpoint
//
//	1  the changes since the last one are set aside, with the place in the
//	   journal that they reach; new changes gather beside them
//	2  fsync of the journal up to that place
//	3  one bbolt transaction: accounts, documents, ids, and the place
//	4  what was written becomes the cache of what is likely to be asked for
//
// A crash before the transaction's last fsync leaves the checkpoint before;
// after it, the new one. Because of 2, the file never knows what the journal
// does not. A start replays the journal from the checkpoint's place on, so its
// time depends on how much may gather between two checkpoints
// (Config.CheckpointBytes, Config.MaxDirty), and not on how long the journal
// is. Run makes checkpoints with time and when half of that has gathered;
// whoever finds that all of it has, makes one before he goes on.
//
// # When the disk fails
//
// Who waits for a failed write gets journal.ErrFailed, and what he wrote is in
// no book: the journal cuts it off, and the ledger opens it again (once in a
// second, when somebody needs it) and takes up the last checkpoint, so that
// the states fall back to what is durable. Only if the tail cannot even be cut
// off, the books stay shut until the next start of the node, and what has
// failed may be in them then; who tries again with the same id is safe in
// both cases.
//
// # Statements
//
// Each entry links to the one before it of either account, so a page is read
// backwards through the journal, a read or two per line, however long the
// journal is and wherever the lines are. Each Line has the balance after its
// record: it is counted back from the present one. A Cursor carries both, and
// is signed.
//
// # Audits
//
// Audit and AuditDir read the whole journal and add it up without looking at
// anything that is derived, and then compare.
package ledger
