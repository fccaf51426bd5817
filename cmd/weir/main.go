// Command weir is the control point between a commit and production: server,
// host process, hook and client in one binary.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func main() {
	// A sandbox's init and git's hook are this binary, too; they take their own
	// way before anything else is looked at.
	app.Reenter()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetArgs(os.Args[1:])
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "weir: "+client.Sentence(err))
	}
	stop()
	os.Exit(exitCode(err))
}

// usageError is a command line that makes no sense: exit status 2.
type usageError struct{ error }

func exitCode(err error) int {
	if _, ok := err.(usageError); ok {
		return 2
	}
	return client.ExitCode(err)
}
