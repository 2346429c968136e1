// Package quipu holds the words of Quipu, a distributed counter service, as
// types: tenants, names, operations, request ids, preconditions, revisions,
// outcomes and errors.
//
// Every other package of the module, the Go client included, speaks in these
// words. The package imports the standard library only and holds no state.
//
// A counter is a signed 64-bit value under a tenant and a name. An item set is
// a set of distinct item ids under a tenant and a name; its count is exact. A
// name is a counter or a set, not both. An [Op] is one operation on a name, a
// [Result] is what came of it. Every result has one of three outcomes:
// applied, not applied, or unknown (see [Outcome]); an [Error] says which, and
// whether to retry.
package quipu
