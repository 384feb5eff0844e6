package api

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// decodeStrict fills v, a pointer to a struct of the wire types, from exactly
// one JSON object: unknown, duplicate and mistyped members are refused by name.
func decodeStrict(text string, v any) error { return bind(&jsonReader{text: text}, v) }

// decodeLenient is decodeStrict for the routes of WIRE.md, whose clients may
// send members that we do not know.
func decodeLenient(text string, v any) error { return bind(&jsonReader{text: text, lenient: true}, v) }

func bind(r *jsonReader, v any) error {
	f := r.value(reflect.ValueOf(v).Elem())
	if f == nil {
		f = r.end()
	}
	if f != nil {
		return f.apiError()
	}
	return nil
}

func (r *jsonReader) value(v reflect.Value) *jsonFault {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return r.value(v.Elem())
	case reflect.Struct:
		return r.structure(v)
	case reflect.Map:
		return r.mapping(v)
	case reflect.String:
		s, f := r.str()
		v.SetString(s)
		return f
	case reflect.Slice:
		return r.list(v)
	case reflect.Bool:
		return r.boolean(v)
	case reflect.Int64:
		return r.integer(func(s string) (err error) {
			n, err := strconv.ParseInt(s, 10, 64)
			v.SetInt(n)
			return err
		})
	case reflect.Uint64:
		return r.integer(func(s string) (err error) {
			n, err := strconv.ParseUint(s, 10, 64)
			v.SetUint(n)
			return err
		})
	}
	panic(fmt.Sprintf("api: no JSON rule for %s", v.Type())) // a wire type grew a kind that the binder lacks
}

func (r *jsonReader) boolean(v reflect.Value) *jsonFault {
	switch {
	case r.literal("true"):
		v.SetBool(true)
	case r.literal("false"):
		v.SetBool(false)
	default:
		return r.fault("want true or false, found %s", r.found())
	}
	return nil
}

// list reads an array. One of bytes is json.RawMessage: the text of any value,
// for whoever has a reader of its own for it.
func (r *jsonReader) list(v reflect.Value) *jsonFault {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		r.next()
		start := r.at
		f := r.skip(0)
		v.SetBytes([]byte(r.text[start:r.at]))
		return f
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	return r.array(func(i int) *jsonFault {
		elem := reflect.New(v.Type().Elem()).Elem()
		if f := r.value(elem); f != nil {
			return f.under(fmt.Sprintf("[%d]", i))
		}
		v.Set(reflect.Append(v, elem))
		return nil
	})
}

// integer refuses fractions and exponents, even of whole numbers: they have
// more than one reading.
func (r *jsonReader) integer(set func(string) error) *jsonFault {
	s, f := r.number()
	if f != nil {
		return f
	}
	if err := set(s); err != nil {
		return r.fault("%s is no integer in range", quote(s))
	}
	return nil
}

func (r *jsonReader) structure(v reflect.Value) *jsonFault {
	fields := fieldsOf(v.Type())
	var seen uint64
	return r.object(func(name string) *jsonFault {
		i, known := fields[name]
		switch {
		case name == "__proto__":
			return r.fault("a member of this name is refused").under(name)
		case !known && r.lenient:
			return r.skip(0)
		case !known:
			return r.fault("unknown member").under(name)
		case seen&(1<<i) != 0:
			return r.fault("given twice").under(name)
		}
		seen |= 1 << i
		if f := r.value(v.Field(i)); f != nil {
			return f.under(name)
		}
		return nil
	})
}

func (r *jsonReader) mapping(v reflect.Value) *jsonFault {
	v.Set(reflect.MakeMap(v.Type()))
	return r.object(func(name string) *jsonFault {
		key := reflect.ValueOf(name)
		if v.MapIndex(key).IsValid() {
			return r.fault("given twice").under(name)
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if f := r.value(elem); f != nil {
			return f.under(name)
		}
		v.SetMapIndex(key, elem)
		return nil
	})
}

var fieldCache sync.Map // reflect.Type → map[string]int

// fieldsOf returns the index of each member of a struct by its JSON name.
func fieldsOf(t reflect.Type) map[string]int {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(map[string]int)
	}
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = i
		}
	}
	fieldCache.Store(t, fields)
	return fields
}
