package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// connect connects as a role, with its inbox as the programs set it.
func connect(t *testing.T, url, role string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.UserInfo(role, password(role)), nats.CustomInboxPrefix("_INBOX_"+role),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // read with LastError
	if err != nil {
		t.Fatalf("connect as %s: %v", role, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// refused tells whether the server refuses what do sends. Each question has its own connection, which remembers the
// first refusal.
func refused(t *testing.T, url, role string, do func(*nats.Conn) error) bool {
	t.Helper()
	nc := connect(t, url, role)
	defer nc.Close()
	if err := do(nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil { // the refusal comes before the answer to the flush
		t.Fatal(err)
	}
	return errors.Is(nc.LastError(), nats.ErrPermissionViolation)
}

// permission is a row of the table: who may publish to, or subscribe to, a subject. Nobody else may.
type permission struct {
	subject string
	roles   string
}

// publishing is the whole table, with something of every subject there is.
func publishing() []permission {
	const (
		writers = "ingest worker"
		all     = "ingest worker projector"
		clients = "app operator"
		log     = "paykit.log.charge.succeeded.chg_1.cust_1"
	)
	list := []permission{
		{log, "provision " + writers},
		{"paykit.log.customer.deleted.cust_1.cust_1", "provision " + writers},
		{"paykit.events.charge.succeeded.cust_1", ""},
		{"paykit.link.stripe.cus_1", "provision " + writers},
		{"paykit.inbox.stripe.evt_1.none", writers},
		{"paykit.profile.cust_1", "ingest"},
		{"paykit.dead.worker.1.none", writers},
		{"paykit.call.charge.chg_1.cust_1", "worker"},
		{"paykit.dead.decision.1.none", writers + " operator"},
		{"paykit.cmd.charge.create", "ingest " + clients},
		{"paykit.api.charge.create", clients},
		{"paykit.api.charge.resolve", "operator"},
		{"paykit.cmd.charge.resolve", "ingest operator"}, // whose queue takes it from nobody
		{"paykit.query.charge.get", clients},
		{"paykit.other", ""},
		{"$SRV.PING", clients},
		{"$SRV.INFO.paykit-api", clients},
		{"_INBOX_app.answer", ""},
		{"_INBOX_projector.answer", ""},
		{"_R_.answer", "ingest projector"}, // what the server makes of an app's inbox
		{"$JS.API.INFO", "provision " + clients},
		{"$JS.API.STREAM.NAMES", "provision " + clients},
		{"$JS.API.STREAM.LIST", "provision"},
		{"$JS.API.STREAM.INFO.PAYKIT_LOG", "provision " + all + " " + clients},
		{"$JS.API.STREAM.INFO.PAYKIT_PROFILES", "provision operator " + all},
		{"$JS.API.STREAM.INFO.PAYKIT_DEAD", "provision operator " + all},
		{"$JS.API.CONSUMER.INFO.PAYKIT_DEAD.worker_decisions", "provision operator " + all},
		{"$JS.API.CONSUMER.INFO.PAYKIT_DEAD.ingest_decisions", "provision operator " + all},
		{"$JS.API.DIRECT.GET.PAYKIT_LOG", "provision operator " + all},
		{"$JS.API.DIRECT.GET.PAYKIT_LOG." + log, "provision"},
		{"$JS.API.DIRECT.GET.PAYKIT_PROFILES", "provision ingest worker"},
		{"$JS.API.STREAM.INFO.PAYKIT_CALLS", "provision operator " + all},
		{"$JS.API.DIRECT.GET.PAYKIT_CALLS", "provision operator"},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_CALLS", "provision operator"},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_CALLS", "provision"},
		{"$JS.API.DIRECT.GET.PAYKIT_LINKS", "provision ingest worker operator"},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_LINKS", "provision ingest worker operator"},
		{"$JS.API.DIRECT.GET.PAYKIT_INBOX", "provision ingest worker operator"},
		{"$JS.API.DIRECT.GET.PAYKIT_COMMANDS", "provision"},
		{"$JS.API.DIRECT.GET.PAYKIT_DEAD", "provision worker operator"},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_DEAD", "provision operator " + writers},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_LOG", "provision operator " + writers},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_PROFILES", "provision " + all},
		{"$JS.API.STREAM.MSG.GET.PAYKIT_INBOX", "provision operator " + writers},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_LOG", "provision"},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_LINKS", "provision"},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_INBOX", "provision " + writers},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_PROFILES", "provision " + writers},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_COMMANDS", "provision ingest"},
		{"$JS.API.STREAM.MSG.DELETE.PAYKIT_DEAD", "provision " + writers},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_LOG.requests", "provision worker"},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_LOG.settling", "provision worker"},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_LOG.sub-receipts", "provision projector " + clients},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_INBOX.normalizer", "provision ingest"},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_COMMANDS.commands", "provision ingest"},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_DEAD.worker_decisions", "provision worker"},
		{"$JS.API.CONSUMER.MSG.NEXT.PAYKIT_DEAD.ingest_decisions", "provision ingest"},
		{"$JS.API.CONSUMER.CREATE.PAYKIT_LOG.sub-receipts", "provision projector " + clients},
		{"$JS.API.CONSUMER.CREATE.PAYKIT_LOG.sub-receipts.paykit.log.charge.>", "provision " + clients},
		{"$JS.API.CONSUMER.DURABLE.CREATE.PAYKIT_LOG.receipts", "provision " + clients},
		{"$JS.API.CONSUMER.UNPIN.PAYKIT_LOG.requests", "provision worker"},
		{"$JS.API.CONSUMER.UNPIN.PAYKIT_LOG.settling", "provision worker"},
		{"$JS.API.CONSUMER.UNPIN.PAYKIT_LOG.sub-receipts", "provision app"},
		{"$JS.API.CONSUMER.UNPIN.PAYKIT_DEAD.worker_decisions", "provision worker"},
		{"$JS.API.CONSUMER.DELETE.PAYKIT_LOG.sub-receipts", "provision operator"},
		{"$JS.ACK.PAYKIT_LOG.requests.1.1.1.1.1", "worker"},
		{"$JS.ACK.PAYKIT_LOG.settling.1.1.1.1.1", "worker"},
		{"$JS.ACK.PAYKIT_LOG.sub-receipts.1.1.1.1.1", clients},
		{"$JS.ACK.PAYKIT_INBOX.normalizer.1.1.1.1.1", "ingest"},
		{"$JS.ACK.PAYKIT_COMMANDS.commands.1.1.1.1.1", "ingest"},
		{"$JS.ACK.PAYKIT_DEAD.worker_decisions.1.1.1.1.1", "worker"},
		{"$JS.ACK.PAYKIT_DEAD.ingest_decisions.1.1.1.1.1", "ingest"},
	}
	for _, stream := range []string{"LOG", "LINKS", "INBOX", "COMMANDS", "PROFILES", "DEAD", "CALLS"} {
		for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE", "PEER.REMOVE"} {
			list = append(list, permission{"$JS.API.STREAM." + verb + ".PAYKIT_" + stream, "provision"})
		}
	}
	for _, consumer := range []string{
		"PAYKIT_LOG.requests", "PAYKIT_LOG.settling", "PAYKIT_INBOX.normalizer", "PAYKIT_COMMANDS.commands",
		"PAYKIT_DEAD.worker_decisions", "PAYKIT_DEAD.ingest_decisions",
	} {
		for _, verb := range []string{"CREATE", "DURABLE.CREATE", "DELETE", "PAUSE"} {
			list = append(list, permission{"$JS.API.CONSUMER." + verb + "." + consumer, "provision"})
		}
		stream, _, _ := strings.Cut(consumer, ".")
		list = append(list, permission{"$JS.API.CONSUMER.CREATE." + stream, "provision"})
	}
	return list
}

func subscribing() []permission {
	list := []permission{
		{"paykit.api.charge.create", "ingest"},
		{"paykit.query.charge.get", "projector"},
		{"paykit.events.>", "ingest app operator"},
		{"paykit.log.>", ""},
		{"paykit.profile.>", ""},
		{"paykit.inbox.>", ""},
		{"paykit.cmd.>", ""},
		{"paykit.dead.>", ""},
		{"paykit.call.>", ""},
		{"paykit.>", ""},
		{">", ""},
		{"$SRV.PING", "ingest projector"},
		{"$JS.API.>", ""},
		{"_INBOX.>", ""},
		{"_INBOX_cli_events.x", "operator"},
		{"_INBOX_cli.x", "operator"},
		{"_INBOX_rebuild.x", "projector"},
	}
	for _, role := range roles {
		if role != "operator" {
			list = append(list, permission{"_INBOX_" + role + ".x", role})
		}
	}
	return list
}

// TestPermissions asks for every subject and every user what the server lets through.
func TestPermissions(t *testing.T) {
	url := start(t).ClientURL() // without streams: nothing can go wrong with what is let through
	check := func(t *testing.T, p permission, do func(*nats.Conn) error) {
		t.Helper()
		for _, role := range roles {
			allowed := slices.Contains(strings.Fields(p.roles), role)
			if got := !refused(t, url, role, do); got != allowed {
				t.Errorf("%s on %s: allowed %v, want %v", role, p.subject, got, allowed)
			}
		}
	}
	t.Run("publish", func(t *testing.T) {
		for _, p := range publishing() {
			check(t, p, func(nc *nats.Conn) error { return nc.Publish(p.subject, nil) })
		}
	})
	t.Run("subscribe", func(t *testing.T) {
		for _, p := range subscribing() {
			check(t, p, func(nc *nats.Conn) error {
				_, err := nc.SubscribeSync(p.subject)
				return err
			})
		}
	})
}

func TestNobodyGetsInWithoutPassword(t *testing.T) {
	url := start(t).ClientURL()
	for name, option := range map[string]nats.Option{
		"no user":        nats.Name("nobody"),
		"wrong password": nats.UserInfo("ingest", password("worker")),
		"empty password": nats.UserInfo("ingest", ""),
	} {
		if nc, err := nats.Connect(url, option); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("%s: error %v, want it refused", name, err)
		}
	}
}
