// Package pricing knows what things cost.
package pricing

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed prices.csv
var prices string

// List holds prices in cents by SKU.
type List map[string]int64

// Read reads the price list that this version was built with.
func Read() (List, error) {
	list := List{}
	for line := range strings.Lines(prices) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		sku, price, _ := strings.Cut(line, ",")
		cents, err := strconv.ParseInt(price, 10, 64)
		if err != nil || cents < 0 || sku == "" {
			return nil, fmt.Errorf("price list: %q is not SKU,CENTS", line)
		}
		list[sku] = cents
	}
	return list, nil
}
