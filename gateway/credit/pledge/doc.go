// Package pledge locks credits to hold an object at a number of replicas for a
// time, and pays those who hold it.
//
// # The life of a pledge
//
// Create moves credits from the owner's account to the pledge's own, its
// escrow. Time is cut into epochs, which are the same for all pledges (by
// default 10 minutes from every full hour). After each epoch Settle asks who
// has held the object (Holders), and pays the cheapest of them, as many as the
// pledge has replicas, each for what it held and at what it asked. A pledge
// that begins or ends within an epoch pays for the part. Until holders prove
// what they keep, an epoch counts by their signed promise: that is up to
// Holders.
//
//	active ──▶ low ──▶ done        its end is reached
//	   │        ├────▶ dry         what is left does not pay for another epoch
//	   └────────┴────▶ released    its owner ended it
//
// A pledge gives notice once when less than Config.NoticeEpochs are left (low).
// When it is over, what it did not need goes back to its owner. Released within
// an epoch, a pledge keeps back what the epoch so far can cost, until the epoch
// is settled; everything else goes back at once.
//
// # Money
//
// A pledge pays no more than its price cap, and is funded for it: one with an
// end locks what its whole time costs at the cap, one without ends (dry) before
// an epoch that what is left might not pay for. So no holder waits for money
// that is not there, and no escrow goes below zero. The rest of a division is
// carried from payment to payment, so that all of them together cost what one
// would; who is first to draw on it changes with the epoch.
//
// # Durability
//
// A pledge is a document of the ledger, "pledge/ID". Each step is one record:
// the entries that move credits and the document that says so, with the id
// "pledge/ID/SECOND" of the moment that it settles up to. A crash before the
// record leaves the step to be done, one after it leaves it done; and a step is
// written only on top of the document that it was computed from. Epochs that
// passed while the node was down are settled in order at the next start.
// After a write the ledger is asked what it has; if it cannot tell, before the
// pledge is used again.
package pledge
