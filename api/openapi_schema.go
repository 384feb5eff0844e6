package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// schemas makes JSON Schemas (2020-12, which OpenAPI 3.1 uses) of wire types by
// reflection, each named type once.
type schemas struct {
	named map[string]object
	types map[string]reflect.Type // by name: two types of one name would be one schema

	errors map[string]object // responses that many routes share, by name
}

func newSchemas() *schemas {
	return &schemas{named: map[string]object{}, types: map[string]reflect.Type{}, errors: map[string]object{}}
}

// shared names a response whose name says all that is in it.
func (s *schemas) shared(name string, response object) object {
	s.errors[name] = response
	return object{"$ref": "#/components/responses/" + name}
}

// of returns the schema of a value's type.
func (s *schemas) of(v any) object { return s.ofType(reflect.TypeOf(v)) }

var rawMessage = reflect.TypeFor[json.RawMessage]()

func (s *schemas) ofType(t reflect.Type) object {
	switch {
	case t == rawMessage:
		return object{} // any JSON
	case t.Kind() == reflect.Struct && t.NumField() == 0:
		return object{"type": "object"}
	case t.Kind() == reflect.Struct:
		return s.reference(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.ofType(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": s.ofType(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.ofType(t.Elem())}
	case reflect.Interface:
		return object{}
	}
	panic(fmt.Sprintf("api: no schema for %s", t)) // a wire type grew a kind that the document lacks
}

// reference names a struct's schema and makes it when it is met first.
func (s *schemas) reference(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if have, met := s.types[name]; met && have != t {
		panic(fmt.Sprintf("api: %s and %s would be one schema", have, t))
	} else if !met {
		s.types[name] = t
		s.named[name] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// structure lists the members of a struct. One that is always printed is
// required, and where it may be nothing, may be null.
func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	s.members(t, properties, &required)
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s *schemas) members(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			s.members(f.Type, properties, required)
			continue
		case name == "-" || !f.IsExported() || name == "":
			continue
		}
		schema := s.ofType(f.Type)
		if strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") {
			properties[name] = schema
			continue
		}
		*required = append(*required, name)
		if f.Type.Kind() == reflect.Pointer {
			schema = object{"anyOf": []object{schema, {"type": "null"}}}
		}
		properties[name] = schema
	}
}
