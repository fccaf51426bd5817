package cart

import (
	"testing"

	"weir/examples/checkout/internal/pricing"
)

var list = pricing.List{"TEA": 450, "COFFEE": 690}

func TestTotalAddsUpLines(t *testing.T) {
	got, err := Cart{[]Line{{"TEA", 2}, {"COFFEE", 1}}}.Total(list)
	if err != nil || got != 1590 {
		t.Errorf("Total() = %d, %v; want 1590", got, err)
	}
}

func TestWrongCartsAreRefused(t *testing.T) {
	for name, c := range map[string]Cart{
		"empty":       {},
		"unknown":     {[]Line{{"GOLD", 1}}},
		"none of it":  {[]Line{{"TEA", 0}}},
		"negative":    {[]Line{{"TEA", -1}}},
		"too many":    {[]Line{{"TEA", MaxQuantity + 1}}},
		"many lines":  {make([]Line, MaxLines+1)},
		"second line": {[]Line{{"TEA", 1}, {"GOLD", 1}}},
	} {
		if total, err := c.Total(list); err == nil {
			t.Errorf("%s: Total() = %d; want an error", name, total)
		}
	}
}
