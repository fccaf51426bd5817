package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Value is nil, bool, float64, string, Array or *Object. Nothing else is ever produced or accepted.
type Value = any

// Array is an ordered list of values.
type Array []Value

// Object maps keys to values. It keeps the order of insertion and finds keys in any case, as GitHub does.
type Object struct {
	keys  []string
	vals  []Value
	index map[string]int
}

// NewObject returns an empty object.
func NewObject() *Object { return &Object{index: map[string]int{}} }

// Set adds or replaces key and returns o, so that calls can be chained.
func (o *Object) Set(key string, v Value) *Object {
	fold := strings.ToLower(key)
	if i, ok := o.index[fold]; ok {
		o.vals[i] = v
		return o
	}
	o.index[fold] = len(o.keys)
	o.keys, o.vals = append(o.keys, key), append(o.vals, v)
	return o
}

// Get returns the value of key, in any case; nil if o is nil or has no such key.
func (o *Object) Get(key string) (Value, bool) {
	if o == nil {
		return nil, false
	}
	if i, ok := o.index[strings.ToLower(key)]; ok {
		return o.vals[i], true
	}
	return nil, false
}

// Len is the number of keys.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.keys)
}

// Each calls f for every key in order.
func (o *Object) Each(f func(key string, v Value)) {
	if o == nil {
		return
	}
	for i, k := range o.keys {
		f(k, o.vals[i])
	}
}

// From converts plain Go data (as encoding/json makes it) to a Value.
func From(v any) Value {
	switch v := v.(type) {
	case nil, bool, float64, string, Array, *Object:
		return v
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case json.Number:
		f, _ := v.Float64()
		return f
	case []any:
		a := make(Array, len(v))
		for i := range v {
			a[i] = From(v[i])
		}
		return a
	case []string:
		a := make(Array, len(v))
		for i := range v {
			a[i] = v[i]
		}
		return a
	case map[string]string:
		o := NewObject()
		for _, k := range sortedKeys(v) {
			o.Set(k, v[k])
		}
		return o
	case map[string]any:
		o := NewObject()
		for _, k := range sortedKeys(v) {
			o.Set(k, From(v[k]))
		}
		return o
	}
	return fmt.Sprint(v)
}

// ParseJSON decodes one JSON document, keeping the order of keys.
func ParseJSON(s string) (Value, error) {
	if strings.TrimSpace(s) == "" {
		return nil, fmt.Errorf("empty input")
	}
	var syntax json.RawMessage
	if err := json.Unmarshal([]byte(s), &syntax); err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	return decode(d, 0)
}

const maxDepth = 100

func decode(d *json.Decoder, depth int) (Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '[' {
			a := make(Array, 0, 1) // room for one, so that even empty arrays differ in identity
			for d.More() {
				v, err := decode(d, depth+1)
				if err != nil {
					return nil, err
				}
				a = append(a, v)
			}
			_, err := d.Token()
			return a, err
		}
		o := NewObject()
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decode(d, depth+1)
			if err != nil {
				return nil, err
			}
			// Of keys that differ in case the first stays; of keys that are the same the last.
			name := k.(string)
			if i, taken := o.index[strings.ToLower(name)]; !taken || o.keys[i] == name {
				o.Set(name, v)
			}
		}
		_, err := d.Token()
		return o, err
	case json.Number:
		f, err := t.Float64()
		if math.IsInf(f, 0) {
			err = nil
		}
		return f, err
	default:
		return tok, nil
	}
}

// Kind names the type of v as GitHub's messages do.
func Kind(v Value) string {
	switch v.(type) {
	case nil:
		return "Null"
	case bool:
		return "Boolean"
	case float64:
		return "Number"
	case string:
		return "String"
	case Array, filtered:
		return "Array"
	case *Object:
		return "Object"
	}
	return fmt.Sprintf("%T", v)
}

// Truthy is false for null, false, 0, NaN and the empty string.
func Truthy(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	}
	return true
}

// String coerces v to a string as interpolation does: arrays and objects become their type's name.
func String(v Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return formatNumber(v)
	case string:
		return v
	}
	return Kind(v)
}

// Number coerces v to a number; what is not a number becomes NaN.
func Number(v Value) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		return parseNumber(strings.TrimSpace(v))
	}
	return math.NaN()
}

func formatNumber(f float64) string {
	switch {
	case f == 0:
		return "0"
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	// Fifteen significant digits, exponent only where it is shorter to read.
	s := strconv.FormatFloat(f, 'g', 15, 64)
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		g, _ := strconv.ParseFloat(s, 64)
		return strconv.FormatFloat(g, 'f', -1, 64)
	}
	mant, exp, ok := strings.Cut(s, "e")
	if !ok {
		return s
	}
	sign := exp[:1]
	if exp = strings.TrimLeft(exp[1:], "0"); exp == "" {
		exp = "0"
	}
	return mant + "e" + sign + exp
}

func parseNumber(s string) float64 {
	switch s {
	case "":
		return 0
	case "Infinity", "+Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	base := 0
	if strings.HasPrefix(s, "0x") {
		base = 16
	} else if strings.HasPrefix(s, "0o") {
		base = 8
	}
	if base != 0 {
		n, err := strconv.ParseUint(s[2:], base, 64)
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	}
	for _, c := range s { // strconv also takes "inf", "1_000" and hexadecimal floats
		if !strings.ContainsRune("0123456789+-.eE", c) {
			return math.NaN()
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

// JSON renders v with two spaces of indentation, as toJSON does.
func JSON(v Value) string {
	var b strings.Builder
	writeJSON(&b, v, "")
	return b.String()
}

func writeJSON(b *strings.Builder, v Value, indent string) {
	in := indent + "  "
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case string:
		writeString(b, v)
	case filtered:
		writeJSON(b, Array(v), indent)
	case Array:
		if len(v) == 0 {
			b.WriteString("[]")
			return
		}
		for i, e := range v {
			b.WriteString(map[bool]string{true: "[\n", false: ",\n"}[i == 0] + in)
			writeJSON(b, e, in)
		}
		b.WriteString("\n" + indent + "]")
	case *Object:
		if v.Len() == 0 {
			b.WriteString("{}")
			return
		}
		for i, k := range v.keys {
			b.WriteString(map[bool]string{true: "{\n", false: ",\n"}[i == 0] + in)
			writeString(b, k)
			b.WriteString(": ")
			writeJSON(b, v.vals[i], in)
		}
		b.WriteString("\n" + indent + "}")
	case float64:
		b.WriteString(jsonNumber(v))
	default:
		b.WriteString(String(v))
	}
}

// jsonNumber writes a number with all its digits; JSON has no word for NaN and infinity.
func jsonNumber(f float64) string {
	if f == 0 {
		return "0"
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "null"
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	mant, exp, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	return mant + "e" + exp[:1] + strings.TrimLeft(exp[1:], "0")
}

func writeString(b *strings.Builder, s string) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	b.Write(bytes.TrimRight(buf.Bytes(), "\n"))
}
