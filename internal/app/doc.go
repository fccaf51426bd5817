// Package app puts Weir together: it reads the configuration, chooses adapters
// by the schemes of URLs, builds every part, and runs them. It decides nothing
// about delivery.
package app
