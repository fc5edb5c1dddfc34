package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `  bash:  source <(paykit completion bash)
  zsh:   source <(paykit completion zsh)
  fish:  paykit completion fish | source`
}

func (c completionCmd) Run(a *app) error {
	words := map[string]string{}
	collect(a.model.Node, "", words)
	switch c.Shell {
	case "fish":
		return a.fish(words)
	case "zsh":
		fmt.Fprint(a.out, "autoload -U +X bashcompinit && bashcompinit\n")
	}
	return a.bash(words)
}

// collect gathers, for each command path ("customer sync"), the words that may follow it.
func collect(n *kong.Node, path string, words map[string]string) {
	var list []string
	for _, child := range n.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			list = append(list, child.Name)
			collect(child, strings.TrimSpace(path+" "+child.Name), words)
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, flag := range group {
			list = append(list, "--"+flag.Name)
		}
	}
	words[path] = strings.Join(list, " ")
}

func (a *app) bash(words map[string]string) error {
	var b strings.Builder
	b.WriteString("_paykit() {\n  local path=\"\" word\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n" +
		"    [[ $word == -* ]] && continue\n    case \"${path:+$path }$word\" in\n")
	for path := range words {
		if path != "" {
			fmt.Fprintf(&b, "      %q) path=%q ;;\n", path, path)
		}
	}
	b.WriteString("    esac\n  done\n  local list=\"\"\n  case \"$path\" in\n")
	for path, list := range words {
		fmt.Fprintf(&b, "    %q) list=%q ;;\n", path, list)
	}
	b.WriteString("  esac\n  COMPREPLY=($(compgen -W \"$list\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _paykit paykit\n")
	_, err := fmt.Fprint(a.out, b.String())
	return err //nolint:wrapcheck // writing to standard output
}

func (a *app) fish(words map[string]string) error {
	var b strings.Builder
	b.WriteString("function __paykit_path\n  set -l words (commandline -opc | string match -v -- '-*')\n  echo (string join ' ' $words[2..-1])\nend\n")
	for path, list := range words {
		for word := range strings.FieldsSeq(list) {
			if name, flag := strings.CutPrefix(word, "--"); flag {
				fmt.Fprintf(&b, "complete -c paykit -n 'string match -q -- %q (__paykit_path)*' -l %s\n", path, name)
				continue
			}
			fmt.Fprintf(&b, "complete -c paykit -f -n 'test (__paykit_path) = %q' -a %s\n", path, word)
		}
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err //nolint:wrapcheck // writing to standard output
}
