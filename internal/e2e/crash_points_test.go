package e2e_test

import (
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
)

// crashPoints says for each crash point which programs come by there: "backfill" is a worker that finds deliveries missing,
// "rebuild" is `paykit rebuild`. A point that is in the source and not here fails TestCrashPointsAreExercised; one that is
// here is died at by TestCrashPoints (make crash), which needs to know more where the ordinary load does not come by: see
// crashRuns.
func crashPoints() map[string][]string {
	all := map[string][]string{}
	for programs, points := range map[string][]string{
		"ingest": {
			"ingest.body_read", "ingest.verified", "ingest.delivery_stored", "ingest.delivery_answered",
			"normalizer.fetched", "normalizer.linked", "normalizer.observed", "normalizer.before_ack", "normalizer.buried",
			"commands.validated", "commands.profile_stored", "commands.appended", "commands.answered",
			"queue.fetched", "queue.rejected", "queue.before_erase", "eventlog.erased",
			"queue.letter_done", "normalizer.letter_retried",
		},
		"worker": {
			"worker.fetched", "worker.carried_out", "worker.customer_created", "worker.customer_linked",
			"worker.session_created", "worker.setup_created", "worker.payment_created", "worker.payment_linked",
			"worker.payment_recorded", "worker.confirm_answered", "worker.authenticate_answered", "worker.payment_settled",
			"worker.payment_canceled", "worker.payment_unmade", "worker.page_unmade", "worker.doubt_recorded",
			"worker.refund_created", "worker.method_detached", "worker.default_set",
			"worker.erased_here", "worker.customer_erased", "worker.settle_asked", "worker.buried", "worker.letter_retried",
			"worker.retry_requested", "worker.retry_asked", "worker.retry_answered", "worker.retry_recorded", "worker.retry_stopped",
		},
		"ingest worker": {"eventlog.before_publish", "eventlog.published", "eventlog.before_ack", "eventlog.acked"},
		"projector": {
			"projector.fetched", "projector.tx_open", "projector.tx_committed", "projector.set_aside",
			"projector.next_opened", "projector.next_swapping", "projector.next_swapped",
		},
		"rebuild": {
			"projector.rebuild_applied", "projector.rebuild_finished", "projector.next_ready", "projector.before_swap", "projector.after_swap",
		},
		"backfill": {"backfill.listed", "backfill.stored", "backfill.before_mark"},
	} {
		for _, point := range points {
			all[point] = strings.Fields(programs)
		}
	}
	return all
}

// Every crash point in the source is exercised, and no name stands for two places.
func TestCrashPointsAreExercised(t *testing.T) {
	t.Parallel()
	found := crashPointsInSource(t)
	known := slices.Sorted(maps.Keys(crashPoints()))
	for point, places := range found {
		if len(places) > 1 {
			t.Errorf("crash point %s stands at %s: give each place a name of its own", point, strings.Join(places, " and "))
		}
		if !slices.Contains(known, point) {
			t.Errorf("crash point %s at %s is in no run: say in crashPoints which process comes by", point, places[0])
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
