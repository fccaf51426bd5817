package plan

import (
	"slices"
	"strings"

	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// combinations unfolds a matrix as GitHub does: the product of the rows, less what exclude matches; an include joins every
// combination whose original values it does not change, or else becomes one of its own.
func (m *maker) combinations(s *spec.Job) []*expr.Object {
	rows, include, exclude := m.rows(s)
	product := []*expr.Object{}
	if len(rows) > 0 {
		product = append(product, expr.NewObject())
	}
	for _, r := range rows {
		var next []*expr.Object
		for _, base := range product {
			for _, v := range r.values {
				if len(next) >= MaxMatrix*16 { // exclude may take some away
					m.errorf(s.Matrix.Pos, "the matrix of job %s has far more than %d combinations; make it smaller", s.ID, MaxMatrix)
					return nil
				}
				next = append(next, clone(base).Set(r.name, v))
			}
		}
		product = next
	}
	product = slices.DeleteFunc(product, func(c *expr.Object) bool {
		return slices.ContainsFunc(exclude, func(x *expr.Object) bool { return covers(c, x) })
	})
	original := len(product)
	added := make([]*expr.Object, original)
	for i := range added {
		added[i] = clone(product[i])
	}
	for _, in := range include {
		joined := false
		for i := range original {
			if len(rows) > 0 && compatible(product[i], in) {
				in.Each(func(k string, v expr.Value) { added[i].Set(k, v) })
				joined = true
			}
		}
		if !joined {
			added = append(added, clone(in))
		}
	}
	if len(added) > MaxMatrix {
		m.errorf(s.Matrix.Pos, "the matrix of job %s has %d combinations; it may have %d. Make it smaller", s.ID, len(added), MaxMatrix)
		return nil
	}
	if len(added) == 0 {
		m.errorf(s.Matrix.Pos, "the matrix of job %s has no combinations; give it values or remove it", s.ID)
	}
	return added
}

// late reports whether a matrix depends on what other jobs do, so that its jobs are made during the run.
func late(m *spec.Matrix) bool {
	return computed(m, func(name string) bool { return name == "needs" || strings.HasPrefix(name, "needs.") })
}

// computed reports whether an expression of a matrix uses a name that is asked for. One that uses none counts as a name "".
func computed(m *spec.Matrix, asked func(name string) bool) bool {
	found := false
	look := func(s string) {
		parts, _ := expr.Split(s, expr.Names{})
		for _, p := range parts {
			if p.Expr != nil {
				found = found || asked("")
				p.Expr.Uses(func(name string) { found = found || asked(name) })
			}
		}
	}
	var deep func(v any)
	deep = func(v any) {
		switch v := v.(type) {
		case string:
			look(v)
		case expr.Array:
			for _, e := range v {
				deep(e)
			}
		case *expr.Object:
			v.Each(func(_ string, e expr.Value) { deep(e) })
		}
	}
	look(m.Expr.Value)
	for _, r := range m.Rows {
		look(r.Expr.Value)
		for _, v := range r.Values {
			deep(v)
		}
	}
	for _, c := range slices.Concat(m.Include, m.Exclude) {
		look(c.Expr.Value)
		for _, v := range c.Values {
			deep(v)
		}
	}
	return found
}

type axis struct {
	name   string
	values []expr.Value
}

func (m *maker) rows(s *spec.Job) (rows []axis, include, exclude []*expr.Object) {
	env := m.env(nil)
	if t := s.Matrix.Expr; t.Value != "" {
		whole, ok := m.eval(t, env).(*expr.Object)
		if !ok {
			m.errorf(t.Pos, "the matrix of job %s is not an object; its expression must give one", s.ID)
			return
		}
		whole.Each(func(k string, v expr.Value) {
			list, ok := v.(expr.Array)
			switch {
			case !ok:
				m.errorf(t.Pos, "matrix.%s of job %s is not a list; its expression must give lists", k, s.ID)
			case k == "include":
				include = objects(list)
			case k == "exclude":
				exclude = objects(list)
			default:
				rows = append(rows, axis{k, list})
			}
		})
		return
	}
	for _, r := range s.Matrix.Rows {
		a := axis{name: r.Name}
		if r.Expr.Value != "" {
			list, ok := m.eval(r.Expr, env).(expr.Array)
			if !ok {
				m.errorf(r.Expr.Pos, "matrix.%s of job %s is not a list; its expression must give one", r.Name, s.ID)
			}
			a.values = list
		}
		for _, v := range r.Values {
			a.values = append(a.values, m.deep(v, env))
		}
		rows = append(rows, a)
	}
	return rows, m.list(s.Matrix.Include, env), m.list(s.Matrix.Exclude, env)
}

func (m *maker) list(combos []spec.Combination, env expr.Env) []*expr.Object {
	var out []*expr.Object
	for _, c := range combos {
		if c.Expr.Value != "" {
			switch v := m.eval(c.Expr, env).(type) {
			case expr.Array:
				out = append(out, objects(v)...)
			case *expr.Object:
				out = append(out, v)
			default:
				m.errorf(c.Expr.Pos, "%s is not a list of combinations", c.Expr.Value)
			}
			continue
		}
		o := expr.NewObject()
		for i, k := range c.Keys {
			o.Set(k, m.deep(c.Values[i], env))
		}
		out = append(out, o)
	}
	return out
}

func objects(a expr.Array) []*expr.Object {
	var out []*expr.Object
	for _, v := range a {
		if o, ok := v.(*expr.Object); ok {
			out = append(out, o)
		}
	}
	return out
}

// deep fills in the expressions inside a matrix value.
func (m *maker) deep(v any, env expr.Env) expr.Value {
	switch v := v.(type) {
	case string:
		return m.eval(spec.Text{Value: v}, env)
	case expr.Array:
		out := make(expr.Array, len(v))
		for i := range v {
			out[i] = m.deep(v[i], env)
		}
		return out
	case *expr.Object:
		out := expr.NewObject()
		v.Each(func(k string, e expr.Value) { out.Set(k, m.deep(e, env)) })
		return out
	}
	return v
}

func clone(o *expr.Object) *expr.Object {
	out := expr.NewObject()
	o.Each(func(k string, v expr.Value) { out.Set(k, v) })
	return out
}

// covers reports whether every value of x is in c.
func covers(c, x *expr.Object) bool {
	ok := x.Len() > 0
	x.Each(func(k string, v expr.Value) {
		have, is := c.Get(k)
		ok = ok && is && same(have, v)
	})
	return ok
}

// compatible reports whether joining in would change no value of c.
func compatible(c, in *expr.Object) bool {
	ok := true
	in.Each(func(k string, v expr.Value) {
		if have, is := c.Get(k); is && !same(have, v) {
			ok = false
		}
	})
	return ok
}

func same(a, b expr.Value) bool { return expr.JSON(a) == expr.JSON(b) }
