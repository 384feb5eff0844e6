package crypto

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCanonicalJSONGolden(t *testing.T) {
	for _, v := range loadGolden(t).JSON {
		got, err := CanonicalJSON([]byte(v.Input))
		if err != nil {
			t.Errorf("%s: %v", v.Input, err)
			continue
		}
		if string(got) != v.Output || hex.EncodeToString(got) != v.OutputUtf8Hex || Sum(got).String() != v.Sha256 {
			t.Errorf("%s:\n got %s\nwant %s", v.Input, got, v.Output)
		}
	}
}

// Cases beyond the vectors; the right sides are what Node prints.
func TestCanonicalJSON(t *testing.T) {
	for in, want := range map[string]string{
		"null": "null", " true\n": "true", "\t-0.0\r\n": "0", `"x"`: `"x"`, "[]": "[]", "{}": "{}", "[ ]": "[]", "{ }": "{}",
		"1e400": "null", "[-1e400]": "[null]", "1e-400": "0", "-1e-400": "0", "-1E+2": "-100",
		"1e20": "100000000000000000000", "1e21": "1e+21", "1e-6": "0.000001", "9.99e-7": "9.99e-7", "1e-10": "1e-10", "1.5e-8": "1.5e-8",
		"1e100": "1e+100", "1e-100": "1e-100", "123e-20": "1.23e-18", "9007199254740993": "9007199254740992",
		"18014398509481985": "18014398509481984", "0.1e1": "1", "100000000000000000000000": "1e+23", "4.35": "4.35", "2e-324": "0",
		"3e-324": "5e-324", "999999999999999900000": "999999999999999900000",
		`"\u00e9\/\u2028"`: "\"é/\u2028\"", `"\uD83D\uDE00"`: `"😀"`, `"\ud83d"`: `"\ud83d"`, `"\uDE00\ud83d"`: `"\ude00\ud83d"`,
		`"\ud83d\ud83d\ude00"`: `"\ud83d😀"`, `"\ud83dx"`: `"\ud83dx"`, `"\ud83d\n"`: `"\ud83d\n"`, `"\u007f\u0000\u001f"`: "\"\x7f\\u0000\\u001f\"",
		`"\ufffd"`: "\"\ufffd\"", `"\uFFFF"`: "\"\uffff\"",
		`{"a":{"2":1,"1":{"b":1,"0":2}},"1":[],"":0}`:            `{"1":[],"a":{"1":{"0":2,"b":1},"2":1},"":0}`,
		`{"1":1,"b":2,"1":3,"b":4}`:                              `{"1":3,"b":4}`,
		`{"4294967295":1,"00":2,"4294967294":3,"1e0":4}`:         `{"4294967294":3,"4294967295":1,"00":2,"1e0":4}`,
		`{"12345678901":1,"0":2}`:                                `{"0":2,"12345678901":1}`,
		`{"__proto__":1,"a":2}`:                                  `{"__proto__":1,"a":2}`,
		`{"\u0061":1,"a":2}`:                                     `{"a":2}`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64):        strings.Repeat("[", 64) + strings.Repeat("]", 64),
		strings.Repeat("[", 63) + "{}" + strings.Repeat("]", 63): strings.Repeat("[", 63) + "{}" + strings.Repeat("]", 63),
	} {
		got, err := CanonicalJSON([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", in, got, err, want)
		}
	}
}

func TestCanonicalJSONRefused(t *testing.T) {
	for _, bad := range []string{
		"", " ", "nul", "nulll", "True", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "NaN", "Infinity", "1 2", "-01",
		`"`, `"a`, "\"\n\"", "\"a\\\"", `"\x"`, `"\u12"`, `"\u12g4"`, `"\U0041"`, "\"\x00\"", `"\`, `"\u`, "\"\\n\x01\"",
		"[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "}", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{1:1}`,
		`{"a" 1}`, `{"a":1 "b":2}`, `{,}`, "{]", "[}", "\ufeff1", "1\x00", "\x00", "'a'", "// c\n1", "\v1", "\u00a01",
		"\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", strings.Repeat("[", 65) + strings.Repeat("]", 65),
		strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), strings.Repeat("[", 1_000_000),
	} {
		if got, err := CanonicalJSON([]byte(bad)); err == nil || got != nil {
			t.Errorf("accepted %.40q as %s", bad, got)
		} else if len(err.Error()) > 200 {
			t.Errorf("long error for %.40q: %.300s", bad, err)
		}
	}
}

// Numbers: what is printed reads back to the same double, and agrees with encoding/json, which follows the same rule
// of ECMA-262 but for negative zero.
func TestJSONNumberRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
		if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 {
			return
		}
		got := string(appendJSONNumber(nil, f))
		back, err := strconv.ParseFloat(got, 64)
		if err != nil || back != f {
			t.Fatalf("%v printed %s, read back %v, %v", f, got, back, err)
		}
		if foreign, _ := json.Marshal(f); string(foreign) != got {
			t.Fatalf("%v printed %s, encoding/json prints %s", f, got, foreign)
		}
	})
	for f, want := range map[float64]string{
		math.Inf(1): "null", math.NaN(): "null", math.Copysign(0, -1): "0", -1: "-1", 1 << 53: "9007199254740992",
		1e21: "1e+21", 1e-7: "1e-7", -1.5e-9: "-1.5e-9", 123456789.125: "123456789.125",
	} {
		if got := string(appendJSONNumber(nil, f)); got != want {
			t.Errorf("%v printed %s", f, got)
		}
	}
}

// Strings: any valid Go string reads back as itself, through our reader and through encoding/json.
func TestJSONStringRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		text := AppendJSONString(nil, s)
		var back string
		if err := json.Unmarshal(text, &back); err != nil || back != s {
			t.Fatalf("%q printed %s, encoding/json reads %q, %v", s, text, back, err)
		}
		scanner, err := newJSONScanner(text)
		if err != nil {
			t.Fatal(err)
		}
		if back, err = scanner.str(); err != nil || back != s {
			t.Fatalf("%q printed %s, read %q, %v", s, text, back, err)
		}
	})
	for s, want := range map[string]string{
		"":             `""`,
		"a\xffb":       "\"a\ufffdb\"",
		"\xed\xa0\x80": `"\ud800"`,
		"\xed\xbf\xbf": `"\udfff"`,
		"\xed\xa0":     "\"\ufffd\ufffd\"",
		"\ufffd":       "\"\ufffd\"",
		"\xed\x9f\xbf": "\"\ud7ff\"",
	} {
		if got := string(AppendJSONString(nil, s)); got != want {
			t.Errorf("%q printed %s, want %s", s, got, want)
		}
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, v := range loadGolden(f).JSON {
		f.Add([]byte(v.Input))
	}
	f.Add([]byte(`{"a":[1e400,-0,"\ud83d\ud83d\ude00",{"1":null}],"0":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := CanonicalJSON(text)
		if (err == nil) != json.Valid(text) && utf8.Valid(text) && shallow(text) {
			t.Fatalf("we say %v, encoding/json says valid: %v", err, json.Valid(text))
		}
		if err != nil {
			return
		}
		twice, err := CanonicalJSON(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
		if !json.Valid(once) {
			t.Fatalf("%s is not JSON", once)
		}
	})
}

// shallow reports whether text cannot be too deep for us.
func shallow(text []byte) bool {
	return bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) <= jsonDepth
}

func BenchmarkAppendJSONString(b *testing.B) {
	for name, s := range map[string]string{
		"ascii": strings.Repeat("outputs do not match ", 10),
		"mixed": strings.Repeat("outputs don't match — \"replayed\" <html>\n", 5),
	} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 2*len(s))
			b.ReportAllocs()
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				dst = AppendJSONString(dst[:0], s)
			}
		})
	}
}

func BenchmarkCanonicalJSON(b *testing.B) {
	text := []byte(loadGolden(b).RequestSigning.Valid[0].Body)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := CanonicalJSON(text); err != nil {
			b.Fatal(err)
		}
	}
}
