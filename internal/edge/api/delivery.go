package api

import "github.com/danielgtaylor/huma/v2"

// Delivery is what the API calls of the deploy layer.
type Delivery interface{}

func (s *server) delivery(huma.API) {}
