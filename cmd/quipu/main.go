// Command quipu is the one binary of Quipu: the server, and the tools beside
// it. Flags, the environment and .env become the parts' Config here and
// nowhere else.
//
// Exit codes: 0 done; 1 it failed; 2 the command line is wrong; 3 damage was
// found (verify); 4 no server answered; 5 a count is wrong (bench, demo).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/joho/godotenv"
)

// version is set by the linker in releases.
var version = ""

const (
	exitFailed   = 1
	exitUsage    = 2
	exitDamage   = 3
	exitNoServer = 4
	exitWrong    = 5
)

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run a node: HTTP and the Redis protocol over a data folder."`
	Add     addCmd     `cmd:"" help:"Add to a counter and print its new value."`
	Get     getCmd     `cmd:"" help:"Print a counter's value."`
	Set     setCmd     `cmd:"" help:"Set a counter."`
	Reset   resetCmd   `cmd:"" help:"Set a counter to 0 and print what it was."`
	List    listCmd    `cmd:"" help:"List counters."`
	Items   itemsCmd   `cmd:"" help:"Add distinct items to a set, or count them."`
	Import  importCmd  `cmd:"" help:"Count the requests of an access log, each line exactly once for ever."`
	Bench   benchCmd   `cmd:"" help:"Load a server, print latency percentiles, and check the counts at the end."`
	Demo    demoCmd    `cmd:"" help:"Show in 20 seconds that no count is lost or doubled: kill -9, dropped answers, retries."`
	Verify  verifyCmd  `cmd:"" help:"Check a data folder that no node uses: checksums, invariants, totals."`
	Health  healthCmd  `cmd:"" help:"Exit 0 if the node is ready, for health checks."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// Flag over environment over .env over default: .env only fills what the
	// environment lacks.
	if err := godotenv.Load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "quipu: .env:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("quipu"),
		kong.Description("A distributed counter service: every acknowledged increment is counted exactly once.\n\n"+
			"Exit codes: 0 done, 1 failed, 2 wrong command line, 3 damage found, 4 no server answered, 5 a count is wrong."),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "quipu:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if err != nil {
		parser.Errorf("%s", err)
		fmt.Fprintln(os.Stderr, "see: quipu --help")
		return exitUsage
	}
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "quipu:", err)
		if e := (*exitError)(nil); errors.As(err, &e) {
			return e.code
		}
		return exitFailed
	}
	return 0
}

// exitError carries an exit code other than 1.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("quipu", buildVersion())
	return nil
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
