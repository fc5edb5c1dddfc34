package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

const stripeID = "stripe"

// Ingest takes in commands and webhooks.
type Ingest struct {
	Secrets         []string // of Stripe's webhooks
	SecretsFile     string   // where they came from, to be watched; "" = not from a file
	DefaultCurrency string
	RetrySchedules  RetrySchedules // beside the built-in ones
	Livemode        string         // whose deliveries lead to events: [LiveMode], [TestMode], or [AnyMode] and ""

	poll time.Duration // of SecretsFile; 0 = 2 s
}

// The modes of a Stripe account that ingest can be told to keep to.
const (
	AnyMode  = "any"
	LiveMode = "live"
	TestMode = "test"
)

// expectLivemode is the mode as the normalizer takes it, nil for any.
func expectLivemode(mode string) (*bool, error) {
	switch mode {
	case "", AnyMode:
		return nil, nil //nolint:nilnil // none is the answer
	case LiveMode, TestMode:
		return new(mode == LiveMode), nil
	}
	return nil, &UsageError{Err: fmt.Errorf("PAYKIT_STRIPE_LIVEMODE: %q is none of any, live, test", mode)}
}

// Start wires ingest up: the command services and queue, the webhook door, the normalizer, the inbox's sweeper.
func (p Ingest) Start(_ context.Context, e Env) (func(context.Context) error, error) {
	hooks, err := stripe.NewWebhooks(p.Secrets)
	if err != nil {
		return nil, &UsageError{Err: fmt.Errorf("STRIPE_WEBHOOK_SECRETS: %w", err)}
	}
	webhooks := map[string]provider.Webhooks{stripeID: hooks}
	log := e.Logger
	if !events.Currency(p.DefaultCurrency).Known() {
		return nil, &UsageError{Err: fmt.Errorf("PAYKIT_DEFAULT_CURRENCY: %q is not a currency of Stripe's, in lower case", p.DefaultCurrency)}
	}
	live, err := expectLivemode(p.Livemode)
	if err != nil {
		return nil, err
	}
	schedules, err := p.RetrySchedules.Delays()
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	handler := commands.New(e.Log, commands.Config{
		Providers: []string{stripeID}, DefaultCurrency: p.DefaultCurrency, RetrySchedules: schedules, Version: Version(), Logger: log,
	})
	e.HTTP.Mux.Handle("/webhooks/", provider.NewDoor(e.Log, webhooks, provider.DoorConfig{Logger: log, Registerer: e.HTTP.Metrics}))
	normalizer := provider.NewNormalizer(e.Log, webhooks, provider.NormalizerConfig{
		Logger: log, ExpectLivemode: live, Registerer: e.HTTP.Metrics,
	})
	e.HTTP.Check(Check{Name: "commands", Ready: handler.Ready})
	file := (&secretFile{
		name: webhookSecrets, path: p.SecretsFile, value: strings.Join(p.Secrets, ","), poll: p.poll, log: log,
		apply: func(value string) error {
			secrets, err := splitSecrets(value)
			if err != nil {
				return err
			}
			return hooks.SetSecrets(secrets)
		},
	}).watched(e.HTTP.Metrics)
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return commands.Serve(ctx, e.Conn, handler) })
		g.Go(func() error { return commands.ConsumeQueue(ctx, handler) })
		g.Go(func() error { return normalizer.Run(ctx) })
		g.Go(func() error { return e.Log.SweepInbox(ctx) })
		g.Go(func() error { return file.watch(ctx) })
		g.Go(func() error {
			return e.Log.ConsumeDecisions(ctx, eventlog.ConsumerIngestDecisions, eventlog.ConsumeOptions{Logger: log},
				map[string]func(context.Context, eventlog.Decided) eventlog.Result{
					eventlog.StageNormalizer: normalizer.CarryOutDecision, eventlog.StageCommands: handler.CarryOutDecision,
				})
		})
		for _, consumer := range []eventlog.ConsumerName{eventlog.ConsumerCommands, eventlog.ConsumerIngestDecisions} {
			g.Go(func() error { return provider.WatchBacklog(ctx, e.Log, consumer, log, e.HTTP.Metrics) })
		}
		return g.Wait() //nolint:wrapcheck // already says what it was
	}, nil
}

// Worker carries out provider calls.
type Worker struct{ Stripe StripeAPI }

// watchKey keeps the client's key in step with the file that it came from.
func watchKey(s StripeAPI, client *stripe.Client, e Env) *secretFile {
	return (&secretFile{name: apiKey, path: s.KeyFile, value: s.Key, apply: client.SetKey, log: e.Logger}).watched(e.HTTP.Metrics)
}

// Start wires the worker up.
func (p Worker) Start(_ context.Context, e Env) (func(context.Context) error, error) {
	client, err := stripe.New(stripe.Config{APIKey: p.Stripe.Key, APIBase: p.Stripe.Base, Env: e.Log.Env(), Logger: e.Logger})
	if err != nil {
		return nil, &UsageError{Err: fmt.Errorf("STRIPE_API_KEY, STRIPE_API_BASE: %w", err)}
	}
	worker := provider.NewWorker(e.Log, map[string]provider.API{stripeID: client}, provider.WorkerConfig{
		Logger: e.Logger, Rate: p.Stripe.Rate, ReviewAfter: p.Stripe.ReviewAfter, Registerer: e.HTTP.Metrics, Calls: e.Log,
		Webhooks: map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, // without secrets: it reads, and verifies nothing
	})
	e.HTTP.Check(Check{Name: "provider", Ready: worker.Ready}, Check{Name: "backlog", Ready: worker.KeepsUp})
	file := watchKey(p.Stripe, client, e)
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return worker.Run(ctx) })
		g.Go(func() error { return file.watch(ctx) })
		g.Go(func() error {
			return e.Log.ConsumeDecisions(ctx, eventlog.ConsumerWorkerDecisions, eventlog.ConsumeOptions{Logger: e.Logger},
				map[string]func(context.Context, eventlog.Decided) eventlog.Result{
					eventlog.StageWorker: worker.CarryOutDecision, eventlog.StageSettle: worker.CarryOutDecision,
				})
		})
		g.Go(func() error { return provider.WatchDeadLetters(ctx, e.Log, e.Logger, e.HTTP.Metrics) })
		return g.Wait() //nolint:wrapcheck // already says what it was
	}, nil
}

// Projector keeps the views, or with Shadow views of its own beside the live ones, which answer no queries.
type Projector struct {
	DataDir string
	Shadow  bool
}

// Start opens the views.
func (p Projector) Start(_ context.Context, e Env) (func(context.Context) error, error) {
	views, err := projections.Open(p.DataDir, e.Log, projections.Config{Logger: e.Logger, Registerer: e.HTTP.Metrics, Shadow: p.Shadow})
	if err != nil {
		return nil, err //nolint:wrapcheck // says which file and why
	}
	e.HTTP.Check(Check{Name: "views", Ready: views.Ready})
	return func(ctx context.Context) error {
		return errors.Join(views.Run(ctx), views.Close())
	}, nil
}

// Version is the program's version: that of its module, or the revision it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "0.0.0-dev"
	}
	version, tagged := strings.CutPrefix(info.Main.Version, "v")
	if !tagged {
		return "0.0.0-dev"
	}
	return version
}
