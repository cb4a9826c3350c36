// Package ledger keeps the books of one node: balances that are derived from
// its journal, which is the truth.
package ledger
