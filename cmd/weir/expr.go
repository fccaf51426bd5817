package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

func exprCommand() *cobra.Command {
	var contexts string
	c := &cobra.Command{
		Use: "expr EXPRESSION", Short: "Evaluate one expression of the workflow language", Args: cobra.ArbitraryArgs, DisableFlagParsing: true,
		Long: `Evaluate one expression, as it stands inside ${{ }} or an if:, and print its value as
JSON. Only the contexts of --context exist. NaN and infinities print as strings.

A mistake in the expression is told with its position; the exit status is then 1.`,
		Example: `  weir expr "1 == '0x1' && format('{0}!', 'hi')"
  weir expr 'github.ref_name' --context contexts.json
  echo '{"matrix": {"os": ["a", "b"]}}' | weir expr "join(matrix.os, '+')" --context -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// Parsed by hand: an expression may begin with a minus.
			var expressions []string
			for i := 0; i < len(args); i++ {
				path, given := strings.CutPrefix(args[i], "--context=")
				switch {
				case args[i] == "--help" || args[i] == "-h":
					return cmd.Help()
				case given:
					contexts = path
				case args[i] == "--context" && i+1 < len(args):
					i++
					contexts = args[i]
				case args[i] != "--" && args[i] != "--json":
					expressions = append(expressions, args[i])
				}
			}
			if len(expressions) != 1 {
				return usageError{fmt.Errorf("give one expression, in quotes\nUsage: weir expr EXPRESSION [--context FILE]")}
			}
			out, err := app.EvalExpression(expressions[0], contexts, cmd.InOrStdin())
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), out)
			}
			return err
		},
	}
	c.Flags().StringVar(&contexts, "context", "", "JSON file of the contexts by name; - for standard input")
	return c
}
