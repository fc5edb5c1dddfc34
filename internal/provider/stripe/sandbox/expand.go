package sandbox

import "strings"

const maxExpandDepth = 4

// expandable says what kind of object a field of a kind of object holds the id of, "" when it can't be expanded.
func expandable(kind, field string) string {
	fields := map[string]map[string]string{
		"payment_intent":   {"customer": "customer", "latest_charge": "charge", "payment_method": "payment_method"},
		"setup_intent":     {"customer": "customer", "payment_method": "payment_method"},
		"payment_method":   {"customer": "customer"},
		"charge":           {"balance_transaction": "balance_transaction", "customer": "customer", "dispute": "dispute", "payment_intent": "payment_intent", "refunds": "refunds"},
		"checkout.session": {"customer": "customer", "line_items": "line_items", "payment_intent": "payment_intent", "setup_intent": "setup_intent"},
		"refund":           {"balance_transaction": "balance_transaction", "charge": "charge", "payment_intent": "payment_intent"},
		"dispute":          {"charge": "charge", "payment_intent": "payment_intent"},

		"early_fraud_warning": {"charge": "charge", "payment_intent": "payment_intent"},
		"balance_transaction": {"source": "charge"},
		"customer":            {"invoice_settings": "invoice_settings"},
		"invoice_settings":    {"default_payment_method": "payment_method"},
	}
	return fields[kind][field]
}

// kindOf is the kind of object that an operation answers with.
func kindOf(operation string) string {
	resource, verb, _ := strings.Cut(operation, ".")
	switch verb {
	case "list_payment_methods", "retrieve_payment_method":
		return "payment_method"
	case "list_line_items":
		return "line_item"
	case "list_refunds":
		return "refund"
	}
	if resource == "checkout_sessions" {
		return "checkout.session"
	}
	return strings.TrimSuffix(resource, "s")
}

// checkExpand refuses, before anything is executed, what can't be expanded.
func checkExpand(operation string, paths []string) *apiError {
	listing := strings.Contains(operation, ".list")
	for _, path := range paths {
		parts := strings.Split(path, ".")
		kind := kindOf(operation)
		if listing {
			if parts[0] != "data" {
				return badParam("", "expand", "This property cannot be expanded (%s). You may want to try expanding 'data.%s' instead.", path, path)
			}
			parts = parts[1:]
		}
		if len(parts) > maxExpandDepth {
			return badParam("", "expand", "You cannot expand more than %d levels of a property (%s).", maxExpandDepth, path)
		}
		for _, field := range parts {
			if kind = expandable(kind, field); kind == "" {
				return badParam("", "expand", "This property cannot be expanded (%s).", path)
			}
		}
	}
	return nil
}

// expanded renders v with objects in place of the ids at the given paths, which checkExpand allowed.
func (c *call) expanded(v any, paths []string) any {
	root := decodeObject(snapshot(v))
	for _, path := range paths {
		c.expandPath(root, strings.Split(path, "."))
	}
	return root
}

func (c *call) expandPath(at map[string]any, path []string) {
	if len(path) == 0 {
		return
	}
	field := path[0]
	if items, ok := at[field].([]any); ok {
		for _, item := range items {
			if object, ok := item.(map[string]any); ok {
				c.expandPath(object, path[1:])
			}
		}
		return
	}
	id, _ := at["id"].(string)
	switch value := at[field].(type) {
	case map[string]any:
		c.expandPath(value, path[1:])
		return
	case string:
		if object, ok := c.lookup(value); ok {
			at[field] = object
		}
	case nil:
		if list, ok := c.includable(id, field); ok {
			at[field] = list
		}
	}
	if object, ok := at[field].(map[string]any); ok {
		c.expandPath(object, path[1:])
	}
}

// includable renders the lists that Stripe leaves out of an object unless asked.
func (c *call) includable(id, field string) (map[string]any, bool) {
	inner := &call{Server: c.Server, id: id, params: (&form{root: &node{}, used: map[string]bool{}}).params()}
	var list any
	var err *apiError
	switch field {
	case "line_items":
		list, err = listLineItems(inner)
	case "refunds":
		list, err = listChargeRefunds(inner)
	default:
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	return decodeObject(snapshot(list)), true
}

// lookup renders any object by its id.
func (c *call) lookup(id string) (map[string]any, bool) {
	v := c.object(id)
	if v == nil {
		return nil, false
	}
	return decodeObject(snapshot(v)), true
}

// object finds any object by its id, nil when there is none. Called with mu held.
func (s *Server) object(id string) any {
	if v, ok := s.customers.find(id); ok {
		if v.deleted {
			return deletedObject{ID: v.ID, Object: v.Object, Deleted: true}
		}
		return v
	}
	if v, ok := s.methods.find(id); ok {
		return v
	}
	if v, ok := s.payments.find(id); ok {
		return v
	}
	if v, ok := s.setups.find(id); ok {
		return v
	}
	if v, ok := s.charges.find(id); ok {
		return v
	}
	if v, ok := s.refunds.find(id); ok {
		return v
	}
	if v, ok := s.disputes.find(id); ok {
		return v
	}
	if v, ok := s.warnings.find(id); ok {
		return v
	}
	if v, ok := s.balances.find(id); ok {
		return v
	}
	return nil
}
