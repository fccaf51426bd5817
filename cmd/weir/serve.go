package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

func serveCommand() *cobra.Command {
	var (
		config, listen, data, database string
		unconfined                     bool
	)
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a server on this machine",
		Long: `Run a server: git host, pipeline, registry, deployment and pages on one port. It
needs no configuration file: state is in SQLite and files below the data folder.
The host process, which runs deployed services, is started beside it and outlives it.`,
		Example: `  weir serve
  weir serve --config weir-server.yaml
  weir serve --listen 0.0.0.0:7400 --data /var/lib/weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := app.Configure(config, func(c *app.Config) {
				if listen != "" {
					c.Listen = listen
				}
				if data != "" {
					c.Data = data
				}
				if database != "" {
					c.Database = database
				}
				c.Runner.Unconfined = c.Runner.Unconfined || unconfined
			})
			if err != nil {
				return err
			}
			app.SetupLog(conf.Log, os.Stderr)
			return app.Serve(cmd.Context(), conf, cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVarP(&config, "config", "c", "", "configuration file")
	f.StringVar(&listen, "listen", "", "address to listen on")
	f.StringVar(&data, "data", "", "data folder")
	f.StringVar(&database, "database", "", "database URL, sqlite:// or postgres://")
	f.BoolVar(&unconfined, "unconfined", false, "run jobs and services without confinement; recorded in every provenance")
	return c
}

func demoCommand() *cobra.Command {
	var (
		dir  string
		exit bool
	)
	c := &cobra.Command{
		Use:   "demo",
		Short: "See the main job: push, canary, a bad release caught and taken back",
		Long: `Start a server and its host process in a fresh folder, push a small service to it,
deliver a good release by canary, then a bad one that is caught and taken back by
itself, all under real load, and prove afterwards what happened. Takes about two
minutes. It stays up until Ctrl-C, so that you can look at the pages.`,
		Example: "  weir demo\n  weir demo --exit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.Demo(cmd.Context(), app.DemoOptions{Dir: dir, Exit: exit, Out: cmd.OutOrStdout()})
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder to work in (default: a new one below the system's temporary folder, removed at the end)")
	c.Flags().BoolVar(&exit, "exit", false, "end by itself; the exit status says whether everything was as it should be")
	return c
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of weir.yaml, for editors", Args: cobra.NoArgs,
		Example: "  weir schema > weir.schema.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return (&globals{json: true}).print(cmd, app.Schema(), nil)
		},
	}
}

func configCommand() *cobra.Command {
	explain := &cobra.Command{
		Use: "explain KEY", Short: "Explain a key of weir.yaml or of the server's configuration", Args: cobra.ExactArgs(1),
		Example: "  weir config explain services.checkout.environments.production.strategy.canary.bake\n  weir config explain server.listen",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := app.Explain(args[0])
			if err == nil {
				_, err = io.WriteString(cmd.OutOrStdout(), text)
			}
			return err
		},
	}
	return parent("config", "Explain configuration", explain)
}
