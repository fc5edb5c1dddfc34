package e2e_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/paykit-go/paykit"
)

// crashRuns says for each crash point which programs come by there, and what makes them. A point that is in the source
// and not here fails TestCrashPointsAreExercised; one that is here is died at by TestCrashPoints (make crash).
func crashRuns() map[string]crashRun {
	runs := map[string]crashRun{}
	for programs, points := range map[string][]string{
		"ingest": {
			"ingest.body_read", "ingest.verified", "ingest.delivery_stored", "ingest.delivery_answered",
			"normalizer.fetched", "normalizer.linked", "normalizer.observed", "normalizer.before_ack",
			"commands.validated", "commands.profile_stored", "commands.appended", "commands.answered",
			"queue.fetched", "queue.rejected", "queue.before_erase", "eventlog.erased",
		},
		"worker": {
			"worker.fetched", "worker.carried_out", "worker.customer_created", "worker.customer_linked",
			"worker.session_created", "worker.setup_created", "worker.payment_created", "worker.payment_linked",
			"worker.payment_recorded", "worker.confirm_answered", "worker.authenticate_answered", "worker.payment_settled",
			"worker.payment_canceled", "worker.refund_created", "worker.method_detached", "worker.default_set",
			"worker.erased_here", "worker.customer_erased", "worker.settle_asked",
		},
		"ingest worker": {"eventlog.before_publish", "eventlog.published", "eventlog.before_ack", "eventlog.acked"},
		"projector":     {"projector.fetched", "projector.tx_open", "projector.tx_committed"},
		"backfill":      {"backfill.listed", "backfill.stored", "backfill.before_mark"},
	} {
		for _, point := range points {
			runs[point] = crashRun{programs: strings.Fields(programs)}
		}
	}
	for point, run := range map[string]crashRun{
		"projector.rebuild_applied": {programs: []string{"rebuild"}, once: true},
		"projector.before_swap":     {programs: []string{"rebuild"}, once: true},
		"projector.after_swap":      {programs: []string{"rebuild"}, once: true},
		"projector.set_aside":       {programs: []string{"projector"}, once: true, before: damageViews},
		"normalizer.buried":         {programs: []string{"ingest"}, during: sendUnreadable},
		"worker.doubt_recorded":     {programs: []string{"worker"}, during: loseConfirms},
		"worker.payment_unmade":     {programs: []string{"worker"}, before: cancelUnmade},
		"worker.page_unmade":        {programs: []string{"worker"}, before: expireUnmade},
	} {
		runs[point] = run
	}
	runs["backfill.before_mark"] = crashRun{programs: []string{"backfill"}, once: true}
	return runs
}

// crashRun is how a point is come by.
type crashRun struct {
	programs []string               // what dies; "backfill" is a worker that finds deliveries missing, "rebuild" is `paykit rebuild`
	once     bool                   // one process comes by once only
	before   func(l *load, nth int) // done while the process is down; may be nil
	during   func(l *load)          // done besides the ordinary load; may be nil
}

// damageViews breaks the views' file.
func damageViews(l *load, _ int) {
	if err := writeFile(filepath.Join(l.s.viewsDir(), "views.db"), "no database"); err != nil {
		l.s.t.Error(err)
	}
}

// sendUnreadable delivers what is signed and can't be understood.
func sendUnreadable(l *load) {
	for n := range 5 {
		body := fmt.Sprintf(`{"id":"evt_%s_%d","object":"event","type":"charge.succeeded","data":"x"}`, l.name, n)
		_, err := again(l.s.t.Context(), "deliver", func() (*int, error) {
			status, answer := post(l.s.t, l.s.ingest+"/webhooks/stripe", body, "Stripe-Signature", signed(body, webhookSecret))
			if status != 200 {
				return nil, fmt.Errorf("%d %s: %w", status, answer, errNotYet)
			}
			return &status, nil
		}, nil)
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

var errNotYet = errors.New("not yet")

// loseConfirms has the sandbox take money and keep silent about it, a few times.
func loseConfirms(l *load) {
	l.s.fault(l.s.t, `{"operation":"payment_intents.confirm","kind":"cut","when":"after","times":4}`)
}

// cancelUnmade leaves charges that are canceled before a worker has seen them.
func cancelUnmade(l *load, nth int) {
	ctx := l.s.t.Context()
	l.s.startWorker()
	customer, method := l.s.saved(l.pk, l.name, card4242)
	l.s.wk.kill()
	for n := range nth {
		c, err := l.pk.Charge.Create(ctx, paykit.ChargeCreate{
			CustomerID: customer, PaymentMethodID: method, Amount: 1000, Description: "never",
		}, paykit.WithIdempotencyKey(fmt.Sprint(l.name, n)), paykit.WithWait(0))
		if err == nil {
			l.expect(c.ID, paykit.ChargeCanceled)
			_, err = l.pk.Charge.Cancel(ctx, c.ID, paykit.WithWait(0))
		}
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

// expireUnmade leaves pages that are closed before a worker has seen them.
func expireUnmade(l *load, nth int) {
	ctx := l.s.t.Context()
	customer, err := l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: l.name})
	if err != nil {
		l.s.t.Error(err)
		return
	}
	for n := range nth {
		c, err := l.pk.Checkout.Create(ctx, paykit.CheckoutCreate{
			CustomerID: customer.ID, Amount: 1000, Description: "never", SuccessURL: "https://app.example.com/ok",
		}, paykit.WithIdempotencyKey(fmt.Sprint(l.name, n)), paykit.WithWait(0))
		if err == nil {
			_, err = l.pk.Checkout.Expire(ctx, c.ID, paykit.WithWait(0))
		}
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

// Every crash point in the source is exercised, and no name stands for two places.
func TestCrashPointsAreExercised(t *testing.T) {
	t.Parallel()
	found := crashPointsInSource(t)
	known := slices.Sorted(maps.Keys(crashRuns()))
	for point, places := range found {
		if len(places) > 1 {
			t.Errorf("crash point %s stands at %s: give each place a name of its own", point, strings.Join(places, " and "))
		}
		if !slices.Contains(known, point) {
			t.Errorf("crash point %s at %s is in no run: say in crashRuns how a process comes by", point, places[0])
		}
	}
	for _, point := range known {
		if len(found[point]) == 0 {
			t.Errorf("crash point %s is not in the source", point)
		}
	}
	if len(found) < 40 {
		t.Errorf("only %d crash points found", len(found))
	}
}

// crashPointsInSource finds calls of crashpoint.Hit and of the worker's point, by name.
func crashPointsInSource(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	files := token.NewFileSet()
	for _, root := range []string{"../../internal", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "point" {
					continue // the worker's own, which gives its argument on
				}
				ast.Inspect(decl, func(n ast.Node) bool {
					if name, place := crashPoint(t, files, n); name != "" {
						found[name] = append(found[name], place)
					}
					return true
				})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// crashPoint gives the name of the point that a node is, "" if it is none.
func crashPoint(t *testing.T, files *token.FileSet, n ast.Node) (name, place string) {
	t.Helper()
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return "", ""
	}
	of, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, ok := of.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	prefix := ""
	switch {
	case x.Name == "crashpoint" && of.Sel.Name == "Hit":
	case x.Name == "w" && of.Sel.Name == "point":
		prefix = "worker."
	default:
		return "", ""
	}
	place = files.Position(call.Pos()).String()
	text, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		t.Errorf("%s: a crash point's name is written out, or nobody finds it", place)
		return "", ""
	}
	name, err := strconv.Unquote(text.Value)
	if err != nil {
		t.Errorf("%s: %v", place, err)
	}
	return prefix + name, place
}
