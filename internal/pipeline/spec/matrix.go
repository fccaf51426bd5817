package spec

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/rhysd/actionlint"

	"weir/internal/pipeline/expr"
)

func (c *checker) matrix(job string, a *actionlint.Matrix) *Matrix {
	if a == nil {
		return nil
	}
	m := &Matrix{Pos: pos(a.Pos), Expr: c.text(a.Expression)}
	for name, r := range a.Rows {
		row := Row{Name: name, Pos: m.Pos, Expr: c.text(r.Expression)}
		switch {
		case r.Name != nil:
			row.Name, row.Pos = r.Name.Value, pos(r.Name.Pos)
		case r.Expression != nil:
			row.Pos = pos(r.Expression.Pos)
		}
		for _, v := range r.Values {
			row.Values = append(row.Values, c.raw(v))
		}
		m.Rows = append(m.Rows, row)
	}
	slices.SortFunc(m.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	m.Include, m.Exclude = c.combinations(a.Include), c.combinations(a.Exclude)
	return m
}

func (c *checker) combinations(a *actionlint.MatrixCombinations) []Combination {
	if a == nil {
		return nil
	}
	if a.Expression != nil {
		return []Combination{{Expr: c.text(a.Expression)}}
	}
	var out []Combination
	for _, x := range a.Combinations {
		k := Combination{Expr: c.text(x.Expression)}
		for _, as := range byPos(x.Assigns) {
			k.Keys = append(k.Keys, as.Key.Value)
			k.Values = append(k.Values, c.raw(as.Value))
		}
		out = append(out, k)
	}
	return out
}

func byPos(m map[string]*actionlint.MatrixAssign) []*actionlint.MatrixAssign {
	var out []*actionlint.MatrixAssign
	for _, a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *actionlint.MatrixAssign) int {
		return cmp.Or(cmp.Compare(a.Key.Pos.Line, b.Key.Pos.Line), cmp.Compare(a.Key.Pos.Col, b.Key.Pos.Col))
	})
	return out
}

func (c *checker) raw(v actionlint.RawYAMLValue) any {
	switch v := v.(type) {
	case *actionlint.RawYAMLObject:
		keys := make([]string, 0, len(v.Props))
		for k := range v.Props {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int {
			pa, pb := v.Props[a].Pos(), v.Props[b].Pos()
			return cmp.Or(cmp.Compare(pa.Line, pb.Line), cmp.Compare(pa.Col, pb.Col), cmp.Compare(a, b))
		})
		o := expr.NewObject()
		for _, k := range keys {
			o.Set(k, c.raw(v.Props[k]))
		}
		return o
	case *actionlint.RawYAMLArray:
		a := make(expr.Array, 0, len(v.Elems))
		for _, e := range v.Elems {
			a = append(a, c.raw(e))
		}
		return a
	case *actionlint.RawYAMLString:
		c.text(&actionlint.String{Value: v.Value, Pos: v.Pos()})
		return scalar(v.Value)
	}
	return nil
}

// scalar gives a plain YAML scalar its type. Quotes are gone by now: "1.20" in quotes and 1.20 look alike, so a number is made
// only where nothing is lost by it; a version such as 1.20 stays the text that the author sees.
func scalar(s string) any {
	switch s {
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	case "null", "~":
		return nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && strconv.FormatFloat(f, 'f', -1, 64) == s {
		return f
	}
	return s
}
