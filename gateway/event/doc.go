// Package event is the bus: it publishes, keeps, replays and routes events.
//
// An event says how far an operation has come. Its name is
//
//	{service}:{action}:v{version}:{state}
//
// with the states requested, processing, completed and failed, and its id is
// the operation's: all states of one have the same, so that id and name
// together are one event, which is published once however often it is sent. An
// id with a / is the node's own.
// An operation goes
//
//	requested → processing → completed or failed
//	requested → failed
//
// and what nobody requested here may be told of as completed or failed.
// Anything else is refused. So is what is not the publisher's: an operation
// belongs to whoever requested it, from the moment that it is handed to a
// handler to that handler, and the services below to the node.
//
// # What the node emits
//
// The payloads are JSON. Private events go to those whom they concern (the
// subject of a token may be the name of a person) and to administrators, all
// others to everybody who may subscribe.
//
//	storage:replicate_chunk:v1:requested   {hash, epoch, target, previous, reason, rate, moves, node, expires}
//	storage:replicate_chunk:v1:processing  {node}
//	storage:replicate_chunk:v1:completed   {hash, replicas}
//	storage:replicate_chunk:v1:failed      {error}
//	storage:publish_object:v1:completed    {hash, owner, sequence, rf, max_rf}; private
//	storage:withdraw_object:v1:completed   {hash, owner, sequence}; private
//	credit:grant_credits:v1:completed      {account, amount, seq}; private
//	credit:change_pledge:v1:completed      {pledge, account, hash, rf, change, escrow, until}; private
//
// # Routing
//
// A requested event goes to one handler of its service and action: of the node
// (Handle), or of a client (Offer). Handlers take work when they are free:
// nothing is pushed, so that no queue can overflow. Without a handler the
// operation stays requested, and the first handler that comes finds it. A
// client that goes away before it published processing leaves the operation to
// another one; after that, the operation has failed. So it has if the node
// stops meanwhile.
//
// # Subscribers
//
// A subscription is a place in the journal and no queue. Publishing costs the
// same whether nobody listens or a thousand do: it wakes those that wait, and
// they read, from the latest events in memory or from the files. A slow
// subscriber falls behind, and when the journal has left it behind it is told
// which numbers it missed.
//
// # Durability
//
// Events are notices; the truth is in the books and in the store. Publish
// writes to the journal before it returns, and Run syncs the files once a
// second: a killed process loses nothing, a machine that loses power the last
// second. The journal is a ring of files of one sixteenth of its size. At the
// start each is read up to the first record that is not whole, and cut there.
// Numbers are those of a clock in microseconds where a start begins, so that
// the numbers of lost events are not given again.
package event
