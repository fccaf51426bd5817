// Package web is the pages: rendered on the server, live by server-sent events,
// readable and usable without JavaScript.
//
// It decides nothing. What a page shows comes from Data, a port in the pages'
// own words, whose implementation over the services is web/live; what a button
// does is a POST that calls one method of Actions.
//
// Promises:
//   - Everything that others wrote is escaped; the content security policy lets
//     no script or style run that is not a file of this binary.
//   - A figure that was not measured is not shown. Times are UTC, exact in
//     `datetime`.
//   - A POST from another origin is refused; a refused action shows its sentence
//     on the page where it was asked for and keeps what was typed.
//   - A live update replaces the smallest element by id and moves nothing else.
//
// The scripts, styles and fonts are built into assets/dist and embedded. Without
// them the pages still read, and say what is missing.
package web

//go:generate go tool templ generate -path .
