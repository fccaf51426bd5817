package pricing

import "testing"

func TestEveryListedPriceIsPositive(t *testing.T) {
	list, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("the price list is empty")
	}
	for sku, cents := range list {
		if cents <= 0 {
			t.Errorf("%s costs %d", sku, cents)
		}
	}
}

func TestTeaHasItsPrice(t *testing.T) {
	list, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if list["TEA"] != 450 {
		t.Errorf("TEA costs %d; want 450", list["TEA"])
	}
}
