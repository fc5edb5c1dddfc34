// Command projector folds the log into views and answers queries from them.
package main

import (
	"context"
	"io"

	"github.com/paykit-go/paykit/internal/daemon"
)

func main() { daemon.Main("projector", run) }

type config struct {
	daemon.NATS
	daemon.Logging
	HTTPAddr string `name:"http-addr" env:"PAYKIT_HTTP_ADDR" default:"127.0.0.1:8423" help:"Address of health and metrics (${env})."`
	DataDir  string `name:"data-dir" env:"PAYKIT_DATA_DIR" type:"path" required:"" help:"Folder of views.db (${env})."`
	Shadow   bool   `name:"shadow" env:"PAYKIT_SHADOW" help:"Build views beside the live ones, in views.db.shadow, and answer no queries (${env})."`
}

func run(ctx context.Context, args []string, _ func(string) string, stdout, stderr io.Writer) error {
	var c config
	if err := daemon.Parse(&c, "projector", "Folds the log into views and answers queries. Needs PAYKIT_DATA_DIR.", args, stdout, stderr); err != nil {
		return err
	}
	return daemon.Process(ctx, "projector", c.NATS, c.Logger(stderr, "projector"), c.HTTPAddr, daemon.Projector{DataDir: c.DataDir, Shadow: c.Shadow})
}
