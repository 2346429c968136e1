// Package limit is the one table of Quipu's limits. Each is tested at the
// limit and one above it, and docs/limits.md is written from this table.
// Where a limit is a setting, the constant is its default.
package limit

import "time"

const (
	// BodyBytes bounds the body of an HTTP request.
	BodyBytes = 16 << 20
	// HeaderBytes bounds the head of an HTTP request.
	HeaderBytes = 16 << 10
	// BatchOps bounds the operations of one HTTP batch and of one MULTI.
	BatchOps = 10_000
	// EntryBytes bounds one log entry; the pool closes a batch before it.
	EntryBytes = 4 << 20
	// QueueBytes and QueueOps bound what waits to be committed.
	QueueBytes = 64 << 20
	QueueOps   = 1_000_000
	// Connections bounds the open connections of an edge.
	Connections = 10_000
	// PendingAnswerBytes bounds the answers that wait for one connection's
	// reader.
	PendingAnswerBytes = 32 << 20
	// Deadline is how long a caller waits for an answer.
	Deadline = 5 * time.Second
	// ListPage bounds one page of a list.
	ListPage = 1_000
	// LoopReads bounds the keys that a command of the Redis protocol may read
	// within the event loop; more are read beside it.
	LoopReads = 128
	// CommandBytes bounds one command of the Redis protocol, all arguments
	// together, and CommandArgs their number.
	CommandBytes = 16 << 20
	CommandArgs  = 1 << 20
	// InlineBytes bounds an inline command line of the Redis protocol.
	InlineBytes = 64 << 10

	// Window is how long a request id is remembered.
	Window = 24 * time.Hour
	// SkewAllowance is how far ahead of log time a request id may be.
	SkewAllowance = 2 * time.Hour
)
