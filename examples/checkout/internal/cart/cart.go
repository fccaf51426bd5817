// Package cart adds up what a customer buys.
package cart

import (
	"fmt"

	"weir/examples/checkout/internal/pricing"
)

// Limits of one cart.
const (
	MaxLines    = 100
	MaxQuantity = 1000
)

// Cart is what a customer wants.
type Cart struct {
	Lines []Line `json:"lines"`
}

// Line is some of one thing.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Total adds up a cart, in cents.
func (c Cart) Total(list pricing.List) (int64, error) {
	if len(c.Lines) == 0 {
		return 0, fmt.Errorf("the cart is empty")
	}
	if len(c.Lines) > MaxLines {
		return 0, fmt.Errorf("a cart has at most %d lines", MaxLines)
	}
	var total int64
	for _, l := range c.Lines {
		price, ok := list[l.SKU]
		if !ok {
			return 0, fmt.Errorf("there is no %q", l.SKU)
		}
		if l.Quantity < 1 || l.Quantity > MaxQuantity {
			return 0, fmt.Errorf("the quantity of %s must be from 1 to %d", l.SKU, MaxQuantity)
		}
		total += price * l.Quantity
	}
	return total, nil
}
