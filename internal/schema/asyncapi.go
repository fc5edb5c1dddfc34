package schema

import (
	_ "embed"
	"fmt"
	"maps"
	"strings"
)

//go:embed asyncapi.json
var asyncapi []byte

const (
	filesFolder  = "../internal/schema/files/" // as docs/asyncapi.yaml names them
	localRef     = "#/$defs/"
	componentRef = "#/components/schemas/"
)

// AsyncAPI is docs/asyncapi.yaml as one document: the schemas that it refers to are in its components.
func (c *Catalog) AsyncAPI() (map[string]any, error) {
	var doc map[string]any
	if err := decode(asyncapi, &doc); err != nil {
		return nil, fmt.Errorf("the AsyncAPI document: %w", err)
	}
	components, _ := doc["components"].(map[string]any)
	schemas, ok := components["schemas"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the AsyncAPI document: %w", errNoComponents)
	}
	moved, _ := rewritten(doc, func(ref string) string {
		path, inFile := strings.CutPrefix(ref, filesFolder)
		file, definition, _ := strings.Cut(path, ".json"+localRef)
		if !inFile {
			return ref
		}
		return componentRef + file + "." + definition
	}).(map[string]any)
	all := maps.Clone(schemas)
	for file, content := range c.files {
		defs, _ := content["$defs"].(map[string]any)
		for name, def := range defs {
			all[file+"."+name] = rewritten(def, func(ref string) string {
				return strings.Replace(ref, localRef, componentRef+file+".", 1)
			})
		}
	}
	if into, ok := moved["components"].(map[string]any); ok {
		into["schemas"] = all
	}
	return moved, nil
}

// rewritten is a document with its references changed.
func rewritten(v any, change func(string) string) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, one := range v {
			list[i] = rewritten(one, change)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, one := range v {
			if ref, ok := one.(string); ok && key == "$ref" {
				m[key] = change(ref)
				continue
			}
			m[key] = rewritten(one, change)
		}
		return m
	}
	return v
}
