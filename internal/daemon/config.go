package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
)

// NATS says where the broker is and which installation on it is ours.
type NATS struct {
	URL    string `name:"nats-url" env:"NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS server, or several separated by commas (${env})."`
	Creds  string `name:"nats-creds" env:"NATS_CREDS" type:"path" help:"NATS credentials file (${env})."`
	Prefix string `name:"prefix" env:"PAYKIT_PREFIX" default:"paykit" help:"First token of every subject and, in upper case, of every stream's name (${env})."`
	Env    string `name:"env" env:"PAYKIT_ENV" help:"Name of this environment in the provider's metadata; default: the random one that provision wrote (${env})."`
}

// Logging says how a process logs.
type Logging struct {
	LogLevel  string `name:"log-level" env:"PAYKIT_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"Least level to log: debug, info, warn or error (${env})."`
	LogFormat string `name:"log-format" env:"PAYKIT_LOG_FORMAT" default:"json" enum:"json,text" help:"json for programs, text for people (${env})."`
}

// StripeAPI is the worker's way to Stripe. The key is never a flag: flags show in process listings.
type StripeAPI struct {
	Base        string        `name:"stripe-api-base" env:"STRIPE_API_BASE" default:"https://api.stripe.com" help:"Base URL of Stripe's API, or of a sandbox (${env})."`
	Rate        float64       `name:"stripe-rate" env:"PAYKIT_STRIPE_RATE" default:"80" help:"Most calls per second; Stripe allows 100 in live mode and 25 in test mode (${env})."`
	ReviewAfter time.Duration `name:"review-after" env:"PAYKIT_REVIEW_AFTER" default:"24h" help:"How long a charge may stay in doubt before a person is asked to look (${env})."`
	Key         string        `kong:"-"` // STRIPE_API_KEY or STRIPE_API_KEY_FILE

	KeyFile string `kong:"-"` // STRIPE_API_KEY_FILE, if the key came from there: it is watched
}

// ConfigFiles is the way every process finds its settings: flag > environment > file > default. The file is JSON, its
// keys are the flags' names.
func ConfigFiles() kong.Option { return kong.Configuration(configFile, "/etc/paykit/config.json") }

// configFile reads a file of settings. Kong itself would let the file win over the environment.
func configFile(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
	if err := json.NewDecoder(r).Decode(&values); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, env := range flag.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil
			}
		}
		return values[flag.Name], nil
	}), nil
}

// Secret reads a secret from the environment variable name, or from the file that name_FILE names. One that is
// missing or empty is an error that says what to set.
func Secret(getenv func(string) string, name string) (string, error) {
	value, path := getenv(name), getenv(name+"_FILE")
	switch {
	case value != "" && path != "":
		return "", fmt.Errorf("both %s and %s_FILE are set: unset one", name, name)
	case path != "":
		return readSecret(name, path)
	case value == "":
		return "", fmt.Errorf("%s is not set: set it, or %s_FILE to a file that holds it", name, name)
	}
	return value, oneWord(name, value)
}

// readSecret reads the secret name out of a file. A line break at the file's end does not belong to it.
func readSecret(name, path string) (string, error) {
	b, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	value := strings.TrimRight(string(b), "\r\n")
	if value == "" {
		return "", fmt.Errorf("%s_FILE: %s is empty", name, path)
	}
	return value, oneWord(name, value)
}

func oneWord(name, value string) error {
	if strings.ContainsFunc(value, unicode.IsSpace) {
		return fmt.Errorf("%s holds white space: remove it", name)
	}
	return nil
}

// WebhookSecrets reads STRIPE_WEBHOOK_SECRETS: one or more signing secrets separated by commas, none empty. An empty
// secret would accept deliveries that anybody signed.
func WebhookSecrets(getenv func(string) string) ([]string, error) {
	value, err := Secret(getenv, webhookSecrets)
	if err != nil {
		return nil, err
	}
	return splitSecrets(value)
}

// The variables of secrets.
const (
	webhookSecrets = "STRIPE_WEBHOOK_SECRETS" //nolint:gosec // G101: a variable's name
	apiKey         = "STRIPE_API_KEY"         //nolint:gosec // G101: a variable's name
)

func splitSecrets(value string) ([]string, error) {
	secrets := strings.Split(value, ",")
	for i, s := range secrets {
		if s == "" {
			return nil, fmt.Errorf("%s: secret %d of %d is empty", webhookSecrets, i+1, len(secrets))
		}
	}
	return secrets, nil
}

// errPortTaken marks a listen address that somebody else has.
var errPortTaken = errors.New("is taken")

// Listen opens a TCP address. flag is named in the error when another program has the port.
func Listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		if strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("address %s %w by another program: stop it, or choose another with %s", addr, errPortTaken, flag)
		}
		return nil, fmt.Errorf("listen on %s: %w (change it with %s)", addr, err, flag)
	}
	return l, nil
}
