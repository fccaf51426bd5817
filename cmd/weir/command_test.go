package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestEveryCommandExplainsItselfWithAnExample(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Hidden || c.HasSubCommands() || !c.Runnable() || c.Name() == "help" || strings.Contains(c.CommandPath(), "completion") {
			return
		}
		n++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q; want a line without a full stop", c.CommandPath(), c.Short)
		}
		if !strings.Contains(c.Example, c.CommandPath()) && c.HasParent() {
			t.Errorf("%s: its example is %q; want one that calls it", c.CommandPath(), c.Example)
		}
	}
	walk(command())
	if n < 30 {
		t.Errorf("%d commands were looked at", n)
	}
}

func TestWrongUsageIsExitStatus2(t *testing.T) {
	for _, args := range [][]string{{"nosuch"}, {"runs", "show"}, {"serve", "--nosuch"}, {"rollback", "a", "b", "c", "d"}} {
		root := command()
		root.SetArgs(args)
		root.SetOut(new(strings.Builder))
		root.SetErr(new(strings.Builder))
		if err := root.ExecuteContext(t.Context()); exitCode(err) != 2 {
			t.Errorf("weir %s: %v, exit status %d; want 2", strings.Join(args, " "), err, exitCode(err))
		}
	}
}
